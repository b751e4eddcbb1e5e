//! CRC-32C of pieces as short as frames have them, several chains at a time.
//!
//! The processor's instruction takes eight bytes, three cycles until its result can be gone on from, and one until the next can begin. One chain leaves two
//! thirds of it idle, so the words of a piece are summed up in three chains side by side, or in two beside a second piece. A chain that began in the
//! middle is put behind the one before it by multiplying that with a power of x (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32
//! Instruction", Intel 2011, with carry-less multiplication in place of tables).

#![allow(unsafe_code)] // three blocks: calls of functions that need instructions which the processor was asked for

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
};

/// Words that a chain can be put behind, at most. Longer pieces are no business of this room.
const WORDS_MAX: usize = 256;
/// Fewer words are through in one chain before three are put together.
const WORDS_MIN: usize = 9;
/// The polynomial of CRC-32C, its bits in reverse order, as all sums have them.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Multiplies with x^64 for every word: entry n is x^(64 n - 33) modulo the polynomial. The instruction itself multiplies with x^32, and a product of two
/// numbers with reversed bits lacks one x.
static POWERS: [u32; WORDS_MAX + 1] = powers();

const fn powers() -> [u32; WORDS_MAX + 1] {
    let mut powers = [0; WORDS_MAX + 1];
    // x^31: of reversed bits the last.
    let mut power = 1_u32;
    let mut words = 1;
    while words <= WORDS_MAX {
        powers[words] = power;
        let mut times = 0;
        while times < 64 {
            power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            times += 1;
        }
        words += 1;
    }
    powers
}

fn is_there() -> bool {
    is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
}

/// CRC-32C of a piece. `None` if it is too short or too long for this to pay, or the processor lacks the instructions.
pub(super) fn one(bytes: &[u8]) -> Option<u32> {
    let serves = (8 * WORDS_MIN..=8 * WORDS_MAX).contains(&bytes.len()) && is_there();
    // SAFETY: the processor has the instructions.
    serves.then(|| unsafe { three_chains(bytes) })
}

/// CRC-32C of two pieces. `None` as for [`one`].
pub(super) fn two(a: &[u8], b: &[u8]) -> Option<(u32, u32)> {
    let serves = a.len().max(b.len()) <= 8 * WORDS_MAX && is_there();
    // SAFETY: the processor has the instructions.
    serves.then(|| unsafe { if a.len() <= b.len() { beside(a, b) } else { swapped(beside(b, a)) } })
}

/// CRC-32C of eight bytes that follow those summed up in `crc`. `None` if the processor lacks the instruction.
pub(super) fn word(crc: u32, word: &[u8; 8]) -> Option<u32> {
    // SAFETY: the processor has the instruction.
    is_x86_feature_detected!("sse4.2").then(|| unsafe { !(add(u64::from(!crc), word) as u32) })
}

fn swapped((a, b): (u32, u32)) -> (u32, u32) {
    (b, a)
}

/// Begins with nothing, as the check value has it.
const BEGIN: u64 = u32::MAX as u64;

#[target_feature(enable = "sse4.2,pclmulqdq")]
fn three_chains(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let third = words.len() / 3;
    let (a, words) = words.split_at(third);
    let (b, words) = words.split_at(third);
    let (c, left) = words.split_at(third);
    let (mut x, mut y, mut z) = (BEGIN, 0, 0);
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        x = add(x, a);
        y = add(y, b);
        z = add(z, c);
    }
    // The first goes over two thirds at once, so that neither waits for the other.
    let mut sum = shifted(x, 2 * third) ^ shifted(y, third) ^ z;
    for word in left {
        sum = add(sum, word);
    }
    end(sum, rest)
}

/// A piece beside one that is as long or longer, and goes in two chains.
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn beside(short: &[u8], long: &[u8]) -> (u32, u32) {
    let ((short, short_rest), (long, long_rest)) = (short.as_chunks::<8>(), long.as_chunks::<8>());
    let half = long.len() / 2;
    let (first, long) = long.split_at(half);
    let (second, left) = long.split_at(half);
    let (mut x, mut y, mut z) = (BEGIN, BEGIN, 0);
    let all = short.len().min(half);
    for ((a, b), c) in short[..all].iter().zip(&first[..all]).zip(&second[..all]) {
        x = add(x, a);
        y = add(y, b);
        z = add(z, c);
    }
    // One of these is at its end.
    for (b, c) in first[all..].iter().zip(&second[all..]) {
        y = add(y, b);
        z = add(z, c);
    }
    for a in &short[all..] {
        x = add(x, a);
    }
    let mut sum = if half > 0 { shifted(y, half) ^ z } else { y };
    for word in left {
        sum = add(sum, word);
    }
    (end(x, short_rest), end(sum, long_rest))
}

#[target_feature(enable = "sse4.2")]
fn add(sum: u64, word: &[u8; 8]) -> u64 {
    _mm_crc32_u64(sum, u64::from_le_bytes(*word))
}

/// The sum with so many words of zeros behind it, of 1 to [`WORDS_MAX`].
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn shifted(sum: u64, words: usize) -> u64 {
    let factors = (_mm_cvtsi64_si128(sum.cast_signed()), _mm_cvtsi64_si128(i64::from(POWERS[words])));
    let product = _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0>(factors.0, factors.1));
    _mm_crc32_u64(0, product.cast_unsigned())
}

/// The whole sum, once the last bytes are in it, of which there are fewer than eight.
#[target_feature(enable = "sse4.2")]
fn end(sum: u64, rest: &[u8]) -> u32 {
    let mut sum = sum as u32;
    let mut rest = rest;
    if let Some((four, behind)) = rest.split_first_chunk() {
        (sum, rest) = (_mm_crc32_u32(sum, u32::from_le_bytes(*four)), behind);
    }
    if let Some((two, behind)) = rest.split_first_chunk() {
        (sum, rest) = (_mm_crc32_u16(sum, u16::from_le_bytes(*two)), behind);
    }
    if let Some(last) = rest.first() {
        sum = _mm_crc32_u8(sum, *last);
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_give_what_one_byte_after_the_other_gives() {
        if !is_there() {
            return eprintln!("SKIPPED: the processor lacks the instructions");
        }
        let bytes: Vec<u8> = (0..8 * WORDS_MAX + 20).map(|at| (at * at / 7 + at) as u8).collect();
        for start in [0, 1, 4, 7] {
            for count in 0..=8 * WORDS_MAX + 8 {
                let piece = &bytes[start..start + count];
                let right = crc32c::crc32c(piece);
                let serves = (8 * WORDS_MIN..=8 * WORDS_MAX).contains(&count);
                assert_eq!(one(piece), serves.then_some(right), "{count} bytes");
                if let Some((before, last)) = piece.split_last_chunk() {
                    assert_eq!(word(crc32c::crc32c(before), last), Some(right));
                }
                for other in [0, 3, 8, 40, 100, count / 2, count.saturating_sub(9), count] {
                    let other = &bytes[bytes.len() - other..];
                    let both = Some((right, crc32c::crc32c(other))).filter(|_| count.max(other.len()) <= 8 * WORDS_MAX);
                    assert_eq!(two(piece, other), both, "{count} and {} bytes", other.len());
                    assert_eq!(two(other, piece), both.map(swapped));
                }
            }
        }
    }
}
