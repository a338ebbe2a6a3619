//! The memory that user space and programs share.
#![allow(unsafe_code, reason = "mmap(2), and memory that programs in the kernel change")]

use crate::system_call::bpf;
use ashlar_fastpath::replication::{
    Control, FRAME_BYTES_MAX, LOCK_KERNEL, MODE_OFF, SCHEMA_VERSION, SLOTS, Slot,
};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Far longer than a program holds a lock.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(1);

/// Where in a control a word is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) usize);

/// The place of a field.
macro_rules! field {
    ($field:ident) => {
        $crate::replication::memory::Field(std::mem::offset_of!(
            ashlar_fastpath::replication::Control,
            $field
        ))
    };
}
pub(super) use field;

/// A map's memory, until it is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is no thread's own, and whoever uses it does so by atomic operations.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first bytes of a map that allows it.
    pub(super) fn new(map: BorrowedFd<'_>, bytes: usize, is_writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if is_writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe {
            let descriptor = map.as_raw_fd();
            libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, descriptor, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at zero");
        Ok(Self { start, bytes })
    }

    /// The word at this byte.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn word(&self, offset_bytes: usize) -> &AtomicU64 {
        assert!(offset_bytes.is_multiple_of(8) && offset_bytes + 8 <= self.bytes, "{offset_bytes}");
        // SAFETY: within the mapping, which lives as long as `self` and starts at a page; all access is atomic, also the kernel's.
        unsafe { AtomicU64::from_ptr(self.start.add(offset_bytes).cast().as_ptr()) }
    }

    /// Copies bytes that nobody changes any more.
    ///
    /// # Panics
    /// If there are fewer.
    fn copy(&self, offset_bytes: usize, bytes: usize, into: &mut Vec<u8>) {
        assert!(offset_bytes + bytes <= self.bytes, "{bytes} at {offset_bytes}");
        into.reserve(bytes);
        // SAFETY: within the mapping, and into space that was just reserved. A program writes to a slot only before it is published
        // and after it was taken.
        unsafe {
            let from = self.start.add(offset_bytes).as_ptr();
            ptr::copy_nonoverlapping(from, into.as_mut_ptr().add(into.len()), bytes);
            into.set_len(into.len() + bytes);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        assert_eq!(result, 0, "a mapping that exists can be removed");
    }
}

/// Makes a small map whose memory can be shared, shares it, and lets both go again.
pub(crate) fn try_mappable_map() -> io::Result<()> {
    const COMMAND_MAP_CREATE: libc::c_long = 0;
    const TYPE_ARRAY: u32 = 2;
    const MAPPABLE: u32 = 1 << 10;
    let (key_bytes, value_bytes, entries) = (4_u32, 8_u32, 1_u32);
    let mut arguments = [TYPE_ARRAY, key_bytes, value_bytes, entries, MAPPABLE];
    // SAFETY: the kernel reads these five words, and they hold no pointers.
    let descriptor = unsafe { bpf(COMMAND_MAP_CREATE, &mut arguments)? };
    // SAFETY: the kernel just opened this descriptor for us.
    let map = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Mapping::new(map.as_fd(), 8, true).map(drop)
}

/// Controls and slots of all groups.
#[derive(Debug)]
pub(super) struct Shared {
    controls: Mapping,
    log: Mapping,
    groups: usize,
    /// Which groups' memory is in use: a set of indexes.
    in_use: AtomicU16,
}

impl Shared {
    pub(super) fn new(controls: Mapping, log: Mapping, groups: usize) -> Self {
        let shared = Self { controls, log, groups, in_use: AtomicU16::new(0) };
        for group in 0..groups {
            let first_slot = group as u64 * u64::from(SLOTS);
            shared.control(group, field!(first_slot)).store(first_slot, Ordering::Relaxed);
            let version = shared.control(group, field!(version));
            version.store(u64::from(SCHEMA_VERSION), Ordering::SeqCst);
        }
        shared
    }

    /// A word of a group's control.
    pub(super) fn control(&self, group: usize, field: Field) -> &AtomicU64 {
        self.controls.word(group * size_of::<Control>() + field.0)
    }

    /// Appends the frame that was accepted as the `number`th one to `into`.
    ///
    /// # Panics
    /// If it is not in its slot.
    pub(super) fn copy_frame(&self, group: usize, number: u64, into: &mut Vec<u8>) {
        let index = (number - 1) % u64::from(SLOTS) + group as u64 * u64::from(SLOTS);
        let slot = index as usize * size_of::<Slot>();
        let word = |at: usize| self.log.word(slot + at).load(Ordering::Acquire);
        assert_eq!(word(std::mem::offset_of!(Slot, number)), number, "slots are filled in order");
        let bytes = word(std::mem::offset_of!(Slot, bytes)) as usize;
        assert!(bytes <= FRAME_BYTES_MAX as usize, "frames fit their slots");
        self.log.copy(slot + std::mem::offset_of!(Slot, frame), bytes, into);
    }

    /// Marks a group's memory as in use; false if it was.
    pub(super) fn claim(&self, group: usize) -> bool {
        assert!(group < self.groups, "there is a group {group}");
        self.in_use.fetch_or(1 << group, Ordering::SeqCst) & 1 << group == 0
    }

    pub(super) fn release(&self, group: usize) {
        self.in_use.fetch_and(!(1 << group), Ordering::SeqCst);
    }

    /// Lets programs decide nothing more, and returns when none does.
    pub(super) fn switch_off(&self) {
        for group in 0..self.groups {
            self.control(group, field!(mode)).store(MODE_OFF, Ordering::SeqCst);
            if !wait_for_program(self.control(group, field!(lock))) {
                tracing::error!(group, "a program holds a group's lock for too long");
            }
        }
    }
}

/// Waits until no program holds the lock; false if that takes too long.
pub(super) fn wait_for_program(lock: &AtomicU64) -> bool {
    let deadline = Instant::now() + PROGRAM_TIME_MAX;
    while lock.load(Ordering::SeqCst) == LOCK_KERNEL {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}
