//! One frame becomes as many as it has receivers, where it leaves the host.
//!
//! The frame is sent as it is addressed and then addressed to the next receiver; what is left in the end is the last copy. So
//! nothing has to be put back. The kernel finds each copy's way as it would for a socket, and asks for Ethernet addresses that it
//! does not know. (`bpf_fib_lookup` would serve hosts that forward packets only.)

use super::{Received, control_of, count, own, read};
use crate::atomic::{add, set_bits};
use ashlar_fastpath::frame::ETHERNET_HEADER_BYTES;
use ashlar_fastpath::replication::{
    COPY_MARK, Control, Counter, Datagram, FanOut, MEMBERS_MAX, sum_with_other_address,
};
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_ENFORCE, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, tcx_action_base,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect_neigh,
    bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

const IPV4_CHECKSUM_AT: u32 = ETHERNET_HEADER_BYTES + 10;
const IPV4_TO_AT: u32 = ETHERNET_HEADER_BYTES + 16;
const UDP_AT: u32 = ETHERNET_HEADER_BYTES + 20;
const UDP_TO_PORT_AT: u32 = UDP_AT + 2;
const UDP_CHECKSUM_AT: u32 = UDP_AT + 6;

/// Makes the copies that a frame's mark asks for.
#[classifier]
pub fn replication_tc(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is the kernel's, and the verifier checks the access.
    let (mark, interface) = unsafe { ((*skb).mark, (*skb).ifindex) };
    if mark == COPY_MARK {
        return send_on(skb, interface);
    }
    let Some(places) = FanOut::of_mark(mark) else {
        return tcx_action_base::TCX_NEXT;
    };
    set_mark(skb, 0);
    let mut received = Received::default();
    if !received.load_skb(&context) {
        count(Counter::FanOutForeign);
        return tcx_action_base::TCX_NEXT;
    }
    fan_out(skb, interface, &received.datagram, places)
}

/// Hands a frame over to whatever way leads to the address it bears: without a mark it comes by here once more, and goes.
#[inline(always)]
fn send_on(skb: *mut __sk_buff, interface: u32) -> i32 {
    set_mark(skb, 0);
    // SAFETY: no pointers.
    unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
}

#[inline(always)]
fn set_mark(skb: *mut __sk_buff, mark: u32) {
    // SAFETY: the context is the kernel's, and the verifier checks the access.
    unsafe { (&raw mut (*skb).mark).write_volatile(mark) };
}

#[inline(always)]
fn fan_out(skb: *mut __sk_buff, interface: u32, datagram: &Datagram, places: FanOut) -> i32 {
    let control = if datagram.begins_frame() { control_of(datagram) } else { None };
    let Some(control) = control.filter(|_| datagram.source() == own()) else {
        let is_fragment = datagram.is_fragment();
        count(if is_fragment { Counter::FanOutFragment } else { Counter::FanOutForeign });
        return tcx_action_base::TCX_NEXT;
    };
    // SAFETY: the context is the kernel's, and the control is a map's entry, which the kernel keeps while the program runs.
    unsafe {
        let segments = (*skb).gso_segs;
        add(&raw mut (*control).fanned_out, if segments > 1 { segments.into() } else { 1 });
    }
    if datagram.is_fragment() {
        note_unreached(control, places.places());
        count(Counter::FanOutFragment);
        return tcx_action_base::TCX_NEXT;
    }
    count(Counter::FanOut);
    copy_to_all(skb, interface, datagram.destination(), control, places)
}

#[inline(always)]
fn copy_to_all(
    skb: *mut __sk_buff,
    interface: u32,
    first: u64,
    control: *mut Control,
    places: FanOut,
) -> i32 {
    let mut present = first;
    for place in 0..MEMBERS_MAX as u32 {
        if !places.contains(place) {
            continue;
        }
        // SAFETY: the control is a map's entry, which the kernel keeps while the program runs.
        let member = unsafe { read!(control, members[place as usize]) };
        // The one that it is addressed to gets no second one.
        if member == first {
            continue;
        }
        if member == 0 {
            note_unreached(control, 1 << place);
            count(Counter::CopyUnresolved);
            continue;
        }
        // The first goes as it came, with the Ethernet address that the stack gave it.
        set_mark(skb, if present == first { 0 } else { COPY_MARK });
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_clone_redirect(skb, interface, 0) } != 0 {
            note_unreached_member(control, present);
            count(Counter::CopyFailed);
        }
        if !readdress(skb, present, member) {
            // Neither the one nor the other.
            note_unreached(control, u64::from(u8::MAX) << place & places.places());
            count(Counter::CopyFailed);
            return tcx_action_base::TCX_DROP;
        }
        count(Counter::Copied);
        present = member;
    }
    if present == first {
        set_mark(skb, 0);
        return tcx_action_base::TCX_NEXT;
    }
    send_on(skb, interface)
}

#[inline(always)]
fn note_unreached(control: *mut Control, places: u64) {
    // SAFETY: the control is a map's entry, which the kernel keeps while the program runs.
    unsafe { set_bits(&raw mut (*control).unreached, places) };
}

/// The same for whoever has an address. (Sums over all places would have the verifier follow every one.)
#[inline(always)]
fn note_unreached_member(control: *mut Control, address: u64) {
    for place in 0..MEMBERS_MAX {
        // SAFETY: as above.
        if unsafe { read!(control, members[place]) } == address {
            note_unreached(control, 1 << place);
            return;
        }
    }
}

/// Changes the receiver of a frame of replication; false if the kernel did not let it.
#[inline(always)]
fn readdress(skb: *mut __sk_buff, from: u64, to: u64) -> bool {
    let (from_host, to_host) = (host(from), host(to));
    let mut to_port = port(to);
    // SAFETY: the context is the kernel's, and the verifier checks the access.
    let is_train = unsafe { (*skb).gso_size } != 0;
    let is_summed = if is_train {
        sum_train(skb, from_host, to_host)
    } else {
        sum(skb, [from_host, to_host], [port(from), to_port])
    };
    let mut host = to_host;
    // SAFETY: the context is the kernel's, the buffers are as long as is said, and the helpers check the offsets.
    unsafe {
        let [from_host, to_host] = [from_host, to_host].map(u64::from);
        is_summed
            && bpf_l3_csum_replace(skb, IPV4_CHECKSUM_AT, from_host, to_host, 4) == 0
            && bpf_skb_store_bytes(skb, IPV4_TO_AT, (&raw mut host).cast(), 4, 0) == 0
            && bpf_skb_store_bytes(skb, UDP_TO_PORT_AT, (&raw mut to_port).cast(), 2, 0) == 0
    }
}

/// Sees to the checksum of UDP.
#[inline(always)]
fn sum(skb: *mut __sk_buff, hosts: [u32; 2], ports: [u16; 2]) -> bool {
    // A sum that is left to the interface may happen to be zero so far, which does not say that there is none.
    let flags = u64::from(BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE);
    let of_host = flags | u64::from(BPF_F_PSEUDO_HDR) | 4;
    let [from_host, to_host] = hosts.map(u64::from);
    let [from_port, to_port] = ports.map(u64::from);
    // SAFETY: the context is the kernel's, and the helpers check the offsets.
    unsafe {
        bpf_l4_csum_replace(skb, UDP_CHECKSUM_AT, from_host, to_host, of_host) == 0
            && bpf_l4_csum_replace(skb, UDP_CHECKSUM_AT, from_port, to_port, flags | 2) == 0
    }
}

/// The same for a train, which holds the sum of addresses and length alone until it is taken apart. The helpers know that only of
/// interfaces that compute checksums themselves.
#[inline(always)]
fn sum_train(skb: *mut __sk_buff, from_host: u32, to_host: u32) -> bool {
    let mut sum = 0_u16;
    // SAFETY: as in `readdress`.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), UDP_CHECKSUM_AT, (&raw mut sum).cast(), 2) != 0 {
            return false;
        }
        sum = sum_with_other_address(sum, from_host, to_host);
        bpf_skb_store_bytes(skb, UDP_CHECKSUM_AT, (&raw mut sum).cast(), 2, 0) == 0
    }
}

/// The address within what `member_bits` made, in the network's order.
#[inline(always)]
fn host(member: u64) -> u32 {
    ((member >> 16) as u32).to_be()
}

/// The port, likewise.
#[inline(always)]
fn port(member: u64) -> u16 {
    (member as u16).to_be()
}
