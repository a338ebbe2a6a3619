//! Ending what a former process began.

use super::memory::{Mapping, field, wait_for_program};
use crate::Error;
use ashlar_fastpath::replication::{Control, LOCK_OWNER, MODE_OFF, SCHEMA_VERSION};
use aya::maps::{MapError, MapInfo};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::{fs, io};

/// What a former process left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fenced {
    /// So many groups had memory that programs may have decided by.
    pub groups: usize,
    /// So many of these had been left while the process held the lock.
    pub locked: usize,
    /// So many frames were accepted and acknowledged, and not taken. `None` if the memory is of another version.
    pub lost_frames: Option<u64>,
}

/// The line of a control that is the same in all versions.
const COMMON_BYTES: usize = 64;

/// For a process that begins: lets programs that a former process left under this name decide nothing more, and removes the name.
/// When it returns, they do not. Does nothing if there is no such name.
///
/// # Errors
/// When the name is that of something else, or cannot be opened or removed; and when a program keeps a lock.
///
/// The former process must be dead: its mode would be switched off, and its lock taken.
pub fn fence(pin: &Path) -> Result<Fenced, Error> {
    let failed = |operation, source| Error::Pin { path: pin.to_owned(), operation, source };
    match pin.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fenced::default()),
        Err(error) => return Err(failed("look for the memory's name", error)),
    }
    let open = |error: MapError| failed("open the memory", io::Error::other(error));
    let information = MapInfo::from_pin(pin).map_err(open)?;
    let map = information.fd().map_err(open)?;
    let value_bytes = information.value_size() as usize;
    if value_bytes < COMMON_BYTES {
        let error = io::Error::new(io::ErrorKind::InvalidData, "its values are too short");
        return Err(failed("use the memory", error));
    }
    // The kernel keeps values at multiples of 8 bytes.
    let stride_bytes = value_bytes.next_multiple_of(8);
    let groups = information.max_entries() as usize;
    let memory = Mapping::new(std::os::fd::AsFd::as_fd(&map), groups * stride_bytes, true)
        .map_err(|error| failed("map the memory", error))?;
    let mut fenced = Fenced { groups, lost_frames: Some(0), ..Fenced::default() };
    for group in 0..groups {
        let word = |offset_bytes| memory.word(group * stride_bytes + offset_bytes);
        let (mode, lock) = (word(field!(mode).0), word(field!(lock).0));
        // Whoever takes the lock from here on sees it.
        mode.store(MODE_OFF, Ordering::SeqCst);
        if !wait_for_program(lock) {
            return Err(Error::StaysLocked { path: pin.to_owned(), group });
        }
        // Stays locked: programs that are still attached pass everything.
        fenced.locked += usize::from(lock.swap(LOCK_OWNER, Ordering::SeqCst) == LOCK_OWNER);
        mode.store(MODE_OFF, Ordering::SeqCst);
        let is_known = word(field!(version).0).load(Ordering::SeqCst) == u64::from(SCHEMA_VERSION)
            && value_bytes == size_of::<Control>();
        fenced.lost_frames = fenced.lost_frames.filter(|_| is_known).map(|lost| {
            let read = |offset_bytes| word(offset_bytes).load(Ordering::SeqCst);
            lost + read(field!(accepted).0).wrapping_sub(read(field!(drained).0))
        });
    }
    fs::remove_file(pin).map_err(|error| failed("remove the memory's name", error))?;
    Ok(fenced)
}
