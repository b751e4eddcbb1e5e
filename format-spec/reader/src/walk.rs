//! The auditor's walk: every record that verification held, in order of positions, with its parts.
//!
//! Always: the store is verified first, and only records up to `verified_to` are shown.
//! Never: interprets metadata or bodies.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::bytes::Id;
use crate::commit::{FrameAt, Layout, read_commit};
use crate::finding::settle;
use crate::frame::{Frame, KIND_EVENT, Slot};
use crate::record::Batch;
use crate::scan::Segment;
use crate::{BatchPlace, Error, Record, Report};

/// Shows the records of `segments` that `report` says held.
pub(crate) fn show<F>(segments: &[Segment], report: &Report, mut each: F) -> Result<(), Error>
where
    F: FnMut(Record<'_>) -> ControlFlow<()>,
{
    let Some(last) = report.verified_to else { return Ok(()) };
    let mut names = HashMap::new();
    for segment in segments {
        if show_segment(segment, last, &mut names, &mut each)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn show_segment<F>(segment: &Segment, last: u64, names: &mut HashMap<Id, String>, each: &mut F) -> Result<ControlFlow<()>, Error>
where
    F: FnMut(Record<'_>) -> ControlFlow<()>,
{
    let mut opened = match settle(segment.open())? {
        Ok(opened) => opened,
        // It was verified a moment ago, and somebody has changed it since.
        Err(_) => return Ok(ControlFlow::Break(())),
    };
    let (window, layout) = (&mut opened.window, Layout::of(&opened.header));
    let (mut start, mut position) = (opened.header.start(), opened.header.first_position);
    let mut frames: Vec<FrameAt> = Vec::new();
    while position <= last {
        let trailer = settle(read_commit(window, &layout, start, position, &mut frames))?;
        let mut batch = Batch::default();
        for at in &frames {
            let Some(bytes) = window.get(at.offset, at.bytes as usize)? else { break };
            let frame = Frame::cut(bytes);
            if position > last || show_frame(&frame, at, position, names, &mut batch, each).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            position += 1;
        }
        // A segment ends where no commit stands; verification has said whether that is in order.
        let Ok(trailer) = trailer else { break };
        start = trailer.end();
    }
    Ok(if position > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

fn show_frame<F>(
    frame: &Frame<'_>,
    at: &FrameAt,
    position: u64,
    names: &mut HashMap<Id, String>,
    batch: &mut Batch,
    each: &mut F,
) -> ControlFlow<()>
where
    F: FnMut(Record<'_>) -> ControlFlow<()>,
{
    let header = &frame.header;
    let is_event = header.kind == KIND_EVENT;
    if is_event && header.version == 1 {
        names.insert(header.stream_id, String::from_utf8_lossy(frame.name).into_owned());
    }
    let batch_id = batch.step(frame).unwrap_or_default();
    each(Record {
        position,
        version: header.version,
        kind: header.kind,
        stream: names.get(&header.stream_id).filter(|_| is_event).map(String::as_str),
        event_id: header.event_id,
        batch: (header.batch_count > 0).then_some(BatchPlace { id: batch_id, index: header.batch_index, count: header.batch_count }),
        recorded_at_ns: header.recorded_at_ns,
        metadata: frame.metadata,
        body: (at.slot == Slot::Kept).then(|| frame.body()),
        link: header.link,
    })
}

/// Patience of a walk's verification.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);
