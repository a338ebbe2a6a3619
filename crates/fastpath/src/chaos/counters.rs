//! What became of the frames, counted by the kernel program.

use super::{PassReason, Verdict};

/// What a program did with a frame: its verdict, or why it could not carry the verdict out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The verdict was carried out.
    Done(Verdict),
    /// The verdict was to duplicate, but the hook cannot (XDP) or the copy could not be made: the frame passed alone.
    DuplicateDeclined,
    /// The verdict was to corrupt, but the byte could not be written: the frame passed untouched.
    CorruptDeclined,
    /// The copy that a duplicate verdict made came by its own hook: it passed without being judged.
    OwnCopy,
}

/// How many frames one hook saw, by what became of them. Every frame is counted once; the kernel keeps one such value per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Passed: there was no configuration of this schema.
    pub unconfigured: u64,
    /// Passed: the rule did not match.
    pub unmatched: u64,
    /// Passed: matched, and the draw spared them.
    pub spared: u64,
    /// Lost.
    pub dropped: u64,
    /// Passed, each with one copy.
    pub duplicated: u64,
    /// Passed alone although the verdict was to duplicate.
    pub duplicate_declined: u64,
    /// Passed with one byte changed.
    pub corrupted: u64,
    /// Passed untouched although the verdict was to corrupt: too short, or not writable.
    pub corrupt_declined: u64,
    /// Passed: copies made by this very hook.
    pub own_copies: u64,
}

// The kernel copies this as bytes: no padding, the same size on both sides.
const _: () = assert!(size_of::<Counters>() == 9 * 8);

impl Counters {
    /// Counts one frame.
    #[inline(always)]
    pub const fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Done(Verdict::Pass(PassReason::Unconfigured)) => &mut self.unconfigured,
            Outcome::Done(Verdict::Pass(PassReason::Unmatched)) => &mut self.unmatched,
            Outcome::Done(Verdict::Pass(PassReason::Spared)) => &mut self.spared,
            Outcome::Done(Verdict::Pass(PassReason::TooShort)) | Outcome::CorruptDeclined => {
                &mut self.corrupt_declined
            }
            Outcome::Done(Verdict::Drop) => &mut self.dropped,
            Outcome::Done(Verdict::Duplicate) => &mut self.duplicated,
            Outcome::Done(Verdict::Corrupt(_)) => &mut self.corrupted,
            Outcome::DuplicateDeclined => &mut self.duplicate_declined,
            Outcome::OwnCopy => &mut self.own_copies,
        };
        *counter = counter.wrapping_add(1);
    }

    /// Adds another CPU's counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            unconfigured: self.unconfigured.wrapping_add(other.unconfigured),
            unmatched: self.unmatched.wrapping_add(other.unmatched),
            spared: self.spared.wrapping_add(other.spared),
            dropped: self.dropped.wrapping_add(other.dropped),
            duplicated: self.duplicated.wrapping_add(other.duplicated),
            duplicate_declined: self.duplicate_declined.wrapping_add(other.duplicate_declined),
            corrupted: self.corrupted.wrapping_add(other.corrupted),
            corrupt_declined: self.corrupt_declined.wrapping_add(other.corrupt_declined),
            own_copies: self.own_copies.wrapping_add(other.own_copies),
        }
    }

    /// Frames that the rule matched: each took one number, so this is also the next frame's number.
    pub const fn matched(&self) -> u64 {
        self.spared
            .wrapping_add(self.dropped)
            .wrapping_add(self.duplicated)
            .wrapping_add(self.duplicate_declined)
            .wrapping_add(self.corrupted)
            .wrapping_add(self.corrupt_declined)
    }
}
