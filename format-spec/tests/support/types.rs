//! The layouts that the code really has, for comparison with the tables of FORMAT.md.

use std::mem::offset_of;

use chainring_format::commit::CommitTrailer;
use chainring_format::footer::{FooterHeader, FooterTail, HeadEntry};
use chainring_format::frame::{FrameHeader, GenesisBody};
use chainring_format::record::{AnchorHead, KeyBody, SealBody};
use chainring_format::segment::SegmentHeader;

/// Size of the field that `_` leads to.
fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Name and size of a type, and name, offset and size of each of its fields, in order.
pub(crate) type Type = (&'static str, usize, Vec<(&'static str, usize, usize)>);

macro_rules! layout {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        (
            stringify!($type),
            size_of::<$type>(),
            vec![$((stringify!($field), offset_of!($type, $field), size_of_field(|value: &$type| &value.$field))),+],
        )
    };
}

/// All types with a table in FORMAT.md, in its order.
pub(crate) fn types() -> Vec<Type> {
    vec![
        layout!(SegmentHeader {
            magic,
            header_crc,
            read_version,
            write_version,
            features,
            suite,
            reserved_a,
            block_bytes,
            number,
            segment_bytes,
            epoch,
            first_position,
            created_at_ns,
            salt,
            log_id,
            prev_end_offset,
            prev_footer_bytes,
            prev_cut_bytes,
            prev_commit_digest,
            prev_heads_root,
            packed_end_offset,
            unpacked_end_offset,
            reserved_b,
        }),
        layout!(CommitTrailer {
            magic,
            trailer_crc,
            first_position,
            count,
            flags,
            commit_bytes,
            watermark,
            time_ns,
            epoch,
            reserved_a,
            previous_digest,
            digest,
            mac,
            reserved_b,
        }),
        layout!(FooterHeader {
            magic,
            footer_crc,
            footer_bytes,
            end_offset,
            next_position,
            head_count,
            stride,
            offset_count,
            reserved,
            commit_digest,
            reserved_b,
        }),
        layout!(HeadEntry { bucket, reserved, count, position, link }),
        layout!(FooterTail { footer_bytes, magic }),
        layout!(FrameHeader {
            frame_bytes,
            header_crc,
            body_crc,
            metadata_bytes,
            body_bytes,
            name_bytes,
            kind,
            flags,
            version,
            recorded_at_ns,
            bucket_back,
            stream_back,
            batch_index,
            batch_count,
            stream_id,
            event_id,
            link,
        }),
        layout!(GenesisBody { nonce, log_key, created_at_ns, bucket_count, suite, origin_bytes, reserved }),
        layout!(SealBody {
            number,
            position,
            previous_seal,
            tree_size,
            tree_root,
            heads_root,
            streams_root,
            events,
            erasures,
            time_ns,
            log_key,
            signed_size,
            signed_root,
            signature,
            reserved,
        }),
        layout!(KeyBody { old_key, new_key, old_signature, new_signature, reserved }),
        layout!(AnchorHead { form, reserved, size, note_sha256 }),
    ]
}
