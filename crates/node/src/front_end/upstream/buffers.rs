//! Buffers for bodies on their way from a storage node to a client.
//!
//! A body is read in large pieces while few bodies flow, because the cost of a piece hardly depends
//! on its size, and in small pieces while many do, so that slow clients cannot fill the memory.

use bytes::Bytes;
use std::cell::{Cell, RefCell};

/// A large buffer.
pub(super) const LARGE_BYTES: usize = 256 * 1024;
/// A small buffer.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
/// Above this sum of all buffers of a thread there are only small ones.
const GENEROUS_BYTES_MAX: usize = 32 << 20;
/// Large buffers that a thread keeps for later.
const SPARE_MAX: usize = 8;

thread_local! {
    /// Bytes of all buffers that this thread has given out.
    static TAKEN_BYTES: Cell<usize> = const { Cell::new(0) };
    /// Large buffers that wait to be used again, empty.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer; dropping it gives it back.
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer for `wanted_bytes` or fewer. A `modest` taker gets a small one.
    pub(super) fn take(wanted_bytes: u64, modest: bool) -> Self {
        let generous = !modest && TAKEN_BYTES.get() < GENEROUS_BYTES_MAX;
        let buffer = if generous && wanted_bytes > SMALL_BYTES as u64 {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            spare.unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES))
        } else {
            Vec::with_capacity(SMALL_BYTES)
        };
        TAKEN_BYTES.set(TAKEN_BYTES.get() + buffer.capacity());
        Self(buffer)
    }

    /// To be filled.
    pub(super) fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// What it was filled with; the buffer goes back when the last clone is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        // At the end of a process buffers may be dropped by another thread than took them, and
        // after that thread's cells.
        let _ =
            TAKEN_BYTES.try_with(|taken| taken.set(taken.get().saturating_sub(buffer.capacity())));
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if buffer.capacity() == LARGE_BYTES && spare.len() < SPARE_MAX {
                buffer.clear();
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 1 << 30;

    fn capacity(buffer: &mut Buffer) -> usize {
        buffer.vec().capacity()
    }

    #[test]
    fn large_buffers_are_used_again() {
        let mut buffer = Buffer::take(MANY, false);
        buffer.vec().extend_from_slice(b"abc");
        let address = buffer.as_ref().as_ptr();
        let bytes = buffer.into_bytes();
        assert_eq!(bytes, "abc");
        drop(bytes);
        let again = Buffer::take(MANY, false);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (address, 0));
    }

    #[test]
    fn buffers_are_small_for_small_bodies_modest_takers_and_while_many_are_taken() {
        assert_eq!(capacity(&mut Buffer::take(100, false)), SMALL_BYTES);
        assert_eq!(capacity(&mut Buffer::take(MANY, true)), SMALL_BYTES);
        let mut taken: Vec<_> =
            (0..GENEROUS_BYTES_MAX / LARGE_BYTES).map(|_| Buffer::take(MANY, false)).collect();
        assert!(taken.iter_mut().all(|buffer| capacity(buffer) == LARGE_BYTES));
        assert_eq!(capacity(&mut Buffer::take(MANY, false)), SMALL_BYTES);
        drop(taken);
        assert_eq!(capacity(&mut Buffer::take(MANY, false)), LARGE_BYTES);
    }
}
