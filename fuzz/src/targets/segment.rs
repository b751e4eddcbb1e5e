//! One segment file: a header that holds, and anything behind it.

use std::sync::LazyLock;

use super::archive::Archive;
use super::random::Random;
use super::{Target, mutate, seeds, store};

/// See the module.
pub const TARGET: Target = Target {
    name: "segment",
    run,
    seeds: starts,
    mutate: near,
    canary: "the verifier finds nothing wrong with a body whose checksum differs (rule F3)",
};

/// The block of its header, from the golden example, which is frozen.
static HEADER: LazyLock<&[u8]> = LazyLock::new(|| &EXAMPLE[..512]);
static EXAMPLE: &[u8] = include_bytes!("../../../format-spec/vectors/valid/example/store/0000000001.seg");

fn run(input: &[u8]) {
    store::examine(&behind_header(input));
}

fn behind_header(content: &[u8]) -> Archive {
    Archive { files: [(1, [*HEADER, content].concat())].into() }
}

fn starts() -> Vec<Vec<u8>> {
    // Files of other stores do not fit this header, but their structures do once a mutation repairs the checksums.
    let files = seeds::STORES.iter().filter_map(|store| store.files.get(&1)).filter_map(|file| file.get(512..));
    let used = files.map(|file| file[..file.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1)].to_vec());
    used.filter(|file| file.len() < 16 << 10).chain([EXAMPLE[512..].to_vec()]).collect()
}

fn near(input: &[u8], random: &mut Random) -> Vec<u8> {
    let start = if random.once_in(3) { &EXAMPLE[512..] } else { input };
    let near = Archive::decode(&mutate::store(&behind_header(start).encode(), random));
    near.files.get(&1).and_then(|file| file.get(512..)).unwrap_or_default().to_vec()
}
