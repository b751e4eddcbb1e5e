//! Every bound of the format in one place (FORMAT.md section 1.1). Frozen by format version 1.

/// Smallest commit alignment: the smallest disk sector we know.
pub const BLOCK_BYTES_MIN: u32 = 512;
/// Largest commit alignment; bounds the padding of one commit.
pub const BLOCK_BYTES_MAX: u32 = 65_536;
/// Commit alignment in packed segments, where no device is asked: that of frames.
pub const PACKED_BLOCK_BYTES: u32 = 8;
/// Commit alignment where the device does not say.
pub const BLOCK_BYTES_DEFAULT: u32 = 4096;
/// Torn writes are judged by sectors of this size.
pub const SECTOR_BYTES: usize = 512;
/// A stream name is an address, not a document.
pub const STREAM_NAME_BYTES_MAX: usize = 512;
/// Room for thousands of reads; bodies are for content.
pub const METADATA_BYTES_MAX: usize = 1 << 20;
/// One atomic append: its frames and its trailer. Every `u32` length in a frame fits it.
pub const BATCH_BYTES_MAX: u64 = 1 << 30;
/// A header, a small commit and a footer.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Position tables hold offsets as `u32` in units of 8 bytes.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 30;
/// Lanes of total order.
pub const BUCKET_COUNT: u16 = 4096;
/// The lane of the engine's own records.
pub const ENGINE_LANE: u16 = BUCKET_COUNT;
/// Nesting of CBOR arrays and maps.
pub const METADATA_DEPTH_MAX: usize = 16;
/// Longest origin of a log.
pub const ORIGIN_BYTES_MAX: usize = 512;

const _: () = {
    assert!(BLOCK_BYTES_MIN.is_power_of_two() && BLOCK_BYTES_MAX.is_power_of_two());
    assert!(BUCKET_COUNT.is_power_of_two(), "the bucket is a bit-mask of the stream id");
    assert!(SEGMENT_BYTES_MAX / 8 <= u32::MAX as u64, "position table entries are u32 in units of 8 bytes");
    assert!(BATCH_BYTES_MAX + (BLOCK_BYTES_MAX as u64) * 2 < SEGMENT_BYTES_MAX, "a batch always fits a segment of its own");
    assert!(BATCH_BYTES_MAX <= i32::MAX as u64, "frame lengths stay below the marks of section 4");
};
