//! What an event can be found by, as a number of 64 bits.
//!
//! A key is short, so that an entry is; two terms may have the same one, and whoever asks looks at the event itself. The numbers are even over all keys,
//! which filters and trees rest on, and cannot be foreseen by who chooses ids and names: the seed comes from the store's own randomness.

use chainring_format::metadata::Mention;
use chainring_format::{EventId, StreamId};

/// What an event can be found by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Term<'a> {
    /// Its own id.
    Id(EventId),
    /// Its stream.
    Stream(StreamId),
    /// Something it names.
    Mention(Mention<'a>),
    /// That it is the first of its stream.
    Birth,
}

/// Makes keys of terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    seed: [u8; 16],
}

impl Keys {
    pub(crate) fn new(seed: [u8; 16]) -> Keys {
        Keys { seed }
    }

    pub(crate) fn seed(&self) -> [u8; 16] {
        self.seed
    }

    /// The key of a term.
    pub(crate) fn of(&self, term: &Term<'_>) -> u64 {
        match term {
            Term::Id(id) => self.mixer(1).hash_id(&id.0),
            Term::Stream(stream) => self.mixer(2).hash_id(&stream.0),
            Term::Birth => self.mixer(12).hash_id(&[0; 16]),
            Term::Mention(mention) => match mention {
                Mention::Type(name) => self.mixer(3).hash_text(name),
                Mention::Actor(name) => self.mixer(4).hash_text(name),
                Mention::OnBehalfOf(name) => self.mixer(5).hash_text(name),
                Mention::Correlation(name) => self.mixer(6).hash_text(name),
                Mention::Causation(id) => self.mixer(7).hash_id(&id.0),
                Mention::Authority(name) => self.mixer(8).hash_text(name),
                Mention::AuthorityEvent(id) => self.mixer(9).hash_id(&id.0),
                Mention::Reads(stream, _) | Mention::Checked(stream, _) => self.mixer(10).hash_text(stream),
                Mention::Compensates(id) => self.mixer(11).hash_id(&id.0),
                Mention::Class(class) => self.mixer(13).hash_id(&[*class as u8; 16]),
            },
        }
    }

    fn mixer(&self, kind: u64) -> Mixer {
        let seed = u128::from_le_bytes(self.seed);
        Mixer { seed: (seed as u64).wrapping_add(kind.wrapping_mul(0xD6E8_FEB8_6659_FD93)), second: (seed >> 64) as u64 }
    }
}

/// Hashes ids of 16 bytes, and names, seeded: callers choose them, and must not be able to choose what collides.
///
/// A multiplication of two 64-bit halves to 128 bits, folded, twice; the idea is that of wyhash (Wang Yi, public domain).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer {
    seed: u64,
    second: u64,
}

impl Mixer {
    pub(crate) fn new(seed: u64) -> Mixer {
        Mixer { seed, second: seed.rotate_left(32) }
    }

    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    }

    /// Folds 16 bytes into what was folded before.
    fn fold_in(self, state: u64, block: &[u8; 16]) -> u64 {
        let whole = u128::from_le_bytes(*block);
        Mixer::fold(whole as u64 ^ state, (whole >> 64) as u64 ^ self.second ^ state.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15)
    }

    fn hash_text(self, text: &str) -> u64 {
        let (blocks, rest) = text.as_bytes().as_chunks();
        let state = blocks.iter().fold(self.seed, |state, block| self.fold_in(state, block));
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let state = self.fold_in(state, &last);
        // The length tells a text from itself with zeros behind it.
        Mixer::fold(state ^ 0xE703_7ED1_A0B4_28DB ^ text.len() as u64, state.rotate_left(29) ^ self.second ^ 0x8EBC_6AF0_9C88_C6E3)
    }

    pub(crate) fn hash_id(self, id: &[u8; 16]) -> u64 {
        let whole = u128::from_le_bytes(*id);
        let (low, high) = (whole as u64, (whole >> 64) as u64);
        let once = Mixer::fold(low ^ self.seed, high ^ self.second ^ 0x9E37_79B9_7F4A_7C15);
        Mixer::fold(once ^ 0xE703_7ED1_A0B4_28DB, once.rotate_left(29) ^ 0x8EBC_6AF0_9C88_C6E3)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_name_has_another_key_in_every_role_and_under_every_seed() {
        let terms = [
            Term::Id(EventId([1; 16])),
            Term::Stream(StreamId([1; 16])),
            Term::Mention(Mention::Type("a")),
            Term::Mention(Mention::Actor("a")),
            Term::Mention(Mention::OnBehalfOf("a")),
            Term::Mention(Mention::Correlation("a")),
            Term::Mention(Mention::Causation(EventId([1; 16]))),
            Term::Mention(Mention::Authority("a")),
            Term::Mention(Mention::AuthorityEvent(EventId([1; 16]))),
            Term::Mention(Mention::Reads("a", 1)),
            Term::Mention(Mention::Compensates(EventId([1; 16]))),
            Term::Birth,
        ];
        let seeds = [Keys::new([0; 16]), Keys::new([1; 16])];
        let all: HashSet<u64> = seeds.iter().flat_map(|keys| terms.iter().map(|term| keys.of(term))).collect();
        assert_eq!(all.len(), 2 * terms.len());
        let read = |mention| seeds[0].of(&Term::Mention(mention));
        assert_eq!(read(Mention::Reads("a", 1)), read(Mention::Reads("a", 2)), "a stream that was read is found whatever version was read");
        assert_eq!(read(Mention::Reads("a", 1)), read(Mention::Checked("a", 1)), "and whatever it was read for");
    }

    #[test]
    fn keys_are_even_over_their_range() {
        let keys = Keys::new([7; 16]);
        let (mut by_id, mut by_name) = ([0; 16], [0; 16]);
        for n in 0..16_000_u64 {
            by_id[(keys.of(&Term::Id(EventId(u128::from(n).to_le_bytes()))) >> 60) as usize] += 1;
            by_name[(keys.of(&Term::Mention(Mention::Reads(&format!("a stream with number {n}"), 0))) >> 60) as usize] += 1;
        }
        assert!(by_id.iter().chain(&by_name).all(|count| (850..1150).contains(count)), "{by_id:?} {by_name:?}");
    }

    #[test]
    fn names_that_are_alike_have_keys_that_are_not() {
        let keys = Keys::new([3; 16]);
        let names = (0..200).flat_map(|length| ["\0", "a", "ab"].map(|part| part.repeat(length)));
        let names: HashSet<String> = names.collect();
        let all: HashSet<u64> = names.iter().map(|name| keys.of(&Term::Mention(Mention::Type(name)))).collect();
        assert_eq!(all.len(), names.len());
    }
}
