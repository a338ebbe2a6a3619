//! A backup's side.

use super::{REPLICATION_BELL, REPLICATION_LOG, count, read, write};
use crate::atomic::{exchange, try_lock, unlock};
use crate::packet::XdpFrame;
use ashlar_fastpath::frame::FrameBytes as _;
use ashlar_fastpath::replication::{
    Control, Counter, DATAGRAM_HEADER_BYTES, Datagram, FRAME_BYTES_MAX, Follower, HEADER_BYTES,
    HEADERS_BYTES, SLOTS, STRIPE_BYTES, Slot, checksum, judge_prepare, stripes_of,
};
use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, xdp_action};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_boot_ns, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};

/// Words of a stripe.
const STRIPE_WORDS: u32 = STRIPE_BYTES as u32 / 8;

/// Where a group's log ends, and whose it is.
struct Tail {
    place: u64,
    op: u64,
    digest: u64,
}

/// Accepts and acknowledges entries, or leaves them to user space.
#[inline(always)]
pub(super) fn follow(
    frame: &XdpFrame<'_>,
    datagram: &mut Datagram,
    control: *mut Control,
    bytes: u32,
    length_bytes: u32,
) -> (Counter, u32) {
    let Some(previous) = previous(frame, bytes) else {
        return (Counter::Malformed, xdp_action::XDP_PASS);
    };
    // SAFETY: the control is a map's entry, which the kernel keeps while the program runs.
    let lock = unsafe { &raw mut (*control).lock };
    // SAFETY: as above.
    if !unsafe { try_lock(lock) } {
        return (Counter::Busy, xdp_action::XDP_PASS);
    }
    let (counter, tail) = follow_locked(frame, datagram, control, bytes, previous);
    // SAFETY: as above, and the lock is held.
    unsafe { unlock(lock) };
    if counter == Counter::PrepareAccepted {
        wake(control);
    }
    match tail {
        None => (counter, xdp_action::XDP_PASS),
        Some(_) if datagram.is_followed() => (counter, xdp_action::XDP_DROP),
        Some(tail) if answer(frame, datagram, &tail, length_bytes) => (counter, xdp_action::XDP_TX),
        Some(_) => (Counter::PrepareUnanswered, xdp_action::XDP_DROP),
    }
}

/// The digest that a body with entries begins with.
#[inline(always)]
fn previous(frame: &XdpFrame<'_>, bytes: u32) -> Option<u64> {
    if bytes < HEADER_BYTES as u32 + 8 {
        return None;
    }
    frame.read::<8>(DATAGRAM_HEADER_BYTES).map(u64::from_le_bytes)
}

/// What is to be counted, and what to be acknowledged.
#[inline(always)]
fn follow_locked(
    frame: &XdpFrame<'_>,
    datagram: &Datagram,
    control: *mut Control,
    bytes: u32,
    previous: u64,
) -> (Counter, Option<Tail>) {
    let verdict = judge_prepare(&datagram.prepare(bytes, previous), &follower(control));
    if let Some(why) = verdict.passes() {
        return (why, None);
    }
    if !append(frame, datagram, control, bytes) {
        return (Counter::PrepareDamaged, None);
    }
    // SAFETY: as in `follow`.
    let tail = unsafe {
        Tail {
            place: read!(control, place),
            op: read!(control, tail_op),
            digest: read!(control, tail_digest),
        }
    };
    (Counter::PrepareAccepted, Some(tail))
}

#[inline(always)]
fn follower(control: *mut Control) -> Follower {
    // SAFETY: as in `follow`; the helper takes no pointers.
    unsafe {
        let leader = (read!(control, leader) & 7) as usize;
        Follower {
            mode: read!(control, mode),
            view: read!(control, view),
            leader: read!(control, members[leader]),
            lease_until_ns: read!(control, lease_until_ns),
            now_ns: bpf_ktime_get_boot_ns(),
            tail_op: read!(control, tail_op),
            tail_digest: read!(control, tail_digest),
            accepted: read!(control, accepted),
            drained: read!(control, drained),
        }
    }
}

/// Copies a frame into the next slot, where nothing but the process changes it any more, and publishes it if it is intact.
#[inline(always)]
fn append(frame: &XdpFrame<'_>, datagram: &Datagram, control: *mut Control, bytes: u32) -> bool {
    // SAFETY: as in `follow`.
    let (first_slot, accepted) = unsafe { (read!(control, first_slot), read!(control, accepted)) };
    let index = first_slot as u32 + (accepted as u32 & (SLOTS - 1));
    let Some(slot) = REPLICATION_LOG.get_ptr_mut(index) else {
        return false;
    };
    // SAFETY: the slot is a map's entry, which the kernel keeps while the program runs, and nobody else writes it while the lock is
    // held. The process may read it: before `accepted` tells it to, only by mistake.
    unsafe {
        exchange(&raw mut (*slot).number, 0);
        if !copy(frame, slot, bytes, datagram.header.checksum.get()) {
            return false;
        }
        (&raw mut (*slot).bytes).write_volatile(u64::from(bytes));
        exchange(&raw mut (*slot).number, accepted.wrapping_add(1));
        let header = &datagram.header;
        let last_op = header.op.get().wrapping_add(u64::from(header.entries.get()) - 1);
        write!(control, tail_op, last_op);
        write!(control, tail_digest, header.digest.get());
        // The process looks at this without the lock, and at the slot afterwards.
        exchange(&raw mut (*control).accepted, accepted.wrapping_add(1));
    }
    true
}

/// False if the frame's checksum does not fit.
///
/// # Safety
///
/// `slot` points to a slot that nobody else writes.
#[inline(always)]
unsafe fn copy(frame: &XdpFrame<'_>, slot: *mut Slot, bytes: u32, expected: u32) -> bool {
    // The verifier must see the bounds at the value that is used below, which the compiler knows to be superfluous.
    // SAFETY: a local variable.
    let bytes = unsafe { (&raw const bytes).read_volatile() };
    if bytes == 0 || bytes > FRAME_BYTES_MAX {
        return false;
    }
    let stripes = stripes_of(bytes);
    // SAFETY: the caller's promise. All indexes are within the slot: `bytes` was compared, and there are as many stripes.
    unsafe {
        let words = (&raw mut (*slot).frame).cast::<u64>();
        let last = words.add(((stripes - 1) * STRIPE_WORDS) as usize);
        for word in 0..STRIPE_WORDS as usize {
            last.add(word).write_volatile(0);
        }
        if bpf_xdp_load_bytes(frame.0.ctx, HEADERS_BYTES, words.cast(), bytes) != 0 {
            return false;
        }
        let found = checksum(stripes, |index| {
            let stripe = words.add((index * STRIPE_WORDS) as usize);
            [*stripe, *stripe.add(1), *stripe.add(2), *stripe.add(3)]
        });
        found == expected
    }
}

/// Rings the bell, if the process sleeps.
#[inline(always)]
fn wake(control: *mut Control) {
    // SAFETY: as in `follow`. What was accepted was published by an exchange, which everything here comes after.
    unsafe {
        if read!(control, is_asleep) == 0 || exchange(&raw mut (*control).is_asleep, 0) == 0 {
            return;
        }
    }
    // Fails if the ring is full: then it was rung.
    let _ = REPLICATION_BELL.output::<u64>(&0, u64::from(BPF_RB_FORCE_WAKEUP));
    count(Counter::Woken);
}

/// Turns the frame into its acknowledgement; false if the kernel did not let it.
#[inline(always)]
fn answer(frame: &XdpFrame<'_>, datagram: &mut Datagram, tail: &Tail, length_bytes: u32) -> bool {
    datagram.acknowledge(tail.place, tail.op, tail.digest);
    let surplus_bytes = length_bytes as i32 - DATAGRAM_HEADER_BYTES as i32;
    let context = frame.0.ctx;
    // SAFETY: the context is the kernel's, and the datagram is as long.
    unsafe {
        let bytes = (&raw mut *datagram).cast();
        bpf_xdp_store_bytes(context, 0, bytes, DATAGRAM_HEADER_BYTES) == 0
            && bpf_xdp_adjust_tail(context, -surplus_bytes) == 0
    }
}
