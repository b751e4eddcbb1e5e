//! FORMAT.md and metadata.cddl against the code: layouts, limits, marks, contexts, metadata keys, and the example at the top.
//!
//! [`differences`] is a plain function over the text, so that a doctored copy of the document can show that it finds what it looks for.

mod support;

use chainring_format::metadata::{Class, Reversibility, key};
use chainring_format::{Mark, checksum, commit, footer, frame, hash, limits, record, segment};
use support::bless::{blessing, golden_file, here};
use support::document::{block, layouts, table_behind};
use support::types::types;
use support::{example, inner_keys};

/// Everything in which the document and the code differ.
fn differences(document: &str, cddl: &str) -> Vec<String> {
    let mut found = Vec::new();
    layout_differences(document, &mut found);
    limit_differences(document, &mut found);
    mark_differences(document, &mut found);
    context_differences(document, &mut found);
    key_differences(document, cddl, &mut found);
    inner_key_differences(document, cddl, &mut found);
    found
}

fn layout_differences(document: &str, found: &mut Vec<String>) {
    let (tables, types) = match layouts(document) {
        Ok(tables) => (tables, types()),
        Err(why) => return found.push(why),
    };
    let names = |all: Vec<&str>| all.join(", ");
    let (in_document, in_code) = (names(tables.iter().map(|t| &t.name[..]).collect()), names(types.iter().map(|t| t.0).collect()));
    if in_document != in_code {
        found.push(format!("the document has tables of {in_document}, the code has {in_code}"));
    }
    for (table, (name, size, fields)) in tables.iter().zip(types) {
        if table.size != size {
            found.push(format!("{name} has {size} bytes, the document says {}", table.size));
        }
        let rows: Vec<(&str, usize, usize)> = table.rows.iter().map(|(offset, size, field, _)| (&field[..], *offset, *size)).collect();
        for (row, field) in rows.iter().zip(&fields).filter(|(row, field)| row != field) {
            found.push(format!("{name}: the document has {row:?}, the code {field:?}"));
        }
        if rows.len() != fields.len() {
            found.push(format!("{name}: the document has {} fields, the code {}", rows.len(), fields.len()));
        }
        // Fields of the code are listed by hand above; a gap would be a field that was forgotten there.
        let end = fields.iter().fold(0, |end, &(_, offset, bytes)| if offset == end { end + bytes } else { usize::MAX / 2 });
        if end != size {
            found.push(format!("{name}: its fields do not fill it"));
        }
    }
}

fn limit_differences(document: &str, found: &mut Vec<String>) {
    let code: [(&str, u64); 11] = [
        ("BLOCK_BYTES_MIN", limits::BLOCK_BYTES_MIN.into()),
        ("BLOCK_BYTES_MAX", limits::BLOCK_BYTES_MAX.into()),
        ("PACKED_BLOCK_BYTES", limits::PACKED_BLOCK_BYTES.into()),
        ("STREAM_NAME_BYTES_MAX", limits::STREAM_NAME_BYTES_MAX as u64),
        ("METADATA_BYTES_MAX", limits::METADATA_BYTES_MAX as u64),
        ("BATCH_BYTES_MAX", limits::BATCH_BYTES_MAX),
        ("SEGMENT_BYTES_MIN", limits::SEGMENT_BYTES_MIN),
        ("SEGMENT_BYTES_MAX", limits::SEGMENT_BYTES_MAX),
        ("BUCKET_COUNT", limits::BUCKET_COUNT.into()),
        ("ENGINE_LANE", limits::ENGINE_LANE.into()),
        ("METADATA_DEPTH_MAX", limits::METADATA_DEPTH_MAX as u64),
    ];
    let rows: Vec<String> = table_behind(document, "### 1.1 Limits").iter().map(|row| row[..2].join(" = ")).collect();
    compare("limits", &rows, &code.map(|(name, value)| format!("`{name}` = {value}")), found);
}

/// Compares two lists line by line.
fn compare(what: &str, document: &[String], code: &[String], found: &mut Vec<String>) {
    let lines = document.len().max(code.len());
    let none = String::from("nothing");
    for line in 0..lines {
        let (document, code) = (document.get(line).unwrap_or(&none), code.get(line).unwrap_or(&none));
        if document != code {
            found.push(format!("{what}: the document has {document}, the code {code}"));
        }
    }
}

fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(" ")
}

/// Magic numbers and other constants in prose: each must stand there as the code has it.
fn mark_differences(document: &str, found: &mut Vec<String>) {
    let trailer = commit::TRAILER_MAGIC.to_le_bytes();
    let footer = footer::FOOTER_MAGIC.to_le_bytes();
    let (frame_min, frame_max) = (frame::FRAME_BYTES_MIN, frame::FRAME_BYTES_MAX);
    let marks = [
        format!("| `{frame_min} ..= 0x{frame_max:08X}`, multiple of 8 | a frame of that many bytes |"),
        format!("| `0x{:08X}` | padding: bytes `{:02X}` up to the trailer", commit::PADDING_MARK, commit::PADDING_BYTE),
        format!("| `0x{:08X}` (bytes `{}`, \"CMT\\xF1\") | the trailer", commit::TRAILER_MAGIC, upper_hex(&trailer)),
        format!("| `0x{:08X}` (bytes `{}`, \"FTR\\xF1\") | a footer", footer::FOOTER_MAGIC, upper_hex(&footer)),
        format!("| magic | `{}` (\"CHRSEG\\r\\n\") |", upper_hex(&segment::SEGMENT_MAGIC)),
        format!("| magic | `{}` (\"CHRFTR\\r\\n\") |", upper_hex(&footer::FOOTER_TAIL_MAGIC)),
        format!("| magic | `0x{:08X}` |\n| 4 | 4 | trailer_crc", commit::TRAILER_MAGIC),
        format!("| magic | `0x{:08X}` |\n| 4 | 4 | footer_crc", footer::FOOTER_MAGIC),
        format!("positions between two entries of the position table: {} |", footer::POSITION_STRIDE),
        format!("entry k = file offset / 8 of the frame at position `first_position + {} k`", footer::POSITION_STRIDE),
        format!(
            "| kind | {} genesis, {} seal, {} key, {} anchor, {} event;",
            frame::KIND_GENESIS,
            record::KIND_SEAL,
            record::KIND_KEY,
            record::KIND_ANCHOR,
            frame::KIND_EVENT
        ),
        format!("the artefact has 1 to {} bytes", record::ARTEFACT_BYTES_MAX),
        format!("`crc32c(\"123456789\") = 0x{:08X}`", checksum::crc(b"123456789")),
        format!("in the last {} bytes of its last block", commit::TRAILER_BYTES),
        format!("align(here + {}, block_bytes) - {}", commit::TRAILER_BYTES, commit::TRAILER_BYTES),
        format!("`slot_bytes = max({}, body_bytes + ({} if SALTED else 0))`", frame::SLOT_BYTES_MIN, frame::SALT_BYTES),
        format!("align({} + name_bytes + metadata_bytes + slot_bytes, 8)", frame::FRAME_HEADER_BYTES),
        format!("0x{:X} = that far or farther", frame::BACK_FAR),
        format!("leaf ({})", hash::LEAF_BYTES),
        format!("length of the origin that follows, 0..={}, UTF-8", limits::ORIGIN_BYTES_MAX),
        format!("Bit {} `PACKED`", segment::FEATURE_PACKED.trailing_zeros()),
        format!("512..=65536; {} in a packed segment", limits::PACKED_BLOCK_BYTES),
        format!("the sector ({} bytes, aligned) in which the bad structure begins", limits::SECTOR_BYTES),
    ];
    found.extend(marks.into_iter().filter(|mark| !document.contains(mark)).map(|mark| format!("the document does not say: {mark}")));
}

/// What the code takes for which structure.
#[test]
fn marks_tell_structures_apart() {
    let of = |value: u32| Mark::of(&value.to_le_bytes());
    assert_eq!((of(152), of(0x7FFF_FFF8)), (Mark::Frame(152), Mark::Frame(0x7FFF_FFF8)));
    assert_eq!((of(u32::MAX), of(0xF154_4D43), of(0xF152_5446)), (Mark::Padding, Mark::Trailer, Mark::Footer));
    for nothing in [0, 8, 144, 151, 153, 156, 0x7FFF_FFF9, 0x8000_0000, 0xFFFF_FFFE, 0xF154_4D44] {
        assert_eq!(of(nothing), Mark::Nothing, "{nothing:#x}");
    }
    assert_eq!(Mark::of(&[152, 0, 0]), Mark::Nothing);
}

fn context_differences(document: &str, found: &mut Vec<String>) {
    let code = [
        (hash::CONTEXT_STREAM_ID, "stream_id"),
        (hash::CONTEXT_STREAM, "name_commit"),
        (hash::CONTEXT_BODY, "body_commit"),
        (hash::CONTEXT_EVENT, "digest"),
        (hash::CONTEXT_COMMIT, "commit digest"),
        (hash::CONTEXT_PACKED, "packed_salt"),
    ];
    let rows: Vec<String> = table_behind(document, "Contexts are ASCII").iter().map(|row| row.join(" for ")).collect();
    compare("contexts", &rows, &code.map(|(context, what)| format!("`{context}` for {what}")), found);
    // The formulas repeat the contexts.
    let behind = document.find("### 7.1").map_or("", |start| &document[start..]);
    let formulas = |context: &str| behind.contains(&format!("derive(\"{context}\","));
    found.extend(code.iter().filter(|(context, _)| !formulas(context)).map(|(context, _)| format!("no formula uses {context}")));
}

/// Keys of the metadata map: number, name, type in the document, type in the CDDL.
const KEYS: [(u64, &str, &str, &str); 20] = [
    (key::TYPE, "type", "text", "tstr"),
    (key::SCHEMA_VERSION, "schema_version", "uint", "uint"),
    (key::CONTENT_TYPE, "content_type", "text", "tstr"),
    (key::OCCURRED_AT, "occurred_at", "[int seconds, uint nanoseconds]", "time"),
    (key::ACTOR, "actor", "text", "tstr"),
    (key::ON_BEHALF_OF, "on_behalf_of", "text", "tstr"),
    (key::CORRELATION, "correlation", "text", "tstr"),
    (key::CAUSATION, "causation", "bytes 16", "event-id"),
    (key::RUN_EPOCH, "run_epoch", "uint", "uint"),
    (key::CLASS, "class", "uint", "class"),
    (key::AUTHORITY, "authority", "[+ map]", "[+ authority]"),
    (key::READS, "reads", "[* map]", "[* read]"),
    (key::CHECKED, "checked", "[* map]", "[* read]"),
    (key::EXTERNAL, "external", "[+ map]", "[+ external]"),
    (key::COMPENSATES, "compensates", "bytes 16", "event-id"),
    (key::REVERSIBILITY, "reversibility", "uint", "reversibility"),
    (key::TRACE, "trace", "[text, ? text]", "[traceparent: tstr, ? tracestate: tstr]"),
    (key::ATTRIBUTES, "attributes", "map text => any", "{ * tstr => any-value }"),
    (key::EXPECTED_VERSION, "expected_version", "uint", "uint"),
    (key::BATCH_LABEL, "batch_label", "text", "tstr"),
];

fn key_differences(document: &str, cddl: &str, found: &mut Vec<String>) {
    let heading = "Keys of the top-level map are unsigned integers";
    let rows: Vec<String> = table_behind(document, heading).into_iter().map(|row| row[..3].join(" ")).collect();
    compare("metadata keys", &rows, &KEYS.map(|(key, name, text, _)| format!("{key} {name} {text}")), found);
    let needed = |key: u64| if key == key::TYPE { "" } else { "? " };
    let rules = KEYS.map(|(key, _, _, rule)| format!("{}{key} => {rule}", needed(key)));
    compare("metadata.cddl", &cddl_rules(cddl, "metadata"), &rules, found);

    let classes: Vec<String> = (0..).map_while(Class::from_code).enumerate().map(|(code, class)| format!("{code} {class:?}")).collect();
    let steps = (0..).map_while(Reversibility::from_code).enumerate();
    let steps: Vec<String> = steps.map(|(code, step)| format!("{code} {step:?}")).collect();
    for (name, codes) in [("class", classes), ("reversibility", steps)] {
        let row = table_behind(document, heading).into_iter().find(|row| row[1] == name);
        let said: Vec<String> = row.map_or_else(Vec::new, |row| row[3].split(", ").map(camel).collect());
        compare(name, &said, &codes, found);
    }
}

/// "2 externally reversible" as "2 ExternallyReversible".
fn camel(text: &str) -> String {
    let (code, words) = text.split_once(' ').unwrap_or((text, ""));
    let capital = |word: &str| word.get(..1).unwrap_or("").to_uppercase() + word.get(1..).unwrap_or("");
    format!("{code} {}", words.split([' ', '-']).map(capital).collect::<String>())
}

/// `KEY => TYPE` lines of one CDDL map, without comments and trailing commas; the line for unknown keys is left out.
fn cddl_rules(cddl: &str, map: &str) -> Vec<String> {
    let start = format!("\n{map} = {{");
    let lines = cddl.split_once(&start).map_or("", |(_, behind)| behind).lines().skip(1);
    let rules = lines.take_while(|line| *line != "}").map(|line| line.split("  ;").next().unwrap_or(line).trim().trim_end_matches(','));
    rules.filter(|rule| *rule != "* uint => any-value").map(str::to_owned).collect()
}

/// The maps inside: the keys that the codec really writes, against the prose and the CDDL.
fn inner_key_differences(document: &str, cddl: &str, found: &mut Vec<String>) {
    for (map, rule, keys) in inner_keys::written() {
        let rows = table_behind(document, "| map | keys |");
        let row = rows.into_iter().find(|row| row[0].split(", ").any(|name| name == map));
        let said = row.map_or_else(Vec::new, |row| inner_keys::said(&row[1]));
        let written: Vec<String> = keys.iter().map(|(key, name)| format!("{key} {name}")).collect();
        compare(map, &said, &written, found);
        let number = |line: &String| line.trim_start_matches("? ").split(' ').next().unwrap_or("").to_owned();
        let numbers: Vec<String> = cddl_rules(cddl, rule).iter().map(number).collect();
        compare(rule, &numbers, &keys.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(), found);
    }
}

fn document() -> String {
    std::fs::read_to_string(here("FORMAT.md")).expect("FORMAT.md stands beside the code")
}

fn cddl() -> String {
    std::fs::read_to_string(here("metadata.cddl")).expect("metadata.cddl stands beside the code")
}

#[test]
fn document_and_code_agree() {
    let found = differences(&document(), &cddl());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The canary: each of these doctored copies must be refused, or the test above proves nothing.
#[test]
fn doctored_documents_are_refused() {
    let doctored = [
        ("| 56 | 8 | first_position |", "| 64 | 8 | first_position |"),
        ("| 72 | 16 | salt |", "| 72 | 8 | salt |"),
        ("| 16 | 8 | features |", "| 16 | 8 | capabilities |"),
        ("| 208 | 8 | packed_end_offset |", "| 208 | 8 | end_offset |"),
        ("Bit 0 `PACKED`", "Bit 1 `PACKED`"),
        ("<!-- table:CommitTrailer size=160 -->", "<!-- table:CommitTrailer size=168 -->"),
        ("<!-- table:HeadEntry size=56 -->", ""),
        ("| 80 | 16 | reserved_b | zero |\n", ""),
        ("| `BATCH_BYTES_MAX` | 1073741824 |", "| `BATCH_BYTES_MAX` | 1073741825 |"),
        ("| `0xF1544D43` (bytes `43 4D 54 F1`", "| `0xF1544D43` (bytes `43 4D 53 F1`"),
        ("| 0 | 4 | magic | `0xF1525446` |", "| 0 | 4 | magic | `0xF1525447` |"),
        ("| `chainring 2026-11 v1 body` | body_commit |", "| `chainring 2026-12 v1 body` | body_commit |"),
        ("derive(\"chainring 2026-11 v1 commit\"", "derive(\"chainring 2026-11 v1 commits\""),
        ("| 19 | expected_version |", "| 21 | expected_version |"),
        ("| 9 | run_epoch | uint |", "| 9 | run_epoch | text |"),
        ("0 fact, 1 intent", "0 intent, 1 fact"),
        ("4 rule text, 5 policy text", "5 rule text, 4 policy text"),
        ("`152 ..= 0x7FFFFFF8`", "`120 ..= 0x7FFFFFF8`"),
    ];
    let (document, cddl) = (document(), cddl());
    for (right, wrong) in doctored {
        assert_eq!(document.matches(right).count(), 1, "{right} stands once in the document");
        assert!(!differences(&document.replace(right, wrong), &cddl).is_empty(), "not noticed: {wrong}");
    }
    for (right, wrong) in [
        ("? 12 => [* read]", "? 12 => [+ read]"),
        ("? 20 => tstr", "? 21 => tstr"),
        ("? 5 => uint,                ; max", "? 6 => uint,                ; max"),
    ] {
        assert_eq!(cddl.matches(right).count(), 1, "{right} stands once in the CDDL");
        assert!(!differences(&document, &cddl.replace(right, wrong)).is_empty(), "not noticed: {wrong}");
    }
}

/// The annotated example at the top is generated, so it never drifts.
#[test]
fn example_is_real() {
    let document = document();
    let (range, _) = block(&document, "example").expect("the document has a place for its example");
    let mut right = document.clone();
    right.replace_range(range, &example::text());
    if blessing() || right != document {
        golden_file("FORMAT.md", right.as_bytes());
    }
}
