//! A small CBOR codec: the deterministic encoding of RFC 8949 section 4.2.1, and nothing else.
//!
//! The reader borrows and refuses every second way of writing a value, so two different byte strings never mean the same metadata.
//! Absent on purpose: tags, indefinite lengths, simple values other than false, true and null.

use crate::limits::METADATA_DEPTH_MAX;
use crate::violation::Violation;

/// One CBOR value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// 0 and above.
    Uint(u64),
    /// Below 0: the value is -1 - n.
    Nint(u64),
    /// Byte string.
    Bytes(Vec<u8>),
    /// Text string.
    Text(String),
    /// Array.
    Array(Vec<Value>),
    /// Map; the writer sorts its keys.
    Map(Vec<(Value, Value)>),
    /// Truth value.
    Bool(bool),
    /// Null.
    Null,
    /// Floating point number.
    Float(f64),
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A signed integer.
    #[must_use]
    pub fn int(value: i64) -> Value {
        u64::try_from(value).map_or_else(|_| Value::Nint(!value as u64), Value::Uint)
    }

    /// The value as a signed integer, if it is one that fits.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Value::Uint(n) => i64::try_from(n).ok(),
            Value::Nint(n) => i64::try_from(n).ok().map(|n| -1 - n),
            _ => None,
        }
    }

    /// Appends the deterministic encoding of this value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Uint(n) => head(out, 0, *n),
            Value::Nint(n) => head(out, 1, *n),
            Value::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Array(items) => {
                head(out, 4, items.len() as u64);
                for item in items {
                    item.encode(out);
                }
            }
            Value::Map(entries) => {
                let mut encoded: Vec<(Vec<u8>, &Value)> = entries
                    .iter()
                    .map(|(key, value)| {
                        let mut bytes = Vec::new();
                        key.encode(&mut bytes);
                        (bytes, value)
                    })
                    .collect();
                encoded.sort_by(|a, b| a.0.cmp(&b.0));
                head(out, 5, encoded.len() as u64);
                for (key, value) in encoded {
                    out.extend_from_slice(&key);
                    value.encode(out);
                }
            }
            Value::Bool(value) => out.push(0xF4 + u8::from(*value)),
            Value::Null => out.push(0xF6),
            Value::Float(value) => float(out, *value),
        }
    }
}

/// Writes the head of an item: major type and argument, in the shortest form.
pub fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xFF => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xFFFF => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(&[0xF9, 0x7E, 0x00]);
    } else if let Some(half) = to_half(value) {
        out.push(0xF9);
        out.extend_from_slice(&half.to_be_bytes());
    } else if f64::from(value as f32) == value {
        out.push(0xFA);
        out.extend_from_slice(&(value as f32).to_be_bytes());
    } else {
        out.push(0xFB);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The half-precision bits of `value`, if it is exactly representable there. Not for NaN.
fn to_half(value: f64) -> Option<u16> {
    let sign = if value.is_sign_negative() { 0x8000_u16 } else { 0 };
    let magnitude = value.abs();
    let bits = if magnitude == 0.0 {
        0
    } else if magnitude.is_infinite() {
        0x7C00
    } else {
        let exponent = ((magnitude.to_bits() >> 52) as i32) - 1023;
        if !(-24..=15).contains(&exponent) {
            return None;
        }
        // Normal halves have 10 fraction bits; below 2^-14 the step stays at 2^-24.
        let scaled = magnitude * f64::from(2_f32.powi(10 - exponent.max(-14)));
        if scaled.fract() != 0.0 {
            return None;
        }
        let fraction = scaled as u16;
        if exponent < -14 { fraction } else { (((exponent + 15) as u16) << 10) | (fraction & 0x03FF) }
    };
    (from_half(sign | bits) == value).then_some(sign | bits)
}

fn from_half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1F);
    let fraction = f64::from(bits & 0x03FF);
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 != 0 { -magnitude } else { magnitude }
}

/// A value on its way in: containers are announced by their length, their items follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// 0 and above.
    Uint(u64),
    /// -1 - n.
    Nint(u64),
    /// Byte string.
    Bytes(&'a [u8]),
    /// Text string.
    Text(&'a str),
    /// Array of that many items.
    Array(u64),
    /// Map of that many pairs.
    Map(u64),
    /// Truth value.
    Bool(bool),
    /// Null.
    Null,
    /// Floating point number.
    Float(f64),
}

const fn m1(why: &'static str) -> Violation {
    Violation::new("M1", why)
}

/// Reads CBOR items one after the other; strict.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next item.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Violation> {
        let left = &self.bytes[self.at..];
        let count = usize::try_from(count).ok().filter(|&count| count <= left.len()).ok_or(m1("metadata is cut short"))?;
        self.at += count;
        Ok(&left[..count])
    }

    fn argument(&mut self, info: u8) -> Result<u64, Violation> {
        let (value, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (self.take(2)?.iter().fold(0, |n, &b| n << 8 | u64::from(b)), 0x100),
            26 => (self.take(4)?.iter().fold(0, |n, &b| n << 8 | u64::from(b)), 0x1_0000),
            27 => (self.take(8)?.iter().fold(0, |n, &b| n << 8 | u64::from(b)), 0x1_0000_0000),
            _ => return Err(m1("reserved or indefinite length in metadata")),
        };
        if value < least { Err(m1("integer in metadata is not in its shortest form")) } else { Ok(value) }
    }

    /// The next item.
    ///
    /// # Errors
    /// Rule M1 if the bytes are no deterministic CBOR.
    pub fn item(&mut self) -> Result<Item<'a>, Violation> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1F);
        if major == 7 {
            return match info {
                20 => Ok(Item::Bool(false)),
                21 => Ok(Item::Bool(true)),
                22 => Ok(Item::Null),
                25..=27 => self.float(first),
                _ => Err(m1("simple value in metadata is not false, true or null")),
            };
        }
        let argument = self.argument(info)?;
        match major {
            0 => Ok(Item::Uint(argument)),
            1 => Ok(Item::Nint(argument)),
            2 => Ok(Item::Bytes(self.take(argument)?)),
            3 => std::str::from_utf8(self.take(argument)?).map(Item::Text).map_err(|_| m1("text in metadata is not UTF-8")),
            4 => Ok(Item::Array(argument)),
            5 => Ok(Item::Map(argument)),
            _ => Err(m1("tags are not used in metadata")),
        }
    }

    fn float(&mut self, first: u8) -> Result<Item<'a>, Violation> {
        let start = self.at - 1;
        let value = match first & 0x1F {
            25 => from_half(u16::from_be_bytes(self.take(2)?.try_into().expect("2 bytes"))),
            26 => f64::from(f32::from_be_bytes(self.take(4)?.try_into().expect("4 bytes"))),
            _ => f64::from_be_bytes(self.take(8)?.try_into().expect("8 bytes")),
        };
        let mut shortest = Vec::with_capacity(9);
        float(&mut shortest, value);
        if shortest == self.bytes[start..self.at] {
            Ok(Item::Float(value))
        } else {
            Err(m1("float in metadata is not in its shortest form"))
        }
    }

    /// Reads one whole value and calls back for nothing: only checks that it is well formed, and returns its bytes.
    ///
    /// # Errors
    /// Rule M1.
    pub fn skip(&mut self) -> Result<&'a [u8], Violation> {
        let start = self.at;
        self.skip_at(METADATA_DEPTH_MAX)?;
        Ok(&self.bytes[start..self.at])
    }

    fn skip_at(&mut self, depth: usize) -> Result<(), Violation> {
        match self.item()? {
            Item::Array(count) => {
                let depth = depth.checked_sub(1).ok_or(m1("metadata is nested too deeply"))?;
                (0..count).try_for_each(|_| self.skip_at(depth))
            }
            Item::Map(count) => {
                let depth = depth.checked_sub(1).ok_or(m1("metadata is nested too deeply"))?;
                let mut last: Option<&[u8]> = None;
                (0..count).try_for_each(|_| {
                    let start = self.at;
                    self.skip_at(depth)?;
                    let key = &self.bytes[start..self.at];
                    if last.is_some_and(|last| last >= key) {
                        return Err(m1("map keys in metadata are not sorted, or occur twice"));
                    }
                    last = Some(key);
                    self.skip_at(depth)
                })
            }
            _ => Ok(()),
        }
    }

    /// Reads one whole value.
    ///
    /// # Errors
    /// Rule M1.
    pub fn value(&mut self) -> Result<Value, Violation> {
        // Checked first: after that, counts are bounded by the bytes that hold them, and nesting by the limit.
        let mut checked = Reader::new(self.skip()?);
        checked.value_unchecked()
    }

    fn value_unchecked(&mut self) -> Result<Value, Violation> {
        Ok(match self.item()? {
            Item::Uint(n) => Value::Uint(n),
            Item::Nint(n) => Value::Nint(n),
            Item::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Item::Text(text) => Value::Text(text.to_owned()),
            Item::Array(count) => Value::Array((0..count).map(|_| self.value_unchecked()).collect::<Result<_, _>>()?),
            Item::Map(count) => {
                Value::Map((0..count).map(|_| Ok((self.value_unchecked()?, self.value_unchecked()?))).collect::<Result<_, _>>()?)
            }
            Item::Bool(value) => Value::Bool(value),
            Item::Null => Value::Null,
            Item::Float(value) => Value::Float(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    /// Examples of RFC 8949 appendix A.
    #[test]
    fn examples_of_the_rfc() {
        let cases: [(Value, &[u8]); 16] = [
            (Value::Uint(0), &[0x00]),
            (Value::Uint(23), &[0x17]),
            (Value::Uint(24), &[0x18, 0x18]),
            (Value::Uint(1000), &[0x19, 0x03, 0xE8]),
            (Value::Uint(u64::MAX), &[0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (Value::int(-1), &[0x20]),
            (Value::int(-1000), &[0x39, 0x03, 0xE7]),
            (Value::Float(0.0), &[0xF9, 0x00, 0x00]),
            (Value::Float(-0.0), &[0xF9, 0x80, 0x00]),
            (Value::Float(1.1), &[0xFB, 0x3F, 0xF1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9A]),
            (Value::Float(65504.0), &[0xF9, 0x7B, 0xFF]),
            (Value::Float(100_000.0), &[0xFA, 0x47, 0xC3, 0x50, 0x00]),
            (Value::Float(5.960_464_477_539_063e-8), &[0xF9, 0x00, 0x01]),
            (Value::Float(0.000_061_035_156_25), &[0xF9, 0x04, 0x00]),
            (Value::Float(f64::INFINITY), &[0xF9, 0x7C, 0x00]),
            (Value::text("\u{fc}"), &[0x62, 0xC3, 0xBC]),
        ];
        for (value, bytes) in cases {
            assert_eq!(encoded(&value), bytes, "{value:?}");
            assert_eq!(Reader::new(bytes).value(), Ok(value));
        }
    }

    #[test]
    fn refuses_every_second_way() {
        let cases: [&[u8]; 12] = [
            &[0x18, 0x17],                                           // 23 in two bytes
            &[0x1B, 0, 0, 0, 0, 0, 0, 0, 1],                         // 1 in nine bytes
            &[0x5F, 0xFF],                                           // indefinite bytes
            &[0x9F, 0xFF],                                           // indefinite array
            &[0xC0, 0x00],                                           // tag
            &[0xF7],                                                 // undefined
            &[0xF8, 0x20],                                           // simple value 32
            &[0xFA, 0x3F, 0x80, 0, 0],                               // 1.0 as single
            &[0xF9, 0x7E, 0x01],                                     // another NaN
            &[0xA2, 0x02, 0x00, 0x01, 0x00],                         // keys not sorted
            &[0xA2, 0x01, 0x00, 0x01, 0x00],                         // key twice
            &[0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], // longer than it is
        ];
        for bytes in cases {
            assert!(Reader::new(bytes).value().is_err(), "{bytes:02x?}");
        }
        let deep = [[0x81].repeat(METADATA_DEPTH_MAX + 1), vec![0x00]].concat();
        assert!(Reader::new(&deep).skip().is_err());
        assert!(Reader::new(&deep[1..]).skip().is_ok());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::Uint),
            any::<u64>().prop_map(Value::Nint),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
            ".{0,20}".prop_map(Value::Text),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
            any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()).prop_map(Value::Float),
            any::<f32>().prop_filter("NaN", |f| !f.is_nan()).prop_map(|f| Value::Float(f.into())),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Map(map.into_iter().map(|(k, v)| (Value::Text(k), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(value in any_value()) {
            let bytes = encoded(&value);
            let read = Reader::new(&bytes).value().unwrap();
            prop_assert_eq!(encoded(&read), bytes);
        }

        #[test]
        fn what_is_accepted_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.value() {
                prop_assert_eq!(&encoded(&value)[..], &bytes[..reader.offset()]);
            }
        }
    }
}
