//! A leader's side.

use super::{read, write};
use crate::atomic::{exchange, try_lock, unlock};
use ashlar_fastpath::replication::{
    Acknowledged, Acknowledgement, AcknowledgementVerdict, Control, Counter, Datagram, Leader,
    MEMBERS_MAX, judge_acknowledgement, reaches_quorum,
};
use aya_ebpf::bindings::xdp_action;

/// Notes an acknowledgement. The one that makes a quorum goes on to user space.
#[inline(always)]
pub(super) fn lead(datagram: &Datagram, control: *mut Control) -> (Counter, u32) {
    if !datagram.is_intact() {
        return (Counter::OkDamaged, xdp_action::XDP_PASS);
    }
    // SAFETY: the control is a map's entry, which the kernel keeps while the program runs.
    let lock = unsafe { &raw mut (*control).lock };
    // SAFETY: as above.
    if !unsafe { try_lock(lock) } {
        return (Counter::Busy, xdp_action::XDP_PASS);
    }
    let counter = lead_locked(&datagram.acknowledgement(), control);
    // SAFETY: as above, and the lock is held.
    unsafe { unlock(lock) };
    let action = match counter {
        Counter::OkNoted | Counter::OkKnown => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    };
    (counter, action)
}

#[inline(always)]
fn lead_locked(frame: &Acknowledgement, control: *mut Control) -> Counter {
    let place = (frame.place & 7) as usize;
    // SAFETY: as in `lead`, and the place is within the arrays.
    let (leader, known) = unsafe {
        let known = &raw mut (*control).acknowledged[place];
        let leader = Leader {
            mode: read!(control, mode),
            view: read!(control, view),
            place: read!(control, place),
            sender: read!(control, members[place]),
            known: Acknowledged { next_op: read!(known, next_op), digest: read!(known, digest) },
        };
        (leader, known)
    };
    match judge_acknowledgement(frame, &leader) {
        AcknowledgementVerdict::Note => note(frame, control, known),
        AcknowledgementVerdict::Known => Counter::OkKnown,
        AcknowledgementVerdict::Off => Counter::OkOff,
        AcknowledgementVerdict::OtherView => Counter::OkOtherView,
        AcknowledgementVerdict::NotMember => Counter::OkNotMember,
    }
}

#[inline(always)]
fn note(frame: &Acknowledgement, control: *mut Control, known: *mut Acknowledged) -> Counter {
    // SAFETY: as in `lead`. The process reads both fields without the lock: the exchanges tell it whether they belong together.
    unsafe {
        exchange(&raw mut (*known).next_op, 0);
        write!(known, digest, frame.digest);
        exchange(&raw mut (*known).next_op, frame.op + 1);
        let mut next_ops = [0; MEMBERS_MAX + 1];
        for (place, next_op) in next_ops.iter_mut().enumerate() {
            *next_op = read!(control, acknowledged[place].next_op);
        }
        let (needed, signalled_op) = (read!(control, needed), read!(control, signalled_op));
        // The process says that it sleeps before it looks at what was noted for the last time.
        let is_asleep = &raw mut (*control).is_asleep;
        match reaches_quorum(next_ops, needed, signalled_op) {
            Some(op) if is_asleep.read_volatile() != 0 && exchange(is_asleep, 0) != 0 => {
                write!(control, signalled_op, op);
                Counter::OkSignalled
            }
            _ => Counter::OkNoted,
        }
    }
}
