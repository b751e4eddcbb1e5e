//! Several writes under way at a time.

use std::io;
use std::time::Duration;

use super::directory::{SimDisk, State, Target};
use super::inode::sectors;
use super::{Call, Failure};
use crate::disk::{Landed, QueuedAs, QueuedWrite, Reaped, WriteQueue};

/// One in so many writes cannot be started.
const REFUSED_ONE_IN: u64 = 8;

/// A write that was started. What it writes waits in its file's pending changes.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) inode: usize,
    /// Number of its start, which its sectors bear.
    pub(super) number: u64,
    tag: u64,
    span: (u64, u64),
}

impl WriteQueue for SimDisk {
    fn start(&self, write: QueuedWrite) -> Result<(), QueuedWrite> {
        let Some(QueuedAs::Simulated(inode)) = write.file.queued_as() else { return Err(write) };
        let bytes = &write.memory.bytes()[write.range.clone()];
        let mut state = self.state();
        let is_refused = state.unplugged
            || state.chance.as_mut().is_some_and(|chance| chance.one_in(REFUSED_ONE_IN))
            || state.check_space(inode, write.offset + bytes.len() as u64).is_err();
        if is_refused {
            drop(state);
            return Err(write);
        }
        let start = state.next_number();
        for (place, chunk) in sectors(write.offset, bytes) {
            let number = state.next_number();
            state.inodes[inode].queue_sector(number, place, chunk, start);
        }
        state.queued.push(Queued { inode, number: start, tag: write.tag, span: (write.offset, bytes.len() as u64) });
        state.queued_max = state.queued_max.max(state.queued.len());
        Ok(())
    }

    fn inline_bytes_max(&self) -> usize {
        self.queue_inline_bytes_max().unwrap_or(usize::MAX)
    }

    fn reap(&self, _at_most: Option<Duration>, landed: &mut Vec<Landed>) -> Reaped {
        let (queued, is_unplugged) = {
            let mut state = self.state();
            let count = state.queued.len() as u64;
            if count == 0 {
                return Reaped::Idle;
            }
            // Any of them is first; sometimes more than one has landed.
            let chosen = state.chance.as_mut().map_or(0, |chance| chance.below(count));
            (state.queued.remove(chosen as usize), state.unplugged)
        };
        let result = if is_unplugged { Err(Failure::Device.error()) } else { self.land(&queued) };
        landed.push(Landed { tag: queued.tag, result });
        let more = self.state().chance.as_mut().is_some_and(|chance| chance.one_in(3));
        if more {
            self.reap(None, landed);
        }
        Reaped::Some
    }
}

impl SimDisk {
    /// One write and its sync, for that range alone.
    fn land(&self, queued: &Queued) -> io::Result<()> {
        let Queued { inode, number, span, .. } = *queued;
        let target = Target::Inode(inode);
        // Of a failing write any sector may have been written, of a failing sync as well.
        let fail = |state: &mut State, failure: Failure| {
            for (place, bytes) in state.inodes[inode].take_queued(number) {
                if state.happens_anyway() {
                    state.inodes[inode].write_through(place, &bytes);
                }
            }
            failure.error()
        };
        let misdirected = self.call(Call::Write, target, Some(span), |state, fate| match fate.failure {
            Some(failure) => Err(fail(state, failure)),
            None if fate.misdirected => Ok(state.misdirect(inode, span.0, span.1)),
            None => Ok(None),
        })?;
        self.call(Call::Sync, target, Some(span), |state, fate| {
            if let Some(failure) = fate.failure {
                return Err(fail(state, failure));
            }
            for (place, bytes) in state.inodes[inode].take_queued(number) {
                if let Some((other, elsewhere)) = misdirected {
                    state.inodes[other].write_durable(elsewhere + (place - span.0), &bytes);
                    let number = state.next_number();
                    state.inodes[inode].write_cached(number, place, &bytes);
                } else if state.plan.lies {
                    // In the drive's memory, where reads find it.
                    let number = state.next_number();
                    state.inodes[inode].write_sector(number, place, &bytes);
                } else {
                    state.inodes[inode].write_through(place, &bytes);
                }
            }
            Ok(())
        })
    }
}
