//! Whether a backup's kernel accepts a frame of its leader.

use super::counters::Counter;
use super::shared::{FRAME_BYTES_MAX, MODE_FOLLOW, SLOTS};

/// A frame with entries, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// Where it came from, as [`member_bits`](super::member_bits) has it.
    pub source: u64,
    /// The sender's view.
    pub view: u64,
    /// The first place.
    pub op: u64,
    /// How many places.
    pub entries: u64,
    /// The digest at the place before the first.
    pub previous: u64,
    /// The digest at the last place.
    pub digest: u64,
    /// The frame's length from its header on.
    pub bytes: u32,
}

/// What a backup's control says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    /// See [`Control::mode`](super::Control::mode).
    pub mode: u64,
    /// The backup's view.
    pub view: u64,
    /// The leader's address.
    pub leader: u64,
    /// See [`Control::lease_until_ns`](super::Control::lease_until_ns).
    pub lease_until_ns: u64,
    /// The present moment of the same clock.
    pub now_ns: u64,
    /// The last place that is in the log or in a slot.
    pub tail_op: u64,
    /// The digest there.
    pub tail_digest: u64,
    /// Frames that were accepted.
    pub accepted: u64,
    /// Those that were taken.
    pub drained: u64,
}

/// What becomes of a frame with entries. All but the first are left to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareVerdict {
    /// It goes into the next slot, and what is then the tail is acknowledged, unless the frame [is
    /// followed](super::Datagram::is_followed). If it is damaged, it is left to user space.
    Accept,
    /// All of it is here. The replica's answer goes another way than a program's, which somebody has missed.
    Known,
    /// Programs accept nothing.
    Off,
    /// It is of another view.
    OtherView,
    /// It is not the leader's.
    NotLeader,
    /// The process has not been seen for too long.
    LeaseOver,
    /// It is too long for a slot, or has no entries.
    Length,
    /// Something before it is missing, or only a part of it is new.
    Gap,
    /// It does not follow what is here.
    OtherLog,
    /// No slot is free.
    Full,
}

impl PrepareVerdict {
    /// Where a frame that is left to user space is counted; none for one that is not.
    #[inline(always)]
    pub const fn passes(self) -> Option<Counter> {
        match self {
            Self::Accept => None,
            Self::Known => Some(Counter::PrepareKnown),
            Self::Off => Some(Counter::PrepareOff),
            Self::OtherView => Some(Counter::PrepareOtherView),
            Self::NotLeader => Some(Counter::PrepareNotLeader),
            Self::LeaseOver => Some(Counter::PrepareLeaseOver),
            Self::Length => Some(Counter::PrepareLength),
            Self::Gap => Some(Counter::PrepareGap),
            Self::OtherLog => Some(Counter::PrepareOtherLog),
            Self::Full => Some(Counter::PrepareFull),
        }
    }
}

/// Judges a frame with entries.
#[inline(always)]
pub fn judge_prepare(frame: &Prepare, state: &Follower) -> PrepareVerdict {
    if state.mode != MODE_FOLLOW {
        return PrepareVerdict::Off;
    }
    if frame.view != state.view {
        return PrepareVerdict::OtherView;
    }
    if frame.source != state.leader {
        return PrepareVerdict::NotLeader;
    }
    if state.now_ns >= state.lease_until_ns {
        return PrepareVerdict::LeaseOver;
    }
    if frame.bytes > FRAME_BYTES_MAX || frame.entries == 0 {
        return PrepareVerdict::Length;
    }
    // Nobody counts so far; a sum that wraps would look old.
    let Some(last_op) = frame.op.checked_add(frame.entries - 1) else {
        return PrepareVerdict::Gap;
    };
    if last_op <= state.tail_op {
        return PrepareVerdict::Known;
    }
    if frame.op != state.tail_op.wrapping_add(1) {
        return PrepareVerdict::Gap;
    }
    if frame.previous != state.tail_digest {
        return PrepareVerdict::OtherLog;
    }
    if state.accepted.wrapping_sub(state.drained) >= u64::from(SLOTS) {
        return PrepareVerdict::Full;
    }
    PrepareVerdict::Accept
}
