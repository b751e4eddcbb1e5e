//! CRC-32C, bound to the place of what it covers (FORMAT.md section 3.2). Frozen by format version 1.

#[cfg(target_arch = "x86_64")]
use crate::crc_chains;

/// Checksum seed of one segment: turns a file offset into the mask of the structure that stands there.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    salt_crc: u32,
}

impl Seed {
    /// Seed of the segment with this salt.
    #[must_use]
    pub fn new(salt: &[u8; 16]) -> Seed {
        Seed { salt_crc: crc32c::crc32c(salt) }
    }

    /// `crc32c(salt || u64 offset)`.
    #[must_use]
    pub fn mask(self, offset: u64) -> u32 {
        let offset = offset.to_le_bytes();
        #[cfg(target_arch = "x86_64")]
        if let Some(mask) = crc_chains::word(self.salt_crc, &offset) {
            return mask;
        }
        crc32c::crc32c_append(self.salt_crc, &offset)
    }
}

/// Plain CRC-32C.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = crc_chains::one(bytes) {
        return crc;
    }
    crc32c::crc32c(bytes)
}

/// Plain CRC-32C of each of two pieces, sooner than one after the other.
#[must_use]
pub fn crc_pair(a: &[u8], b: &[u8]) -> (u32, u32) {
    #[cfg(target_arch = "x86_64")]
    if let Some(pair) = crc_chains::two(a, b) {
        return pair;
    }
    (crc(a), crc(b))
}

/// CRC-32C of bytes that follow those already summed up in `crc`.
#[must_use]
pub fn crc_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_rfc_3720() {
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc_append(crc(b"1234"), b"56789"), crc(b"123456789"));
    }

    #[test]
    fn masks_differ_by_place_and_by_salt() {
        let a = Seed::new(&[1; 16]);
        assert_ne!(a.mask(4096), a.mask(8192));
        assert_ne!(a.mask(4096), Seed::new(&[2; 16]).mask(4096));
        let mut all = [1_u8; 24];
        all[16..].copy_from_slice(&4096_u64.to_le_bytes());
        assert_eq!(a.mask(4096), crc(&all));
    }
}
