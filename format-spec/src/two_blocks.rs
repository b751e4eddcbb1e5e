//! SHA-256 of messages that fill two blocks with their padding, as every leaf and every node of the tree does (FORMAT.md sections 7.2 and 7.6).
//!
//! What pads them stands at a fixed place, so a hasher that takes messages of any length would only cost more.

use crate::hash::Hash;
#[cfg(target_arch = "x86_64")]
use crate::sha_pair;

/// Two blocks, padded.
pub(crate) type Message = [[u8; 64]; 2];

/// Initial hash value of SHA-256 (FIPS 180-4, 5.3.3).
pub(crate) const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A message of a tag and `bytes` bytes behind it, 63 to 118 of them, which are still to be filled in (FIPS 180-4, 5.1.1).
#[inline]
pub(crate) const fn padding(bytes: usize) -> Message {
    assert!(bytes >= 63 && bytes <= 118, "one block less, or one more");
    let mut message = [[0; 64]; 2];
    message[(bytes + 1) / 64][(bytes + 1) % 64] = 0x80;
    let bits = (8 * (bytes as u16 + 1)).to_be_bytes();
    [message[1][62], message[1][63]] = bits;
    message
}

/// Hash of a message.
pub(crate) fn one(message: &Message) -> Hash {
    let mut state = START;
    sha2::compress256(&mut state, &message.map(Into::into));
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

/// Hashes of two, in half the time if the processor can do them side by side.
pub(crate) fn two(messages: [&Message; 2]) -> [Hash; 2] {
    #[cfg(target_arch = "x86_64")]
    if let Some(hashes) = sha_pair::two(messages) {
        return hashes;
    }
    messages.map(one)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn both_ways_give_what_any_sha_256_gives() {
        let bytes: Vec<u8> = (0..1000).map(|n| (n * 7 % 251) as u8).collect();
        let plain = |tag: u8, bytes: &[u8]| -> Hash { Sha256::new().chain_update([tag]).chain_update(bytes).finalize().into() };
        let message = |tag: u8, bytes: &[u8]| {
            let mut message = padding(bytes.len());
            let flat = message.as_flattened_mut();
            flat[0] = tag;
            flat[1..=bytes.len()].copy_from_slice(bytes);
            message
        };
        for at in 0..800 {
            let (a, b) = (&bytes[at..at + 63 + at % 56], &bytes[at + 50..at + 114]);
            let messages = [message(0, a), message(1, b)];
            let right = [plain(0, a), plain(1, b)];
            assert_eq!(messages.map(|message| one(&message)), right, "{at}");
            assert_eq!(two([&messages[0], &messages[1]]), right);
            assert_eq!(two([&messages[1], &messages[0]]), [right[1], right[0]]);
        }
    }
}
