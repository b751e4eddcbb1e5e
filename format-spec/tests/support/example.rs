//! The annotated example at the top of FORMAT.md: one event with its commit trailer, byte by byte, and every value derived from it.
//!
//! Its store is the golden store `vectors/valid/example`.

use std::fmt::Write;

use chainring_format::cbor::Reader;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::frame::{FRAME_HEADER_BYTES, FrameView, SALT_BYTES};
use chainring_format::hash::{self, Hash, Leaf, LeafFields};
use chainring_format::metadata::{Class, Metadata};
use chainring_format::{EventId, Link, SUITE};
use zerocopy::FromBytes;

use super::hex;
use super::records::{Event, event};
use super::store::Store;

const STREAM: &str = "order-1042";
const BODY: &str = "{\"reason\":\"out of stock\"}";

/// A store with the genesis record and the one event.
pub(crate) fn store() -> Store {
    let metadata = Metadata {
        content_type: Some("application/json".into()),
        actor: Some("agent:stock".into()),
        class: Some(Class::Fact),
        ..Metadata::new("OrderCancelled")
    };
    let mut store = Store::new("example", 512);
    let one = Event { metadata: metadata.encode(), ..event(STREAM, BODY) };
    store.event_with(&one, |draft| draft.event_id = "0192f1c8-5b1e-7c3a-9f44-2d6e8a10c942".parse().expect("a UUID"));
    store.commit();
    store
}

/// Rows of offset, bytes, meaning.
struct Dump<'a> {
    bytes: &'a [u8],
    at: usize,
    text: String,
}

impl Dump<'_> {
    fn row(&mut self, length: usize, what: &str) {
        let bytes = &self.bytes[self.at..self.at + length];
        for (index, row) in bytes.chunks(16).enumerate() {
            let spaced = row.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
            let line = format!("{:04x}  {spaced:<47}  {}", self.at + 16 * index, if index == 0 { what } else { "" });
            writeln!(self.text, "{}", line.trim_end()).expect("a String takes everything");
        }
        self.at += length;
    }

    fn rows(&mut self, fields: &[(usize, String)]) {
        fields.iter().for_each(|(length, what)| self.row(*length, what));
    }
}

fn frame_fields(frame: &FrameView<'_>, bucket: u16) -> Vec<(usize, String)> {
    let h = frame.header;
    vec![
        (4, format!("frame_bytes      {}", h.frame_bytes)),
        (4, format!("header_crc       0x{:08x}", h.header_crc)),
        (4, format!("body_crc         0x{:08x}", h.body_crc)),
        (4, format!("metadata_bytes   {}", h.metadata_bytes)),
        (4, format!("body_bytes       {}", h.body_bytes)),
        (2, format!("name_bytes       {}", h.name_bytes)),
        (1, format!("kind             {} = event", h.kind)),
        (1, format!("flags            {} = SALTED", h.flags)),
        (8, format!("version          {}", h.version)),
        (8, format!("recorded_at_ns   {}", h.recorded_at_ns)),
        (4, format!("bucket_back      {} = no record before it in bucket {bucket}", h.bucket_back)),
        (4, format!("stream_back      {} = no event before it in the stream", h.stream_back)),
        (4, format!("batch_index      {}", h.batch_index)),
        (4, format!("batch_count      {} = appended alone", h.batch_count)),
        (16, format!("stream_id        bucket {bucket} = 0x{bucket:03x}: the first two bytes, lowest 12 bits")),
        (16, format!("event_id         {}", frame.event_id())),
        (32, "link".into()),
    ]
}

/// One row for the head of the map, one for each key and its value.
fn metadata_rows(dump: &mut Dump<'_>, metadata: &[u8]) {
    let names = [(1_u8, "type"), (3, "content_type"), (5, "actor"), (10, "class 0 = fact")];
    dump.row(1, &format!("metadata         map of {} pairs", metadata[0] & 0x1F));
    let mut reader = Reader::new(&metadata[1..]);
    while !reader.is_done() {
        let start = reader.offset();
        let key = reader.skip().expect("metadata of our own")[0];
        reader.skip().expect("metadata of our own");
        let (_, name) = names.iter().find(|(number, _)| *number == key).expect("a key of the example");
        dump.row(reader.offset() - start, &format!("                 {key} {name}"));
    }
}

fn trailer_fields(t: &CommitTrailer) -> Vec<(usize, String)> {
    vec![
        (4, "magic            \"CMT\\xF1\"".into()),
        (4, format!("trailer_crc      0x{:08x}", t.trailer_crc)),
        (8, format!("first_position   {}", t.first_position)),
        (4, format!("count            {}", t.count)),
        (4, format!("flags            {}", t.flags)),
        (8, format!("commit_bytes     {}", t.commit_bytes)),
        (8, format!("watermark        {} = the genesis record was durable", t.watermark)),
        (8, format!("time_ns          {}", t.time_ns)),
        (8, format!("epoch            {}", t.epoch)),
        (8, "reserved_a".into()),
        (32, "previous_digest  of the commit with the genesis record".into()),
        (32, "digest".into()),
        (16, "mac".into()),
        (16, "reserved_b".into()),
    ]
}

/// The text between the marks in FORMAT.md.
pub(crate) fn text() -> String {
    let store = store();
    let (place, segment) = (store.frames[1], &store.segments[0]);
    let mask = segment.seed().mask(place.offset as u64);
    let frame = FrameView::parse(&segment.bytes[place.offset..], mask).expect("a frame of our own");
    let slot = store.slot(1);
    let mut dump = Dump { bytes: &segment.bytes, at: place.offset, text: String::new() };
    dump.rows(&frame_fields(&frame, frame.bucket()));
    assert_eq!(dump.at, place.offset + FRAME_HEADER_BYTES);
    dump.row(STREAM.len(), &format!("name             \"{STREAM}\""));
    metadata_rows(&mut dump, frame.metadata());
    dump.row(BODY.len(), &format!("body             {BODY}"));
    dump.row(SALT_BYTES, "salt");
    assert_eq!(dump.at, slot.0 + slot.1);
    let end = place.offset + place.bytes;
    dump.row(end - dump.at, "filling to a multiple of 8");
    let trailer_at = store.trailer(1);
    writeln!(dump.text, "{end:04x}  {:<47}  padding: {} bytes ff, up to the trailer", "ff ff ff ff ...", trailer_at - end).expect("text");
    dump.at = trailer_at;
    let trailer = CommitTrailer::read_from_bytes(&segment.bytes[trailer_at..trailer_at + TRAILER_BYTES]).expect("a trailer of our own");
    dump.rows(&trailer_fields(&trailer));
    assert_eq!(dump.at, segment.end);
    format!(
        "## The example\n\n{}\n\n```text\n{}```\n\n{}\n\n```text\n{}```\n",
        "An order is cancelled: the first event of stream `order-1042`, at position 1 of a new store, salted, alone in a commit of one block of 512 bytes.\n\
         These are all bytes of its frame and of the commit's trailer at their offsets in segment 1 (the file is `vectors/valid/example`); section 6 names\n\
         the fields of the frame, section 4.1 those of the trailer.",
        dump.text,
        "What is derived, to be checked by hand. Hashes are those of section 7, byte strings are hex; `salt` of the segment and `log_id` come from the segment's header.",
        derived(&store, &frame, mask, &trailer),
    )
}

fn derived(store: &Store, frame: &FrameView<'_>, mask: u32, trailer: &CommitTrailer) -> String {
    let (place, segment, position) = (store.frames[1], &store.segments[0], 1);
    let log_id = Link(store.log_id);
    let (slot, slot_bytes) = store.slot(position);
    let header_bytes = slot - place.offset;
    let digest = frame.digest(EventId::default());
    let name_commit = hash::name_commit(&log_id, STREAM);
    let h = frame.header;
    let leaf = Leaf::new(&LeafFields {
        kind: h.kind,
        bucket: frame.bucket(),
        version: h.version.get(),
        recorded_at_ns: h.recorded_at_ns.get(),
        digest: &digest,
        prev_bucket: &log_id.0,
        prev_stream: &name_commit,
    });
    assert_eq!(leaf.link(), frame.link());
    let leaf = leaf.bytes();
    let trailer_at = store.trailer(1);
    let trailer_mask = segment.seed().mask(trailer_at as u64);
    let mut text = String::new();
    let mut line = |name: &str, value: &str, how: &str| {
        writeln!(text, "{name:<16} {value}{}{how}", if how.is_empty() { "" } else { "  " }).expect("a String takes everything");
    };
    let hash = |hash: &Hash| hex(hash);
    line("salt", &hex(&segment.header.salt), "of the segment");
    line("log_id", &hash(&log_id.0), "link of the genesis record");
    line("mask", &format!("{mask:08x}"), &format!("crc32c(salt || u64 {})", place.offset));
    line(
        "header_crc",
        &format!("{:08x}", h.header_crc),
        &format!("crc32c(bytes 12..{header_bytes} of the frame = {:08x}) ^ mask", h.header_crc.get() ^ mask),
    );
    line(
        "body_crc",
        &format!("{:08x}", h.body_crc),
        &format!("crc32c(bytes {header_bytes}..{} = {:08x}) ^ mask", header_bytes + slot_bytes, h.body_crc.get() ^ mask),
    );
    line("stream_id", &hex(&h.stream_id), "of the name");
    line("name_commit", &hash(&name_commit), "of log_id and the name");
    line("body_commit", &hash(&frame.body_commit()), "of the salt behind the body, and the body");
    line("digest", &hash(&digest), "batch_id zero, for it is no batch");
    line("leaf", &hex(&leaf[..20]), &format!("kind, suite {SUITE}, bucket, version, recorded_at_ns"));
    line("", &hex(&leaf[20..52]), "digest");
    line("", &hex(&leaf[52..84]), "prev_bucket = log_id: first record of its bucket");
    line("", &hex(&leaf[84..]), "prev_stream = name_commit: first event of its stream");
    line("link", &hash(&h.link), "SHA-256(00 || leaf)");
    line("trailer's mask", &format!("{trailer_mask:08x}"), &format!("crc32c(salt || u64 {trailer_at})"));
    let plain = trailer.trailer_crc.get() ^ trailer_mask;
    line("trailer_crc", &format!("{:08x}", trailer.trailer_crc), &format!("crc32c(bytes 8..160 of the trailer = {plain:08x}) ^ its mask"));
    line("commit digest", &hash(&trailer.digest), "of previous_digest, first_position, count, time_ns, link");
    text
}
