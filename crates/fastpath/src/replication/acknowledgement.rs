//! What a leader's kernel makes of an acknowledgement.

use super::shared::{Acknowledged, MEMBERS_MAX, MODE_LEAD};

/// An acknowledgement, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Where it came from, as [`member_bits`](super::member_bits) has it.
    pub source: u64,
    /// The sender's place, as it says.
    pub place: u64,
    /// The sender's view.
    pub view: u64,
    /// The last place that it has.
    pub op: u64,
    /// The digest there.
    pub digest: u64,
}

/// What a leader's control says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// See [`Control::mode`](super::Control::mode).
    pub mode: u64,
    /// The leader's view.
    pub view: u64,
    /// The leader's place.
    pub place: u64,
    /// The address of the member at the place that the acknowledgement names; 0 if there is none.
    pub sender: u64,
    /// What is known of that member.
    pub known: Acknowledged,
}

/// What becomes of an acknowledgement. All but the first two are left to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgementVerdict {
    /// The member is further than was known: it is noted, and a process that sleeps is woken if that [makes a quorum](reaches_quorum).
    Note,
    /// As much was known.
    Known,
    /// Programs count nothing.
    Off,
    /// It is of another view.
    OtherView,
    /// It is from no other member, or from another one than it says.
    NotMember,
}

/// Judges an acknowledgement whose checksum fits.
#[inline(always)]
pub fn judge_acknowledgement(frame: &Acknowledgement, state: &Leader) -> AcknowledgementVerdict {
    if state.mode != MODE_LEAD {
        return AcknowledgementVerdict::Off;
    }
    if frame.view != state.view {
        return AcknowledgementVerdict::OtherView;
    }
    let is_backup = frame.place < MEMBERS_MAX as u64 && frame.place != state.place;
    if !is_backup || frame.source != state.sender || frame.op == u64::MAX {
        return AcknowledgementVerdict::NotMember;
    }
    if frame.op < state.known.next_op {
        return AcknowledgementVerdict::Known;
    }
    AcknowledgementVerdict::Note
}

/// Whether so many backups as are `needed` are further than `signalled_op`: then, how far all of them are at least. A process that
/// is woken too often or, by a lost wake-up, too late counts for itself.
#[inline(always)]
pub fn reaches_quorum(
    next_ops: [u64; MEMBERS_MAX + 1],
    needed: u64,
    signalled_op: u64,
) -> Option<u64> {
    let (mut further, mut least_op) = (0, u64::MAX);
    let mut place = 0;
    while place < next_ops.len() {
        let next_op = next_ops[place];
        if next_op > 0 && next_op - 1 > signalled_op {
            further += 1;
            if next_op - 1 < least_op {
                least_op = next_op - 1;
            }
        }
        place += 1;
    }
    if further > 0 && further >= needed { Some(least_op) } else { None }
}
