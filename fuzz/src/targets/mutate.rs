//! Mutations that know what a store is.
//!
//! Half of them change bytes, blocks and structures where they lie, and may then make the checksums right; the other half take the store apart,
//! change what somebody chose, and put it together with a lie or two that everything around agrees with. So every layer is reached: lengths,
//! checksums, rules, hashes, lineage.

use chainring_format::limits::PACKED_BLOCK_BYTES;
use chainring_format::segment::FEATURE_PACKED;

use super::archive::Archive;
use super::model::{Commit, Lie, Model};
use super::random::Random;
use super::repair::{self, Kind, Structure, structures};
use super::seeds::{METADATA, STORES};

/// Larger inputs find nothing that smaller ones do not.
const BYTES_MAX: usize = 192 << 10;

/// A store near this one. What is no store becomes one.
#[must_use]
pub fn store(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut archive = Archive::decode(input);
    if archive.files.is_empty() || random.once_in(64) {
        archive = random.pick(&STORES).clone();
    }
    let changed = if random.once_in(2) { rebuilt(&archive, random) } else { damaged(archive, random) };
    let bytes = changed.encode();
    if bytes.len() <= BYTES_MAX { bytes } else { random.pick(&STORES).encode() }
}

/// Bytes near these, without any knowledge of what they are.
#[must_use]
pub fn bytes(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change_bytes(&mut bytes, random);
    }
    bytes
}

/// One change to some bytes.
pub fn change_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = random.edge() as u8,
        3 => {
            let count = 1 + random.below(8);
            let more = if random.once_in(2) { random.bytes(count) } else { vec![0; count] };
            bytes.splice(at..at, more);
        }
        4 => {
            let end = (at + 1 + random.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => bytes.truncate(at),
        6 => {
            let from = random.below(bytes.len());
            let part = bytes[from..(from + random.below(32)).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let number = random.edge().to_le_bytes();
            let count = *random.pick(&[1, 2, 4, 8]);
            if let Some(place) = bytes.get_mut(at..at + count) {
                place.copy_from_slice(&number[..count]);
            }
        }
    }
}

/// Changes bytes where they lie.
fn damaged(mut archive: Archive, random: &mut Random) -> Archive {
    for _ in 0..=random.below(3) {
        if random.once_in(6) {
            change_files(&mut archive, random);
        } else if let Some(file) = some_file(&mut archive, random) {
            change_file(file, random);
        }
    }
    if random.once_in(2) {
        let erase_one_in = 1 + random.below(12);
        for file in archive.files.values_mut() {
            if random.once_in(2) {
                repair::counts(file);
            }
            repair::checksums(file, || erase_one_in > 1 && random.once_in(8 * erase_one_in));
        }
    }
    archive
}

fn some_file<'a>(archive: &'a mut Archive, random: &mut Random) -> Option<&'a mut Vec<u8>> {
    let count = archive.files.len();
    archive.files.values_mut().nth(random.below(count))
}

/// Swaps, doubles, loses or borrows whole files.
fn change_files(archive: &mut Archive, random: &mut Random) {
    let numbers: Vec<u16> = archive.files.keys().copied().collect();
    let (Some(&one), other) = (numbers.get(random.below(numbers.len())), random.below(4) as u16 + 1) else { return };
    match random.below(5) {
        0 => drop(archive.files.remove(&one)),
        1 => {
            let file = archive.files[&one].clone();
            archive.files.insert(other, file);
        }
        2 => {
            let (a, b) = (archive.files.get(&other).cloned(), archive.files.remove(&one));
            a.into_iter().for_each(|a| drop(archive.files.insert(one, a)));
            b.into_iter().for_each(|b| drop(archive.files.insert(other, b)));
        }
        3 => {
            let donor = random.pick(&STORES);
            if let Some(file) = donor.files.values().nth(random.below(donor.files.len())) {
                archive.files.insert(one, file.clone());
            }
        }
        _ => drop(archive.files.insert(random.below(3) as u16, Vec::new())),
    }
}

/// One change to a segment file.
fn change_file(file: &mut Vec<u8>, random: &mut Random) {
    let found = structures(file);
    let (block, _) = repair::layout(file);
    let used = file.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let some = found.get(random.below(found.len())).copied();
    match (random.below(14), some) {
        (0..=3, Some(Structure { kind, offset, bytes })) => {
            // A field of its fixed part.
            let fixed = match kind {
                Kind::Frame => 120,
                Kind::Trailer => 160,
                Kind::Header => 256,
                Kind::Padding | Kind::Footer => bytes,
            };
            let count = *random.pick(&[1, 2, 4, 8]);
            let at = offset + random.below(fixed.min(bytes) / count) * count;
            let number = if random.once_in(2) { random.edge() } else { small_step(file, at, count, random) };
            if let Some(place) = file.get_mut(at..at + count) {
                place.copy_from_slice(&number.to_le_bytes()[..count]);
            }
        }
        (4, Some(Structure { offset, bytes, .. })) => {
            let at = offset + random.below(bytes);
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        (5, Some(Structure { offset, bytes, .. })) => drop(file.drain(offset..offset + bytes)),
        (6, Some(Structure { offset, bytes, .. })) => {
            let copy = file[offset..offset + bytes].to_vec();
            let to = found[random.below(found.len())].offset;
            if random.once_in(2) {
                file.splice(to..to, copy);
            } else {
                over(file, to, &copy);
            }
        }
        (7, _) => {
            let (a, b) = (random.below(used.div_ceil(block)) * block, random.below(used.div_ceil(block)) * block);
            let copy = file.get(a..(a + block).min(used)).unwrap_or_default().to_vec();
            over(file, b, &copy);
        }
        (8, _) => {
            let at = random.below(used.div_ceil(512)) * 512;
            let end = (at + 512 * (1 + random.below(3))).min(file.len());
            let with = *random.pick(&[0, 0, 0, 0xFF]);
            file.get_mut(at..end).unwrap_or_default().fill(with);
        }
        (9, _) => {
            let at = random.below(used);
            file.truncate(if random.once_in(2) { at } else { at / 512 * 512 });
        }
        (10, _) => file.truncate(used),
        (11, _) => {
            let more = *random.pick(&[1, 8, 159, 160, 511, 512, 1024]);
            let with = *random.pick(&[0, 0xFF, 0x5A]);
            file.resize(if random.once_in(2) { used } else { file.len() } + more, with);
        }
        (12, Some(Structure { offset, bytes, .. })) => {
            // A bit in every sector from here on, as far as it goes.
            let step = 512 / (1 + random.below(2));
            for at in (offset..offset + bytes).step_by(step) {
                file[at] ^= 4;
            }
        }
        _ => {
            if used > 0 {
                file[random.below(used)] ^= 1 << random.below(8);
            }
        }
    }
}

fn small_step(file: &[u8], at: usize, count: usize, random: &mut Random) -> u64 {
    let mut number = [0; 8];
    number[..count].copy_from_slice(file.get(at..at + count).unwrap_or(&[0; 8][..count]));
    let step = *random.pick(&[1, 8, 512]);
    let number = u64::from_le_bytes(number);
    if random.once_in(2) { number.wrapping_add(step) } else { number.wrapping_sub(step) }
}

/// Writes bytes over what is there, growing the file if they reach farther.
fn over(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Changes what somebody chose and puts the store together anew, lying.
fn rebuilt(archive: &Archive, random: &mut Random) -> Archive {
    let mut model = Model::of(archive);
    for _ in 0..random.below(3) {
        change_model(&mut model, random);
    }
    let structures = model.structures();
    let lies: Vec<Lie> = (0..random.below(3)).map(|_| Lie::random(random, structures)).collect();
    let mut archive = model.encode(&lies);
    if random.once_in(8) {
        // Damage on top: two faults at once.
        if let Some(file) = some_file(&mut archive, random) {
            change_file(file, random);
        }
    }
    archive
}

fn change_model(model: &mut Model, random: &mut Random) {
    let segments = model.segments.len();
    match random.below(12) {
        0 => {
            let mut commits = model.commits();
            if let Some(commit) = commits.get(random.below(commits.len())) {
                let copy = (*commit).clone();
                let at = random.below(commits.len());
                commits[at].frames.extend(copy.frames);
            }
        }
        1 => {
            let mut commits = model.commits();
            let at = random.below(commits.len());
            if let Some(commit) = commits.get_mut(at) {
                let at = random.below(commit.frames.len());
                commit.frames.drain(at..(at + 1).min(commit.frames.len()));
            }
        }
        2 => {
            if let Some(segment) = model.segments.get_mut(random.below(segments)) {
                let at = random.below(segment.commits.len());
                let copy: Option<Commit> = segment.commits.get(at).cloned();
                segment.commits.extend(copy);
            }
        }
        3 => {
            if let Some(segment) = model.segments.get_mut(random.below(segments)) {
                segment.is_sealed = !segment.is_sealed;
                if random.once_in(2) {
                    segment.tail.clear();
                }
            }
        }
        4 => {
            // Cuts a segment in two between commits.
            let at = random.below(segments);
            if let Some(segment) = model.segments.get_mut(at) {
                let behind = segment.commits.split_off(random.below(segment.commits.len() + 1));
                let mut second = segment.clone();
                second.commits = behind;
                second.header.salt[0] ^= 1;
                segment.tail.clear();
                model.segments.insert(at + 1, second);
            }
        }
        5 => {
            let mut commits = model.commits();
            let at = random.below(commits.len());
            if let Some(commit) = commits.get_mut(at) {
                commit.trailer.flags = (commit.trailer.flags.get() ^ 1).into();
                commit.trailer.watermark = if random.once_in(2) { u64::MAX } else { 0 }.into();
            }
        }
        6 => {
            if let Some(segment) = model.segments.get_mut(random.below(segments)) {
                let block = *random.pick(&[PACKED_BLOCK_BYTES, 512, 1024, 4096]);
                segment.header.block_bytes = block.into();
                let others = segment.header.features.get() & !FEATURE_PACKED;
                segment.header.features = (others | if block == PACKED_BLOCK_BYTES { FEATURE_PACKED } else { 0 }).into();
            }
        }
        _ => change_frame(model, random),
    }
}

fn change_frame(model: &mut Model, random: &mut Random) {
    let mut frames = model.frames();
    let (at, other) = (random.below(frames.len()), random.below(frames.len()));
    if frames.is_empty() {
        return;
    }
    let copy = frames[other].clone();
    let frame = &mut frames[at];
    match random.below(9) {
        0 => frame.metadata = random.pick(&METADATA).clone(),
        1 => frame.metadata = bytes(&frame.metadata, random),
        2 => {
            let other: &Vec<u8> = random.pick(&METADATA);
            frame.metadata = bytes(other, random);
        }
        3 => frame.name = bytes(&frame.name, random),
        4 => {
            frame.body = {
                let count = random.below(80);
                random.bytes(count)
            }
        }
        5 => {
            frame.is_erased = !frame.is_erased;
            frame.header.body_bytes = (frame.body.len() as u32).into();
            frame.body.resize(if frame.is_erased { 32 } else { frame.body.len() }, 7);
        }
        6 => frame.header.event_id = copy.header.event_id,
        7 => **frame = copy,
        _ => {
            frame.header.batch_index = (random.below(3) as u32).into();
            frame.header.batch_count = (random.below(4) as u32).into();
        }
    }
}
