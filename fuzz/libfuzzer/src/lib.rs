//! What the seven programs for libFuzzer share: every other mutation is the target's own, which knows what a store is; the rest, and the choice of
//! what is worth keeping, are libFuzzer's.

use chainring_fuzz::targets::Target;
use chainring_fuzz::targets::random::Random;

/// Mutates the first `size` bytes of `data` in place, as libFuzzer asks for it; gives the new size.
pub fn mutate(target: &Target, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if seed % 2 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let near = (target.mutate)(&data[..size], &mut Random::new(seed.into()));
    let size = near.len().min(max_size);
    data[..size].copy_from_slice(&near[..size]);
    size
}

/// The program of one target.
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        const TARGET: chainring_fuzz::targets::Target = chainring_fuzz::targets::$target::TARGET;

        libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            chainring_libfuzzer::mutate(&TARGET, data, size, max_size, seed)
        });
    };
}
