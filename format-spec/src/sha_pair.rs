//! SHA-256 of two messages side by side, by the processor's own instructions.
//!
//! Two rounds take four cycles until their result can be gone on from, and two until the next can begin. The rounds of one message follow each other, so
//! one message leaves half of the unit idle. How rounds and message schedule are put on these instructions: Gulley et al., "Intel SHA Extensions", 2013.

#![allow(unsafe_code)] // one block: a call of a function that needs instructions which the processor was asked for

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use crate::hash::Hash;
use crate::two_blocks::{Message, START};

/// The same four words of both messages.
type Pair = [__m128i; 2];

/// FIPS 180-4, 4.2.2: fractions of the cube roots of the first 64 primes.
#[rustfmt::skip] // a row for every eight rounds
static CONSTANTS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Hashes of both. `None` if the processor lacks the instructions.
pub(super) fn two(messages: [&Message; 2]) -> Option<[Hash; 2]> {
    let is_there = is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
    // SAFETY: the processor has the instructions.
    is_there.then(|| unsafe { side_by_side(messages) })
}

/// The words A, B, E, F of both states, and C, D, G, H, as the instruction wants them.
#[derive(Clone, Copy)]
struct States {
    abef: Pair,
    cdgh: Pair,
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn side_by_side(messages: [&Message; 2]) -> [Hash; 2] {
    let [a, b, c, d, e, f, g, h] = START.map(u32::cast_signed);
    let mut states = States { abef: [_mm_set_epi32(a, b, e, f); 2], cdgh: [_mm_set_epi32(c, d, g, h); 2] };
    for block in 0..2 {
        let before = states;
        let quarter = |quarter: usize| messages.map(|message| words(&message[block], quarter));
        let mut schedule = [quarter(0), quarter(1), quarter(2), quarter(3)];
        for (turn, constants) in CONSTANTS.as_chunks::<16>().0.iter().enumerate() {
            for (at, constants) in constants.as_chunks::<4>().0.iter().enumerate() {
                four_rounds(&mut states, schedule[at], constants);
                if turn < 3 {
                    schedule[at] = next_words([0, 1, 2, 3].map(|behind| schedule[(at + behind) % 4]));
                }
            }
        }
        for lane in 0..2 {
            states.abef[lane] = _mm_add_epi32(states.abef[lane], before.abef[lane]);
            states.cdgh[lane] = _mm_add_epi32(states.cdgh[lane], before.cdgh[lane]);
        }
    }
    [0, 1].map(|lane| hash(states.abef[lane], states.cdgh[lane]))
}

/// Four words of a block, the first one lowest; a message has them in big-endian.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn words(block: &[u8; 64], quarter: usize) -> __m128i {
    let halves = &block.as_chunks::<8>().0[2 * quarter..][..2];
    let bytes = _mm_set_epi64x(i64::from_le_bytes(halves[1]), i64::from_le_bytes(halves[0]));
    _mm_shuffle_epi8(bytes, _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203))
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds(states: &mut States, words: Pair, constants: &[u32; 4]) {
    let [a, b, c, d] = constants.map(u32::cast_signed);
    for (lane, words) in words.into_iter().enumerate() {
        let summed = _mm_add_epi32(words, _mm_set_epi32(d, c, b, a));
        states.cdgh[lane] = _mm_sha256rnds2_epu32(states.cdgh[lane], states.abef[lane], summed);
        // The upper two.
        states.abef[lane] = _mm_sha256rnds2_epu32(states.abef[lane], states.cdgh[lane], _mm_shuffle_epi32::<0x0E>(summed));
    }
}

/// The four words behind these sixteen (FIPS 180-4, 6.2.2, step 1).
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn next_words([first, second, third, fourth]: [Pair; 4]) -> Pair {
    let of_lane = |lane: usize| {
        let seventh_last = _mm_alignr_epi8::<4>(fourth[lane], third[lane]);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first[lane], second[lane]), seventh_last);
        _mm_sha256msg2_epu32(sum, fourth[lane])
    };
    [of_lane(0), of_lane(1)]
}

/// The words A to H, in big-endian.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn hash(abef: __m128i, cdgh: __m128i) -> Hash {
    let mut hash = [0; 32];
    // A and B are the upper half, A the upper of both.
    let pairs = [_mm_extract_epi64::<1>(abef), _mm_extract_epi64::<1>(cdgh), _mm_cvtsi128_si64(abef), _mm_cvtsi128_si64(cdgh)];
    for (bytes, pair) in hash.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
        *bytes = pair.to_be_bytes();
    }
    hash
}
