//! The metadata of an event (FORMAT.md section 8, metadata.cddl): rules M1, M2 and M3.
//!
//! Always: first the whole item is checked for its one encoding (M1), then the known keys for their types (M2), then for what an event must have (M3).
//! Never: judges unknown keys; they are only required to be deterministic CBOR.

use crate::cbor::{Cursor, Item, Why};

/// Largest metadata of a frame.
pub(crate) const METADATA_BYTES_MAX: u32 = 1_048_576;

/// The rule that fails and why.
pub(crate) type Broken = (&'static str, Why);

/// Checks M1, M2 and, for an event, M3.
pub(crate) fn check(metadata: &[u8], is_event: bool) -> Result<(), Broken> {
    check_encoding(metadata).map_err(|why| ("M1", why))?;
    let has_type = check_types(metadata).map_err(|why| ("M2", why))?;
    if is_event && !has_type {
        return Err(("M3", "an event has no type (key 1)"));
    }
    Ok(())
}

/// M1: one deterministic item, a map with unsigned integer keys, nothing behind it.
fn check_encoding(metadata: &[u8]) -> Result<(), Why> {
    let mut whole = Cursor::new(metadata);
    whole.skip(0)?;
    if !whole.is_at_end() {
        return Err("bytes behind the metadata map");
    }
    let mut cursor = Cursor::new(metadata);
    let Item::Map(count) = cursor.next()? else { return Err("metadata is not a map") };
    for _ in 0..count {
        let Item::Unsigned(_) = cursor.next()? else { return Err("a key of the metadata map is not an unsigned integer") };
        cursor.skip(1)?;
    }
    Ok(())
}

/// M2 at the top level; tells whether key 1 is there.
fn check_types(metadata: &[u8]) -> Result<bool, Why> {
    let mut has_type = false;
    entries(&mut Cursor::new(metadata), |key, cursor| {
        has_type |= key == 1;
        match key {
            1 | 3 | 5 | 6 | 7 | 20 => text(cursor),
            2 | 9 | 19 => unsigned(cursor, u64::MAX),
            4 => time(cursor),
            8 | 15 => bytes(cursor, Some(16)),
            10 => unsigned(cursor, 8),
            11 => list(cursor, 1, authority),
            12 | 13 => list(cursor, 0, read),
            14 => list(cursor, 1, external),
            16 => unsigned(cursor, 3),
            17 => trace(cursor),
            18 => attributes(cursor),
            _ => cursor.skip(1),
        }
    })?;
    Ok(has_type)
}

/// Runs `check` on the value of every key of a map with unsigned integer keys.
fn entries<'a>(cursor: &mut Cursor<'a>, mut check: impl FnMut(u64, &mut Cursor<'a>) -> Result<(), Why>) -> Result<(), Why> {
    let Item::Map(count) = cursor.next()? else { return Err("a value that must be a map is not") };
    for _ in 0..count {
        let Item::Unsigned(key) = cursor.next()? else { return Err("a key that must be an unsigned integer is not") };
        check(key, cursor)?;
    }
    Ok(())
}

fn list<'a>(cursor: &mut Cursor<'a>, least: u64, element: fn(&mut Cursor<'a>) -> Result<(), Why>) -> Result<(), Why> {
    match cursor.next()? {
        Item::Array(count) if count >= least => (0..count).try_for_each(|_| element(cursor)),
        Item::Array(_) => Err("a list that must not be empty is"),
        _ => Err("a value that must be an array is not"),
    }
}

fn authority(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    entries(cursor, |key, cursor| match key {
        1 | 4 | 5 | 6 => text(cursor),
        2 => unsigned(cursor, u64::MAX),
        3 => bytes(cursor, Some(32)),
        7 => bytes(cursor, None),
        8 | 9 => bytes(cursor, Some(16)),
        _ => cursor.skip(3),
    })
}

fn read(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    let mut required = 0;
    entries(cursor, |key, cursor| {
        required += u32::from(key == 1 || key == 2);
        match key {
            1 => text(cursor),
            2 => unsigned(cursor, u64::MAX),
            3 => bytes(cursor, None),
            4 => unsigned(cursor, 1),
            _ => cursor.skip(3),
        }
    })?;
    if required == 2 { Ok(()) } else { Err("a read lacks its stream or version") }
}

fn external(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    let mut has_resource = false;
    entries(cursor, |key, cursor| {
        has_resource |= key == 1;
        match key {
            1 | 2 => text(cursor),
            3 => bytes(cursor, None),
            4 => time(cursor),
            5 => unsigned(cursor, u64::MAX),
            _ => cursor.skip(3),
        }
    })?;
    if has_resource { Ok(()) } else { Err("an external read lacks its resource") }
}

fn attributes(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    let Item::Map(count) = cursor.next()? else { return Err("attributes are not a map") };
    for _ in 0..count {
        text(cursor)?;
        cursor.skip(2)?;
    }
    Ok(())
}

fn trace(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    match cursor.next()? {
        Item::Array(count @ 1..=2) => (0..count).try_for_each(|_| text(cursor)),
        _ => Err("a trace is not an array of one or two texts"),
    }
}

fn time(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    let Item::Array(2) = cursor.next()? else { return Err("a time is not an array of two") };
    let (Item::Unsigned(_) | Item::Negative(_)) = cursor.next()? else { return Err("seconds are not an integer") };
    unsigned(cursor, 999_999_999)
}

fn text(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    if matches!(cursor.next()?, Item::Text(_)) { Ok(()) } else { Err("a value that must be text is not") }
}

fn unsigned(cursor: &mut Cursor<'_>, most: u64) -> Result<(), Why> {
    match cursor.next()? {
        Item::Unsigned(value) if value <= most => Ok(()),
        Item::Unsigned(_) => Err("an unsigned integer is out of its range"),
        _ => Err("a value that must be an unsigned integer is not"),
    }
}

fn bytes(cursor: &mut Cursor<'_>, length: Option<usize>) -> Result<(), Why> {
    match cursor.next()? {
        Item::Bytes(bytes) if length.is_none_or(|length| bytes.len() == length) => Ok(()),
        Item::Bytes(_) => Err("a byte string has the wrong length"),
        _ => Err("a value that must be a byte string is not"),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    fn rule(metadata: &[u8]) -> Option<&'static str> {
        check(metadata, true).err().map(|(rule, _)| rule)
    }

    fn keyed(key: u8, value: &[u8]) -> Vec<u8> {
        let key: &[u8] = if key < 24 { &[key] } else { &[0x18, key] };
        [&[0xA2, 0x01, 0x61, b't'], key, value].concat()
    }

    #[test]
    fn known_keys_take_their_types_and_nothing_else() {
        let (text, unsigned, id, map, array) =
            (&[0x61, b'x'][..], &[0x05][..], &[&[0x50][..], &[7; 16]].concat()[..], &[0xA0][..], &[0x80][..]);
        let time = &[0x82, 0x20, 0x1A, 0x3B, 0x9A, 0xC9, 0xFF][..];
        let read = &[0x81, 0xA2, 0x01, 0x61, b's', 0x02, 0x03][..];
        let authority = &[0x81, 0xA1, 0x02, 0x03][..];
        let external = &[0x81, 0xA1, 0x01, 0x61, b'r'][..];
        let trace = &[0x82, 0x61, b'a', 0x61, b'b'][..];
        let values = [text, unsigned, id, map, array, time, read, authority, external, trace, &[0xF6], &[0xF9, 0, 0]];
        let right: [(u8, &[&[u8]]); 20] = [
            (2, &[unsigned]),
            (3, &[text]),
            (4, &[time]),
            (5, &[text]),
            (6, &[text]),
            (7, &[text]),
            (8, &[id]),
            (9, &[unsigned]),
            (10, &[unsigned]),
            (11, &[authority]),
            (12, &[array, read]),
            (13, &[array, read]),
            (14, &[external]),
            (15, &[id]),
            (16, &[]),
            (17, &[trace]),
            (18, &[map]),
            (19, &[unsigned]),
            (20, &[text]),
            (99, &values),
        ];
        for (key, right) in right {
            for value in values {
                // A read is an authority with a stream and a version, and an external's resource is an authority's stream.
                let also = key == 11 && (value == read || value == external);
                let expected = if right.contains(&value) || also { None } else { Some("M2") };
                assert_eq!(rule(&keyed(key, value)), expected, "key {key} value {value:02x?}");
            }
        }
        assert_eq!(rule(&keyed(16, &[0x03])), None);
        assert_eq!(rule(&keyed(16, &[0x04])), Some("M2"));
        assert_eq!(rule(&keyed(10, &[0x09])), Some("M2"));
        assert_eq!(rule(&keyed(4, &[0x82, 0x00, 0x1A, 0x3B, 0x9A, 0xCA, 0x00])), Some("M2"));
    }

    #[test]
    fn encoding_and_type_have_their_own_rules() {
        assert_eq!(rule(&[]), Some("M1"));
        assert_eq!(rule(&[0x80]), Some("M1"));
        assert_eq!(rule(&[0xA1, 0x20, 0x00]), Some("M1"));
        assert_eq!(rule(&[0xA1, 0x01, 0x61, b't', 0x00]), Some("M1"));
        assert_eq!(rule(&[0xA0]), Some("M3"));
        assert_eq!(rule(&[0xA1, 0x01, 0x00]), Some("M2"));
        assert_eq!(rule(&keyed(18, &[0xA1, 0x01, 0x00])), Some("M2"));
        assert_eq!(rule(&keyed(12, &[0x81, 0xA1, 0x01, 0x61, b's'])), Some("M2"));
    }
}
