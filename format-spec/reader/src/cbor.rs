//! Deterministic CBOR (RFC 8949 section 4.2.1) as FORMAT.md section 8 narrows it.
//!
//! Always: a value that passes has exactly one encoding. Every item takes at least one byte, so hostile counts end at the end of the bytes, and
//! nesting is bounded, so hostile depth ends too.
//! Never: allocates.

/// Nesting of arrays and maps; the outermost counts as the first.
pub(crate) const DEPTH_MAX: u32 = 16;

/// Why bytes are not deterministic CBOR.
pub(crate) type Why = &'static str;

/// The head of one item, and its content where that is a string.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item<'a> {
    Unsigned(u64),
    /// -1 - n
    Negative(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(u64),
    Map(u64),
    /// false, true, null or a float
    Simple,
}

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Why> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() as u64 {
            return Err("CBOR ends inside an item");
        }
        self.at += count as usize;
        Ok(&rest[..count as usize])
    }

    /// The number behind an initial byte, in its shortest form only.
    fn argument(&mut self, info: u8) -> Result<u64, Why> {
        let (width, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            31 => return Err("indefinite length"),
            _ => return Err("reserved CBOR length"),
        };
        let value = self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < least { Err("number is not in its shortest form") } else { Ok(value) }
    }

    /// Reads the next head; strings are consumed whole, arrays and maps up to their first element.
    pub(crate) fn next(&mut self) -> Result<Item<'a>, Why> {
        let initial = self.take(1)?[0];
        let info = initial & 0x1F;
        match initial >> 5 {
            0 => Ok(Item::Unsigned(self.argument(info)?)),
            1 => Ok(Item::Negative(self.argument(info)?)),
            2 => {
                let count = self.argument(info)?;
                Ok(Item::Bytes(self.take(count)?))
            }
            3 => {
                let count = self.argument(info)?;
                let text = std::str::from_utf8(self.take(count)?).map_err(|_| "text is not UTF-8")?;
                Ok(Item::Text(text))
            }
            4 => Ok(Item::Array(self.argument(info)?)),
            5 => Ok(Item::Map(self.argument(info)?)),
            6 => Err("tags are not allowed"),
            _ => self.simple(info),
        }
    }

    fn simple(&mut self, info: u8) -> Result<Item<'a>, Why> {
        let shortest = match info {
            20..=22 => true,
            25 => half_is_shortest(u16::from_be_bytes(fixed(self.take(2)?))),
            26 => single_is_shortest(u32::from_be_bytes(fixed(self.take(4)?))),
            27 => double_is_shortest(u64::from_be_bytes(fixed(self.take(8)?))),
            _ => return Err("simple value other than false, true, null"),
        };
        if shortest { Ok(Item::Simple) } else { Err("float is not in its shortest form") }
    }

    /// Passes over one whole value, checking it; `depth` containers stand around it.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), Why> {
        match self.next()? {
            Item::Array(count) => {
                let depth = deeper(depth)?;
                (0..count).try_for_each(|_| self.skip(depth))
            }
            Item::Map(count) => {
                let depth = deeper(depth)?;
                let mut previous: Option<&[u8]> = None;
                for _ in 0..count {
                    let from = self.at;
                    self.skip(depth)?;
                    let key = &self.bytes[from..self.at];
                    if previous.is_some_and(|previous| previous >= key) {
                        return Err("map keys are out of order or double");
                    }
                    previous = Some(key);
                    self.skip(depth)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn deeper(depth: u32) -> Result<u32, Why> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err("arrays and maps are nested too deep") }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    crate::bytes::array_at(bytes, 0)
}

/// NaN has one form only, and it is this width; nothing is shorter than a half.
fn half_is_shortest(bits: u16) -> bool {
    let is_nan = bits & 0x7C00 == 0x7C00 && bits & 0x03FF != 0;
    !is_nan || bits == 0x7E00
}

/// A single is shortest unless a half holds the same value.
fn single_is_shortest(bits: u32) -> bool {
    let exponent = (bits >> 23 & 0xFF) as i32 - 127;
    let fraction = bits & 0x007F_FFFF;
    let half_holds_it = match exponent {
        -127 => fraction == 0,
        128 => true,
        -14..=15 => fraction.trailing_zeros() >= 13,
        // Below the smallest normal half: one bit less for each power of two.
        -24..=-15 => fraction.trailing_zeros() as i32 >= -1 - exponent,
        _ => false,
    };
    !half_holds_it
}

/// A double is shortest unless a single holds the same value.
fn double_is_shortest(bits: u64) -> bool {
    let value = f64::from_bits(bits);
    !value.is_nan() && f64::from(value as f32).to_bits() != bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Result<(), Why> {
        let mut cursor = Cursor::new(bytes);
        cursor.skip(0)?;
        if cursor.is_at_end() { Ok(()) } else { Err("more") }
    }

    #[test]
    fn every_half_is_a_longer_single_and_a_longer_double() {
        for bits in 0..=u16::MAX {
            let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 0x3FF));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let value = if sign == 1 { -magnitude } else { magnitude };
            assert!(!single_is_shortest((value as f32).to_bits()), "{bits:04x}");
            assert!(!double_is_shortest(value.to_bits()), "{bits:04x}");
            assert_eq!(half_is_shortest(bits), !value.is_nan() || bits == 0x7E00, "{bits:04x}");
        }
    }

    #[test]
    fn floats_that_need_their_width_pass() {
        for value in [0.1f32, 65536.0, 2f32.powi(-25), 2f32.powi(-24) * 1.5, 1.0 + 2f32.powi(-11), f32::MIN_POSITIVE / 2.0] {
            assert!(single_is_shortest(value.to_bits()), "{value}");
            assert!(!double_is_shortest(f64::from(value).to_bits()), "{value}");
        }
        assert!(double_is_shortest(0.1f64.to_bits()));
        assert!(double_is_shortest(1e300f64.to_bits()));
    }

    #[test]
    fn deterministic_items_pass() {
        for bytes in [
            &[0x17][..],
            &[0x18, 0x18],
            &[0x3B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0xA2, 0x01, 0xF6, 0x20, 0x80],
            &[0xF9, 0x7E, 0x00],
            &[0x62, 0xC3, 0xA4],
        ] {
            assert_eq!(whole(bytes), Ok(()), "{bytes:02x?}");
        }
    }

    #[test]
    fn other_items_are_refused() {
        for bytes in [
            &[][..],
            &[0x18, 0x17],
            &[0x19, 0x00, 0xFF],
            &[0x1C],
            &[0x9F, 0xFF],
            &[0xC0, 0x00],
            &[0xF7],
            &[0xF8, 0x20],
            &[0xF9, 0x7E, 0x01],
            &[0xFA, 0x3F, 0x80, 0x00, 0x00],
            &[0x61, 0xFF],
            &[0x41],
            &[0xA2, 0x02, 0x00, 0x01, 0x00],
            &[0xA2, 0x01, 0x00, 0x01, 0x00],
            &[0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ] {
            assert!(whole(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
        assert_eq!(whole(&nested(16)), Ok(()));
        assert!(whole(&nested(17)).is_err());
        assert!(whole(&nested(100_000)).is_err());
    }
}
