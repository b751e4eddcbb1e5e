//! Doing to a copy of a store what must never go unnoticed: flipping bits, and rewriting an event so that every checksum is right again.
//!
//! Works on the files alone, with the bytes of the format and nothing of the engine: the way somebody with a disk editor would.
//! Always: a file keeps its length and everything but the one frame. Never: touches a link; a forger who does meets the next one.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chainring::{EventId, Link, Metadata};
use chainring_format::checksum::Seed;
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::frame::{FLAG_SALTED, FRAME_HEADER_BYTES, FrameFields, FrameView, slot_crc};
use chainring_format::segment::{SegmentHeader, number_of};
use chainring_format::{Mark, align};

use crate::output::Failure;

/// Where a frame stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// File name of the segment.
    pub(super) segment: String,
    /// Offset of the frame in it.
    pub(super) offset: u64,
}

/// Flips bits of one byte in the body of an event: the first byte of `text`, which the body must hold. Gives the body that comes out, too.
pub(super) fn flip(store: &Path, id: EventId, text: &str, bits: u8) -> Result<(Place, Vec<u8>), Failure> {
    let found = Found::new(store, id)?;
    let frame = found.frame()?;
    let (body, start) = body_of(&frame)?;
    let inside = body.windows(text.len()).position(|window| window == text.as_bytes());
    let inside = inside.ok_or_else(|| Failure::No(format!("the body of event {id} does not hold {text:?}")))?;
    let mut flipped = frame.bytes().to_vec();
    flipped[start + inside] ^= bits;
    Ok((found.overwrite(&flipped)?, flipped[start..start + body.len()].to_vec()))
}

/// Rewrites an event and gives its frame checksums that are right. What comes out must fit the place of what was there.
pub(super) fn rewrite(store: &Path, id: EventId, change: impl FnOnce(&mut Metadata, &mut Vec<u8>)) -> Result<Place, Failure> {
    let found = Found::new(store, id)?;
    let frame = found.frame()?;
    let mut metadata = Metadata::decode(frame.metadata()).map_err(|violation| Failure::No(violation.to_string()))?;
    let mut body = body_of(&frame)?.0.to_vec();
    change(&mut metadata, &mut body);
    let (metadata, salt, header) = (metadata.encode(), frame.salt(), frame.header);
    let salt = (header.flags & FLAG_SALTED != 0).then_some(&salt);
    let fields = FrameFields {
        kind: header.kind,
        version: header.version.get(),
        recorded_at_ns: header.recorded_at_ns.get(),
        bucket_back: header.bucket_back.get(),
        stream_back: header.stream_back.get(),
        batch_index: header.batch_index.get(),
        batch_count: header.batch_count.get(),
        stream_id: frame.stream_id(),
        event_id: id,
        link: Link(header.link),
        name: frame.name().unwrap_or_default(),
        metadata: &metadata,
        body: &body,
        salt,
        slot_crc: slot_crc(&body, salt),
    };
    if fields.frame_bytes() != frame.bytes().len() as u64 {
        return Err(Failure::No(format!("event {id} rewritten takes {} bytes and not {}", fields.frame_bytes(), frame.bytes().len())));
    }
    let mut forged = vec![0; frame.bytes().len()];
    fields.encode(&mut forged, found.seed.mask(found.offset));
    found.overwrite(&forged)
}

/// An event's frame in a segment file.
struct Found {
    path: PathBuf,
    segment: String,
    bytes: Vec<u8>,
    seed: Seed,
    offset: u64,
}

impl Found {
    fn new(store: &Path, id: EventId) -> Result<Found, Failure> {
        let listed = fs::read_dir(store).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| cannot("list", store, &error))?;
        let mut names: Vec<String> = listed.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| number_of(name).is_some());
        names.sort_unstable();
        for segment in names {
            let path = store.join(&segment);
            let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            let header = SegmentHeader::parse(&bytes).map_err(|violation| Failure::No(format!("{segment}: {violation}")))?;
            if let Some(offset) = offset_of(&bytes, header.block_bytes.get().into(), id) {
                return Ok(Found { path, segment, bytes, seed: Seed::new(&header.salt), offset });
            }
        }
        Err(Failure::No(format!("there is no event {id} in {}", store.display())))
    }

    fn frame(&self) -> Result<FrameView<'_>, Failure> {
        let bytes = self.bytes.get(self.offset as usize..).unwrap_or_default();
        FrameView::parse(bytes, self.seed.mask(self.offset)).map_err(|violation| Failure::No(format!("{}: {violation}", self.segment)))
    }

    /// Puts other bytes in the frame's place.
    fn overwrite(&self, frame: &[u8]) -> Result<Place, Failure> {
        let write = || {
            let mut file = OpenOptions::new().write(true).open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.write_all(frame)
        };
        write().map_err(|error| cannot("write", &self.path, &error))?;
        Ok(Place { segment: self.segment.clone(), offset: self.offset })
    }
}

/// Walks the commits of a segment from its first block on.
fn offset_of(bytes: &[u8], block_bytes: u64, id: EventId) -> Option<u64> {
    let trailer_bytes = TRAILER_BYTES as u64;
    let mut at = block_bytes;
    loop {
        let rest = bytes.get(at as usize..)?;
        match Mark::of(rest) {
            Mark::Frame(frame_bytes) => {
                let frame = FrameView::peek(rest)?;
                if frame.is_event() && frame.event_id() == id {
                    return Some(at);
                }
                at += u64::from(frame_bytes);
            }
            Mark::Padding => at = align(at + trailer_bytes, block_bytes) - trailer_bytes,
            Mark::Trailer => at += trailer_bytes,
            Mark::Footer | Mark::Nothing => return None,
        }
    }
}

/// The body of a frame, and where it starts in it.
fn body_of<'a>(frame: &FrameView<'a>) -> Result<(&'a [u8], usize), Failure> {
    let body = frame.body().ok_or_else(|| Failure::No(format!("the body of event {} was erased", frame.event_id())))?;
    Ok((body, FRAME_HEADER_BYTES + frame.header.name_bytes.get() as usize + frame.header.metadata_bytes.get() as usize))
}

/// An error of the file system.
pub(super) fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Cannot(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use chainring::{Event, FaultKind, Log, Options, Position, Store, VerifyOptions, verify};

    use super::*;

    const ORDER: EventId = EventId([2; 16]);

    /// A closed store of small segments whose order event lies among others.
    fn store(directory: &Path) {
        let log: Log = Options::new().segment_bytes(64 << 10).open(directory).unwrap();
        for n in 10..40 {
            log.append(Event::new("filler", "Noted").id(EventId([n; 16])).body(vec![n; 1000])).unwrap();
        }
        let order = Event::new("order-1", "OrderPlaced").id(ORDER).actor("agent:a").body(r#"{"set":{"total":189.90}}"#);
        log.append(vec![Event::new("order-1", "OrderOpened").id(EventId([1; 16])).body("{}"), order]).unwrap();
        log.append(Event::new("order-1", "OrderPaid").id(EventId([3; 16])).body("{}")).unwrap();
        assert!(log.stats().segments > 1);
        log.close().unwrap();
        assert_eq!(verify(directory, &VerifyOptions::default()).unwrap().fault, None);
    }

    #[test]
    fn a_flipped_bit_is_found_as_corrupt_at_its_frame() {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path());
        let (place, body) = flip(directory.path(), ORDER, "189.90", 0x08).unwrap();
        assert_eq!(body, br#"{"set":{"total":989.90}}"#);
        let fault = verify(directory.path(), &VerifyOptions::default()).unwrap().fault.unwrap();
        assert_eq!((fault.kind, fault.rule), (FaultKind::Corrupt, "F3"));
        assert_eq!(Place { segment: fault.segment, offset: fault.offset }, place);
        assert_eq!((fault.position, fault.stream.as_deref()), (Some(Position(32)), Some("order-1")));
        // The same bits again, and nothing ever happened.
        let path = directory.path().join(&place.segment);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(6).position(|window| window == b"989.90").unwrap();
        bytes[at] ^= 0x08;
        fs::write(&path, bytes).unwrap();
        assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
    }

    #[test]
    fn a_rewritten_event_reads_well_and_is_found_as_tampered() {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path());
        let place = rewrite(directory.path(), ORDER, |metadata, body| {
            metadata.actor = Some("agent:b".into());
            *body = body.iter().map(|&b| if b == b'1' { b'9' } else { b }).collect();
        })
        .unwrap();
        let opened = Store::open(directory.path()).unwrap();
        let view = opened.latest();
        let event = view.event(opened.locate(ORDER).unwrap().unwrap()).unwrap();
        assert_eq!(event.metadata().unwrap().actor.as_deref(), Some("agent:b"));
        assert_eq!(event.body(), Some(&br#"{"set":{"total":989.90}}"#[..]));
        let fault = verify(directory.path(), &VerifyOptions::default()).unwrap().fault.unwrap();
        assert_eq!((fault.kind, fault.rule), (FaultKind::Tampered, "H1"));
        assert_eq!(Place { segment: fault.segment, offset: fault.offset }, place);
        assert_eq!((fault.position, fault.stream.as_deref()), (Some(Position(32)), Some("order-1")));
    }

    #[test]
    fn rewriting_nothing_changes_no_byte() {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path());
        rewrite(directory.path(), ORDER, |_, _| {}).unwrap();
        assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
    }

    #[test]
    fn what_does_not_fit_or_is_not_there_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path());
        let no = |failure: Failure| match failure {
            Failure::No(message) => message,
            other => panic!("{other:?}"),
        };
        assert!(no(rewrite(directory.path(), ORDER, |_, body| body.extend([b' '; 64])).unwrap_err()).contains("bytes"));
        assert!(no(flip(directory.path(), ORDER, "not in there", 1).unwrap_err()).contains("does not hold"));
        assert!(no(flip(directory.path(), EventId([99; 16]), "x", 1).unwrap_err()).contains("no event"));
        assert!(matches!(flip(&directory.path().join("nowhere"), ORDER, "x", 1), Err(Failure::Cannot(_))));
        assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
    }
}
