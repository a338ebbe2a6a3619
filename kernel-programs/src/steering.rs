//! Frames of a flow go to the flow's owner. Who that is and who may change it are `ashlar_fastpath::steering`'s decisions; here the
//! tables are, and the frames are written.

use crate::atomic::{try_lock, unlock};
use crate::packet::{StackFrame, WriteFrame, XdpFrame};
use ashlar_fastpath::frame::ETHERNET_HEADER_BYTES;
use ashlar_fastpath::steering::{
    CONTROL_FRAME_BYTES, Class, Config, ControlError, ControlFrame, Counter, Counters, Effect,
    Entry, EntryOrNone, FlowKey, Freshness, IPV4_HEADER_BYTES, IPV6_ANSWER_OFFSET_BYTES,
    IPV6_HEADER_BYTES, MacAddress, Packet, PassReason, Place, ReplayWindow, ResultCode,
    SCHEMA_VERSION, UDP_HEADER_BYTES, Verdict, answer_ipv4, answer_ipv6, decide, judge,
    udp_checksum,
};
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, tcx_action_base, xdp_action};
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_redirect};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// The layout of the maps below. The loader reads this section and refuses an object of another layout.
#[unsafe(link_section = "steering_schema")]
#[unsafe(no_mangle)]
static STEERING_SCHEMA: [u8; 4] = SCHEMA_VERSION.to_le_bytes();

/// A power of two: control frames of flows that share a lock wait for each other.
const LOCKS: u32 = 256;

/// The kernel's error when a table has no room.
const E2BIG: i32 = -7;

#[map]
static STEERING_CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// The loader sets the number of entries; the kernel takes memory for each when it is made.
#[map]
static STEERING_FLOWS: HashMap<FlowKey, Entry> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Whoever makes, changes or removes an entry for a control frame, or removes one for a SYN, holds its flow's lock.
#[map]
static STEERING_LOCKS: Array<u64> = Array::with_max_entries(LOCKS, 0);

/// What was seen of one sender.
#[repr(C)]
struct Sender {
    lock: u64,
    window: ReplayWindow,
}

/// By the sender's number. The loader sets the number of entries.
#[map]
static STEERING_SENDERS: Array<Sender> = Array::with_max_entries(1, 0);

/// What became of the frames.
#[map]
static STEERING_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// What the shell of a hook is to do with the frame.
#[derive(Clone, Copy)]
enum Action {
    Pass,
    Drop,
    /// Out by the interface it came in by.
    Send,
}

/// Steers frames that the driver just received.
#[xdp]
pub fn steering_xdp(context: XdpContext) -> u32 {
    xdp(&context, Place::Host)
}

/// The same at a port of a switch.
#[xdp]
pub fn steering_port_xdp(context: XdpContext) -> u32 {
    xdp(&context, Place::Port)
}

/// Steers frames that come in, after the driver: also those of many packets in one, and those without finished checksums.
#[classifier]
pub fn steering_tc(context: TcContext) -> i32 {
    tc(&context, Place::Host)
}

/// The same at a port of a switch.
#[classifier]
pub fn steering_port_tc(context: TcContext) -> i32 {
    tc(&context, Place::Port)
}

#[inline(always)]
fn xdp(context: &XdpContext, place: Place) -> u32 {
    match run(&XdpFrame(context), place) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Send => xdp_action::XDP_TX,
    }
}

#[inline(always)]
fn tc(context: &TcContext, place: Place) -> i32 {
    // SAFETY: the context is the kernel's, and the verifier checks the access.
    let (interface, has_vlan_tag) =
        unsafe { ((*context.skb.skb).ifindex, (*context.skb.skb).vlan_present != 0) };
    // The tag is not among the frame's bytes here, where it would make the frame another protocol's.
    if has_vlan_tag {
        count(Counter::Other);
        return tcx_action_base::TCX_NEXT;
    }
    match run(&StackFrame(context), place) {
        Action::Pass => tcx_action_base::TCX_NEXT,
        Action::Drop => tcx_action_base::TCX_DROP,
        // SAFETY: no pointers.
        Action::Send => unsafe { bpf_redirect(interface, 0) as i32 },
    }
}

#[inline(always)]
fn run<F: WriteFrame>(frame: &F, place: Place) -> Action {
    let Some(config) = STEERING_CONFIG.get(0) else {
        return Action::Pass;
    };
    let packet = Packet::parse(frame, config, place);
    let (counter, action) = match packet.class {
        Class::Tcp => steer(frame, &packet, config, place),
        Class::Control => control(frame, &packet, config),
        class => match Counter::of_class(class) {
            Some(counter) => (counter, Action::Pass),
            None => return Action::Pass,
        },
    };
    count(counter);
    action
}

#[inline(always)]
fn count(counter: Counter) {
    if let Some(counters) = STEERING_COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's entry of the map. A program that interrupts this one may cost a count, nothing else.
        unsafe { (*counters).count(counter) };
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: no pointers.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Reads an entry that may be changed, or even removed, at this moment: see [`Entry`] for why in this order.
#[inline(always)]
fn read(entry: *mut Entry) -> EntryOrNone {
    // SAFETY: the kernel keeps the memory of a table's entry readable while the program runs.
    unsafe {
        let owner = (&raw const (*entry).owner).read_volatile();
        let epoch = (&raw const (*entry).epoch).read_volatile();
        let last_seen_ns = (&raw const (*entry).last_seen_ns).read_volatile();
        let closing = (&raw const (*entry).closing).read_volatile();
        let identity = (&raw const (*entry).identity).read_volatile();
        EntryOrNone::some(Entry { identity, closing, owner, epoch, last_seen_ns })
    }
}

/// A client's frame.
#[inline(always)]
fn steer<F: WriteFrame>(
    frame: &F,
    packet: &Packet,
    config: &Config,
    place: Place,
) -> (Counter, Action) {
    let Some(entry) = STEERING_FLOWS.get_ptr_mut(&packet.key) else {
        return (Counter::NoFlow, Action::Pass);
    };
    let destination = match place {
        Place::Host => config.mac(),
        Place::Port => MacAddress(frame.read::<6>(0).unwrap_or_default()),
    };
    let identity = Entry::identity_of(packet.key.digest());
    let now_ns = now_ns();
    let judgement = judge(&read(entry), identity, destination, packet.tcp_flags, now_ns);
    // SAFETY: as in `read`. If the entry was removed meanwhile, another flow's is a little younger, or ends a little earlier.
    unsafe {
        if judgement.touch {
            (&raw mut (*entry).last_seen_ns).write_volatile(now_ns);
        }
        if judgement.close {
            (&raw mut (*entry).closing).write_volatile(1);
        }
    }
    match judgement.verdict {
        Verdict::Pass(PassReason::NoFlow) => (Counter::NoFlow, Action::Pass),
        Verdict::Pass(PassReason::OwnedHere) => (Counter::OwnedHere, Action::Pass),
        Verdict::Steer(owner) => readdress(frame, owner, config, place),
        Verdict::PassAndForget => forget_ending(&packet.key),
    }
}

/// Gives the frame to its owner. From a host it leaves in the host's name, or the switch behind the interface would learn that the
/// client is here. A switch keeps the client's: it learns from the frame after this program.
#[inline(always)]
fn readdress<F: WriteFrame>(
    frame: &F,
    owner: MacAddress,
    config: &Config,
    place: Place,
) -> (Counter, Action) {
    let (is_written, action) = match place {
        Place::Host => (frame.write(0, ethernet_addresses(owner, config.mac())), Action::Send),
        Place::Port => (frame.write(0, owner.0), Action::Pass),
    };
    if is_written { (Counter::Steered, action) } else { (Counter::WriteFailed, Action::Drop) }
}

/// Destination and source, as a frame starts.
#[inline(always)]
fn ethernet_addresses(destination: MacAddress, source: MacAddress) -> [u8; 12] {
    let [d0, d1, d2, d3, d4, d5] = destination.0;
    let [s0, s1, s2, s3, s4, s5] = source.0;
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]
}

#[inline(always)]
fn flow_lock(digest: u64) -> Option<*mut u64> {
    STEERING_LOCKS.get_ptr_mut((digest >> 32) as u32 & (LOCKS - 1))
}

/// Removes the entry of a connection that ended, for the SYN of the next one. Without the removal that SYN must not go on: the rest
/// of its connection would be steered.
#[inline(always)]
fn forget_ending(key: &FlowKey) -> (Counter, Action) {
    let Some(lock) = flow_lock(key.digest()) else {
        return (Counter::ForgetContended, Action::Drop);
    };
    // SAFETY: the pointer is a map's entry, which the kernel keeps while the program runs.
    if !unsafe { try_lock(lock) } {
        return (Counter::ForgetContended, Action::Drop);
    }
    // Another frame may have removed it before, and a new one been made, while this one waited.
    if let Some(entry) = STEERING_FLOWS.get_ptr_mut(key)
        && read(entry).entry.is_closing()
    {
        // Fails if there is no such entry, which is as good.
        let _ = STEERING_FLOWS.remove(key);
    }
    // SAFETY: as above, and the lock is held.
    unsafe { unlock(lock) };
    (Counter::ForgottenBySyn, Action::Pass)
}

/// A datagram for the control address: answered, or dropped.
#[inline(always)]
fn control<F: WriteFrame>(frame: &F, packet: &Packet, config: &Config) -> (Counter, Action) {
    let mut message = ControlFrame::ZERO;
    if !read_payload(frame, packet, &mut message) {
        return (Counter::ControlMalformed, Action::Drop);
    }
    match message.check(config.key_words()) {
        Ok(()) => {}
        Err(ControlError::Malformed) => return (Counter::ControlMalformed, Action::Drop),
        Err(ControlError::Forged) => return (Counter::ControlForged, Action::Drop),
    }
    let (result, state) = if message.incarnation() != config.incarnation() {
        (ResultCode::WrongIncarnation, EntryOrNone::NONE)
    } else {
        match admit(message.sender(), message.counter()) {
            Admission::Admitted => execute(&message),
            Admission::Refused(counter) => return (counter, Action::Drop),
        }
    };
    let old_sum = frame.sum_payload(message.words_mut());
    message.turn(result, &state, config.incarnation(), config.key_words());
    if answer(frame, packet, config, &mut message, old_sum) {
        (Counter::of_result(result), Action::Send)
    } else {
        (Counter::WriteFailed, Action::Drop)
    }
}

/// Reads the payload; false if it has not the one right length, or if the IP header is not a plain one.
#[inline(always)]
fn read_payload<F: WriteFrame>(frame: &F, packet: &Packet, message: &mut ControlFrame) -> bool {
    let ip_header_bytes = if packet.is_ipv6 { IPV6_HEADER_BYTES } else { IPV4_HEADER_BYTES } as u32;
    let udp_bytes = UDP_HEADER_BYTES as u16 + CONTROL_FRAME_BYTES as u16;
    packet.transport_offset_bytes == ETHERNET_HEADER_BYTES + ip_header_bytes
        && frame.read::<2>(packet.transport_offset_bytes + 4) == Some(udp_bytes.to_be_bytes())
        && frame.read_words(packet.transport_offset_bytes + UDP_HEADER_BYTES, message.words_mut())
}

#[derive(Clone, Copy)]
enum Admission {
    Admitted,
    Refused(Counter),
}

/// Lets each counter of a sender through once.
#[inline(always)]
fn admit(sender: u16, counter: u64) -> Admission {
    let Some(sender) = STEERING_SENDERS.get_ptr_mut(u32::from(sender)) else {
        return Admission::Refused(Counter::ControlSenderUnknown);
    };
    // SAFETY: the pointer is a map's entry, which the kernel keeps while the program runs; the lock keeps others off the window.
    unsafe {
        let lock = &raw mut (*sender).lock;
        if !try_lock(lock) {
            return Admission::Refused(Counter::ControlContended);
        }
        let window = (&raw mut (*sender).window).read_volatile();
        let admission = match window.accept(counter) {
            Freshness::Fresh(window) => {
                (&raw mut (*sender).window).write_volatile(window);
                Admission::Admitted
            }
            Freshness::Replayed => Admission::Refused(Counter::ControlReplayed),
        };
        unlock(lock);
        admission
    }
}

/// Does what a request asks for; the result, and what the table holds afterwards.
#[inline(always)]
fn execute(request: &ControlFrame) -> (ResultCode, EntryOrNone) {
    let key = request.flow();
    let digest = key.digest();
    let Some(lock) = flow_lock(digest) else {
        return (ResultCode::Busy, EntryOrNone::NONE);
    };
    // SAFETY: the pointer is a map's entry, which the kernel keeps while the program runs.
    if !unsafe { try_lock(lock) } {
        return (ResultCode::Busy, EntryOrNone::NONE);
    }
    let outcome = execute_locked(&key, Entry::identity_of(digest), request);
    // SAFETY: as above, and the lock is held.
    unsafe { unlock(lock) };
    outcome
}

#[inline(always)]
fn execute_locked(
    key: &FlowKey,
    identity: u32,
    request: &ControlFrame,
) -> (ResultCode, EntryOrNone) {
    let entry = STEERING_FLOWS.get_ptr_mut(key);
    let found = match entry {
        Some(entry) => read(entry),
        None => EntryOrNone::NONE,
    };
    let decision = decide(&found, request, identity, now_ns());
    let after = decision.after.entry;
    match decision.effect {
        Effect::None => {}
        Effect::Insert => match STEERING_FLOWS.insert(key, after, u64::from(BPF_NOEXIST)) {
            Ok(()) => {}
            Err(E2BIG) => return (ResultCode::TableFull, EntryOrNone::NONE),
            Err(_) => return (ResultCode::Busy, EntryOrNone::NONE),
        },
        Effect::Update => {
            if let Some(entry) = entry {
                // SAFETY: as in `read`; and nobody removes the entry while its flow's lock is held.
                unsafe {
                    (&raw mut (*entry).owner).write_volatile(after.owner);
                    (&raw mut (*entry).epoch).write_volatile(after.epoch);
                    (&raw mut (*entry).last_seen_ns).write_volatile(after.last_seen_ns);
                    if after.is_closing() {
                        (&raw mut (*entry).closing).write_volatile(1);
                    }
                }
            }
        }
        Effect::Remove => {
            // Cannot fail while the lock is held: the entry was there.
            let _ = STEERING_FLOWS.remove(key);
        }
    }
    (decision.result, decision.after)
}

/// Turns the request's frame into the reply's; false if the kernel did not let it.
#[inline(always)]
fn answer<F: WriteFrame>(
    frame: &F,
    packet: &Packet,
    config: &Config,
    reply: &mut ControlFrame,
    old_sum: u32,
) -> bool {
    let udp_offset_bytes = packet.transport_offset_bytes;
    let key = &packet.key;
    let ports = [key.service_port, key.client_port];
    let checksum = udp_checksum([&key.service_address, &key.client_address], ports, reply.words());
    let [[s0, s1], [d0, d1]] = ports.map(u16::to_be_bytes);
    let Some(asker) = frame.read::<6>(6) else {
        return false;
    };
    frame.write(0, ethernet_addresses(MacAddress(asker), config.mac()))
        && answer_ip(frame, packet)
        && frame.write(udp_offset_bytes, [s0, s1, d0, d1])
        && frame.write_payload(
            udp_offset_bytes + UDP_HEADER_BYTES,
            reply.words_mut(),
            old_sum,
            udp_offset_bytes + 6,
            checksum,
        )
}

#[inline(always)]
fn answer_ip<F: WriteFrame>(frame: &F, packet: &Packet) -> bool {
    if packet.is_ipv6 {
        let header = answer_ipv6(&packet.key.service_address, &packet.key.client_address);
        return frame.write(ETHERNET_HEADER_BYTES + IPV6_ANSWER_OFFSET_BYTES, header);
    }
    match frame.read::<IPV4_HEADER_BYTES>(ETHERNET_HEADER_BYTES) {
        Some(header) => frame.write(ETHERNET_HEADER_BYTES, answer_ipv4(header)),
        None => false,
    }
}
