//! The calls on one simulated file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::directory::{SimDisk, Target};
use super::inode::sectors;
use super::{Call, Failure};
use crate::disk::{DiskFile, Probe, QueuedAs, Region};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: usize,
}

impl SimFile {
    fn sync(&self, call: Call) -> io::Result<()> {
        self.disk.call(call, Target::Inode(self.inode), None, |state, fate| {
            if let Some(failure) = fate.failure {
                let mut inode = std::mem::take(&mut state.inodes[self.inode]);
                inode.fail_sync(|| state.happens_anyway());
                state.inodes[self.inode] = inode;
                return Err(failure.error());
            }
            let lies = state.plan.lies;
            let inode = &mut state.inodes[self.inode];
            if std::mem::take(&mut inode.has_collided) {
                return Err(Failure::Device.error());
            }
            if !lies {
                inode.sync();
            }
            if call == Call::DropCache {
                inode.drop_cache();
            }
            Ok(())
        })
    }

    /// Writes to the cache, or past it.
    fn write(&self, bytes: &[u8], offset: u64, is_cached: bool) -> io::Result<()> {
        let span = Some((offset, bytes.len() as u64));
        self.disk.call(Call::Write, Target::Inode(self.inode), span, |state, fate| {
            let failure = fate.failure.map(Failure::error).or_else(|| state.check_space(self.inode, offset + bytes.len() as u64).err());
            if fate.misdirected && failure.is_none() {
                let number = state.next_number();
                if let Some((other, place)) = state.misdirect(self.inode, offset, bytes.len() as u64) {
                    state.inodes[other].write_durable(place, bytes);
                }
                state.inodes[self.inode].write_cached(number, offset, bytes);
                return Ok(());
            }
            for (place, chunk) in sectors(offset, bytes) {
                // Of a failing write any sector may have been written that there was room for.
                let is_written =
                    failure.is_none() || state.happens_anyway() && state.check_space(self.inode, place + chunk.len() as u64).is_ok();
                if is_written {
                    let number = state.next_number();
                    let inode = &mut state.inodes[self.inode];
                    if is_cached {
                        inode.soil(place);
                    }
                    inode.write_sector(number, place, chunk);
                }
            }
            failure.map_or(Ok(()), Err)
        })
    }

    /// Sets the length that `length` makes of the present one.
    fn set_length(&self, call: Call, bytes: u64) -> io::Result<()> {
        self.disk.call(call, Target::Inode(self.inode), Some((0, bytes)), |state, fate| {
            let present = state.inodes[self.inode].bytes();
            let bytes = if call == Call::Reserve { bytes.max(present) } else { bytes };
            let number = state.next_number();
            match fate.failure.map(Failure::error).or_else(|| state.check_space(self.inode, bytes).err()) {
                None => {
                    state.inodes[self.inode].set_length(number, bytes);
                    Ok(())
                }
                Some(error) => {
                    // Part of a reservation may be left behind; a file is cut whole or not.
                    if state.happens_anyway() {
                        let reached = if call == Call::Reserve { present + (bytes - present) / 2 } else { bytes };
                        if state.check_space(self.inode, reached).is_ok() {
                            state.inodes[self.inode].set_length(number, reached);
                        }
                    }
                    Err(error)
                }
            }
        })
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        self.disk.call(Call::Bytes, Target::Inode(self.inode), None, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(state.inodes[self.inode].bytes()),
        })
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let span = Some((offset, buffer.len() as u64));
        self.disk.call(Call::Read, Target::Inode(self.inode), span, |state, fate| {
            if let Some(failure) = fate.failure {
                return Err(failure.error());
            }
            let inode = &state.inodes[self.inode];
            let end = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
            let found = inode.cached.get(offset as usize..end as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
            if !inode.is_readable(offset..end) {
                return Err(Failure::Device.error());
            }
            buffer.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset, true)
    }

    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Past the cache, where there is a queue for that.
        self.write(bytes, offset, self.disk.queue_inline_bytes_max().is_none())?;
        self.sync_data()
    }

    fn queued_as(&self) -> Option<QueuedAs<'_>> {
        Some(QueuedAs::Simulated(self.inode))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Call::Sync)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Call::Sync)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.set_length(Call::Reserve, bytes)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.set_length(Call::SetBytes, bytes)
    }

    fn region(&self, bytes: usize) -> io::Result<Region> {
        let content = self.disk.call(Call::Region, Target::Inode(self.inode), Some((0, bytes as u64)), |state, fate| {
            if let Some(failure) = fate.failure {
                return Err(failure.error());
            }
            let content = state.inodes[self.inode].cached.get(..bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(content.to_vec())
        })?;
        // What cannot be read is met when it is read.
        let file = SimFile { disk: self.disk.clone(), inode: self.inode };
        Ok(Region::probed(content, Arc::new(file)))
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.sync(Call::DropCache)
    }
}

impl Probe for SimFile {
    fn probe(&self, range: Range<usize>) -> io::Result<()> {
        let span = Some((range.start as u64, range.len() as u64));
        self.disk.call(Call::Probe, Target::Inode(self.inode), span, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None if state.inodes[self.inode].is_readable(range.start as u64..range.end as u64) => Ok(()),
            None => Err(Failure::Device.error()),
        })
    }
}
