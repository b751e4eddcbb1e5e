//! A store in one piece of bytes: what the targets over whole stores take in.
//!
//! | bytes | of each file |
//! |---|---|
//! | u16 | segment number; 0 is a leftover under construction |
//! | u32 | bytes of content that follow |
//! | u32 | zero bytes behind them: reserved space costs nothing here |
//! | ... | content |
//!
//! Any bytes are an archive: what is cut short counts as far as it is there. A file named twice is the later one.

use std::collections::BTreeMap;

use chainring::disk::sim::SimDisk;
use chainring::disk::{Disk, Environment};
use chainring_format::limits::BLOCK_BYTES_MIN;
use chainring_format::segment::{file_name, number_of};

/// Zero bytes that all files of an archive have together, at most.
const ZEROS_MAX: usize = 2 << 20;

/// Name of file number 0.
const LEFTOVER: &str = "0000000009.seg.tmp";

/// The files of a store by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Contents.
    pub files: BTreeMap<u16, Vec<u8>>,
}

impl Archive {
    /// Reads an archive; never fails.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Archive {
        let mut archive = Archive::default();
        let mut zeros_left = ZEROS_MAX;
        while let Some((head, rest)) = bytes.split_first_chunk::<10>() {
            let number = u16::from_le_bytes([head[0], head[1]]);
            let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let zeros = (u32::from_le_bytes([head[6], head[7], head[8], head[9]]) as usize).min(zeros_left);
            zeros_left -= zeros;
            let (content, behind) = rest.split_at(length.min(rest.len()));
            let mut content = content.to_vec();
            content.resize(content.len() + zeros, 0);
            archive.files.insert(number, content);
            bytes = behind;
        }
        archive
    }

    /// The shortest bytes that give this archive.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in &self.files {
            let used = content.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&(used as u32).to_le_bytes());
            bytes.extend_from_slice(&((content.len() - used) as u32).to_le_bytes());
            bytes.extend_from_slice(&content[..used]);
        }
        bytes
    }

    /// Its files under the names they have in a store.
    pub fn named(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.files.iter().map(|(&number, content)| (if number == 0 { LEFTOVER.into() } else { file_name(number.into()) }, &content[..]))
    }

    /// A simulated disk that holds these files.
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        let disk = SimDisk::new().with_block_bytes(BLOCK_BYTES_MIN);
        for (name, content) in self.named() {
            disk.overwrite(&name, content.to_vec());
        }
        disk
    }

    /// The segments on a simulated disk.
    #[must_use]
    pub fn of_disk(disk: &SimDisk) -> Archive {
        let names = disk.list().unwrap_or_default();
        let files = names.iter().filter_map(|name| Some((u16::try_from(number_of(name)?).ok()?, disk.content(name)?)));
        Archive { files: files.collect() }
    }

    /// The world around the disk: a clock behind every recorded time that a test store has, and fixed randomness.
    #[must_use]
    pub fn environment(disk: &SimDisk) -> Environment {
        disk.environment(1)
    }
}
