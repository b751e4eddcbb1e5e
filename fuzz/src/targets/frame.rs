//! One frame under any mask: what is accepted is what would be written, and nothing that is asked of it panics.

use chainring_format::checksum::{Seed, crc};
use chainring_format::commit::CommitTrailer;
use chainring_format::frame::{FLAG_SALTED, FRAME_HEADER_BYTES, FrameFields, FrameHeader, FrameView, SALT_BYTES, slot_crc};
use chainring_format::segment::SegmentHeader;
use chainring_format::{EventId, Link, StreamId, footer};
use zerocopy::FromBytes;

use super::random::Random;
use super::repair::{Kind, layout, slot, structures};
use super::{Target, is_planted, mutate, seeds};

/// See the module.
pub const TARGET: Target =
    Target { name: "frame", run, seeds: starts, mutate: near, canary: "bytes that fill a frame up to 8 are not looked at" };

/// Input: the mask as u32, then the frame.
fn run(input: &[u8]) {
    let Some((mask, bytes)) = input.split_first_chunk::<4>() else { return };
    let mask = u32::from_le_bytes(*mask);
    // Other structures share the checksum idea and nothing else; that they never panic costs nothing to see here.
    let seed = Seed::new(&[0; 16]);
    let _ = (CommitTrailer::parse(bytes, seed, 0), footer::parse(bytes, seed, 0), SegmentHeader::parse(bytes));
    if let Some(peeked) = FrameView::peek(bytes) {
        exercise(&peeked);
    }
    let mut seen = bytes.to_vec();
    if is_planted()
        && let Some(behind) = slot(bytes).map(|slot| slot.end)
    {
        let end = behind.next_multiple_of(8).min(seen.len());
        seen[behind..end].fill(0);
    }
    let Ok(frame) = FrameView::parse(&seen, mask) else { return };
    exercise(&frame);
    assert_eq!(frame.bytes().len(), frame.header.frame_bytes.get() as usize);
    let bytes = &bytes[..frame.bytes().len()];
    assert_eq!(FrameView::parse(bytes, mask).map(|again| again.erased()), Ok(frame.erased()), "only its own bytes count");
    assert!(FrameView::parse(bytes, !mask).is_err(), "a checksum holds in one place only");
    same_when_written(&frame, bytes, mask);
}

fn exercise(frame: &FrameView<'_>) {
    let _ = (frame.name(), frame.metadata(), frame.body(), frame.salt(), frame.bucket(), frame.check(0), frame.check(1));
    let _ = frame.expected_link(&frame.digest(EventId([1; 16])), &[0; 32], &[1; 32]);
}

/// Writing what was read gives the same bytes.
fn same_when_written(frame: &FrameView<'_>, bytes: &[u8], mask: u32) {
    let header = frame.header;
    let (Some(body), name) = (frame.body(), frame.name().unwrap_or_default()) else { return };
    if name.len() != usize::from(header.name_bytes.get()) {
        return;
    }
    let salt: [u8; SALT_BYTES] = frame.salt();
    let salt = (header.flags & FLAG_SALTED != 0).then_some(&salt);
    let fields = FrameFields {
        kind: header.kind,
        version: header.version.get(),
        recorded_at_ns: header.recorded_at_ns.get(),
        bucket_back: header.bucket_back.get(),
        stream_back: header.stream_back.get(),
        batch_index: header.batch_index.get(),
        batch_count: header.batch_count.get(),
        stream_id: StreamId(header.stream_id),
        event_id: EventId(header.event_id),
        link: Link(header.link),
        name,
        metadata: frame.metadata(),
        body,
        salt,
        slot_crc: slot_crc(body, salt),
    };
    assert_eq!(fields.frame_bytes(), bytes.len() as u64);
    let mut written = vec![0xAA; bytes.len()];
    fields.encode(&mut written, mask);
    assert!(written == bytes, "a frame that was accepted is not the one that would be written");
}

fn starts() -> Vec<Vec<u8>> {
    let mut starts = Vec::new();
    for file in seeds::STORES.iter().flat_map(|store| store.files.values()) {
        let (_, seed) = layout(file);
        for structure in structures(file).iter().filter(|structure| structure.kind == Kind::Frame && structure.bytes < 4096) {
            let mask = seed.mask(structure.offset as u64).to_le_bytes();
            starts.push([&mask[..], &file[structure.offset..structure.offset + structure.bytes]].concat());
        }
    }
    starts.sort();
    starts.dedup();
    starts
}

fn near(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) {
        // Mostly a field of the header or the last bytes; their lengths stay right then.
        let reach = if random.once_in(2) { FRAME_HEADER_BYTES + 4 } else { bytes.len() };
        match random.below(3) {
            0 => bytes = mutate::bytes(&bytes, random),
            1 if !bytes.is_empty() => {
                let at = random.below(reach.min(bytes.len()));
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                let at = bytes.len().saturating_sub(1 + random.below(8));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    if random.once_in(2) {
        repair(&mut bytes, random.once_in(8));
    }
    bytes
}

fn repair(input: &mut [u8], is_erased: bool) {
    let Some((mask, frame)) = input.split_first_chunk_mut::<4>() else { return };
    let mask = u32::from_le_bytes(*mask);
    let Some(slot) = slot(frame) else { return };
    let (header_crc, body_crc) = (crc(&frame[12..slot.start]) ^ mask, crc(&frame[slot]) ^ mask);
    let Ok((header, _)) = FrameHeader::mut_from_prefix(frame) else { return };
    header.header_crc = header_crc.into();
    header.body_crc = if is_erased { !body_crc } else { body_crc }.into();
}
