//! What is said of a connection, from outside of its task, by the owner before this one.

use ashlar_handoff::SecretBytes;
use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Context,
};

/// What reaches the task that serves a connection after the connection has moved.
#[derive(Debug, Default)]
pub(crate) struct Afterword {
    is_cut: AtomicBool,
    has_late: AtomicBool,
    late: Mutex<Option<Late>>,
    /// The connection's task.
    task: AtomicWaker,
}

/// Bytes of the client that the owner before received, and this one's socket never will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    /// Where they begin.
    pub(crate) sequence: u32,
    pub(crate) bytes: SecretBytes,
}

impl Late {
    /// Whether `other` reaches further.
    fn ends_before(&self, other: &Self) -> bool {
        let end = |it: &Self| it.sequence.wrapping_add(it.bytes.len() as u32);
        end(other).wrapping_sub(end(self)) as i32 > 0
    }

    /// What is there from `sequence` on.
    pub(crate) fn behind(&self, sequence: u32) -> &[u8] {
        let skipped = sequence.wrapping_sub(self.sequence) as usize;
        self.bytes.get(skipped..).unwrap_or_default()
    }
}

impl Afterword {
    /// Resets the connection, if it is still served.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.task.wake();
    }

    /// Lets the socket receive `late` before anything more is read from it.
    pub(crate) fn receive(&self, late: Late) {
        let mut present = self.late();
        // All of it begins where the socket is, or before: what reaches furthest has everything.
        let is_old = present.as_ref().is_some_and(|it| !it.ends_before(&late));
        if !is_old {
            *present = Some(late);
        }
        drop(present);
        self.has_late.store(true, Relaxed);
        self.task.wake();
    }

    /// Whether the connection must be reset. The task is woken when it must, and when there are late bytes.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        // Registered first: a cut in between is seen below.
        self.task.register(context.waker());
        self.is_cut.load(Relaxed)
    }

    /// Whether the connection must be reset.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }

    /// Bytes that the socket has not received.
    pub(crate) fn take_late(&self) -> Option<Late> {
        // Mostly there are none, and no lock is needed to say so.
        if !self.has_late.load(Relaxed) {
            return None;
        }
        let mut late = self.late();
        self.has_late.store(false, Relaxed);
        late.take()
    }

    /// A copy of such bytes, for who has no socket any more.
    pub(crate) fn copy_late(&self) -> Option<Late> {
        if self.has_late.load(Relaxed) { self.late().clone() } else { None }
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Option<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(bytes: &[u8]) -> Late {
        Late { sequence: u32::MAX, bytes: bytes.into() }
    }

    #[test]
    fn the_longest_word_about_late_bytes_is_taken_once() {
        let afterword = Afterword::default();
        assert_eq!(afterword.take_late(), None);
        afterword.receive(late(b"ab"));
        afterword.receive(late(b"abc"));
        afterword.receive(Late { sequence: 0, bytes: b"b"[..].into() });
        assert_eq!(afterword.copy_late(), Some(late(b"abc")));
        assert_eq!(afterword.take_late(), Some(late(b"abc")));
        assert_eq!((afterword.take_late(), afterword.copy_late()), (None, None));
        assert!(!afterword.is_cut());
    }

    #[test]
    fn late_bytes_are_found_by_their_place_in_the_stream() {
        assert_eq!(late(b"abc").behind(u32::MAX), b"abc");
        assert_eq!(late(b"abc").behind(1), b"c");
        assert_eq!(late(b"abc").behind(2), b"");
        assert_eq!(late(b"abc").behind(900), b"");
    }
}
