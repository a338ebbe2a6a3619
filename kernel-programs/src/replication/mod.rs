//! Replicas' frames. What becomes of each is `ashlar_fastpath::replication`'s decision; here the shared memory is, and the frames are
//! read and written.
//!
//! A group's fields are changed by user space at the same time: all access is volatile or atomic, and what belongs together is read
//! and written with the lock.

mod fan_out;
mod follow;
mod lead;

use crate::packet::XdpFrame;
use ashlar_fastpath::replication::{
    Config, Control, Counter, Counters, DATAGRAM_HEADER_BYTES, Datagram, GroupKey, SCHEMA_VERSION,
    Slot, kind,
};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::{TcContext, XdpContext};

/// The layout of the maps below. The loader reads this section and refuses an object of another layout.
#[unsafe(link_section = "replication_schema")]
#[unsafe(no_mangle)]
static REPLICATION_SCHEMA: [u8; 4] = SCHEMA_VERSION.to_le_bytes();

/// `BPF_F_MMAPABLE`: user space sees the map's memory as its own.
const MEMORY_MAPPABLE: u32 = 1 << 10;

/// One record is enough to wake the process, which takes all of them.
const BELL_BYTES: u32 = 4_096;

#[map]
static REPLICATION_CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// A group's index among the controls. The loader sets the number of entries.
#[map]
static REPLICATION_GROUPS: HashMap<GroupKey, u32> = HashMap::with_max_entries(1, 0);

/// The loader sets the number of entries.
#[map]
static REPLICATION_CONTROL: Array<Control> = Array::with_max_entries(1, MEMORY_MAPPABLE);

/// All groups' slots. The loader sets the number of entries.
#[map]
static REPLICATION_LOG: Array<Slot> = Array::with_max_entries(1, MEMORY_MAPPABLE);

/// Wakes the process.
#[map]
static REPLICATION_BELL: RingBuf = RingBuf::with_byte_size(BELL_BYTES, 0);

/// What became of the frames.
#[map]
static REPLICATION_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Accepts and acknowledges what a leader sends, and notes what backups acknowledge.
#[xdp]
pub fn replication_xdp(context: XdpContext) -> u32 {
    let frame = XdpFrame(&context);
    let mut received = Received::default();
    if !received.load_xdp(&context) {
        return xdp_action::XDP_PASS;
    }
    match run(&frame, &mut received.datagram) {
        Some((counter, action)) => {
            count(counter);
            action
        }
        None => xdp_action::XDP_PASS,
    }
}

/// What to do with a frame and what to count; `None` if it is no business of any replica.
#[inline(always)]
fn run(frame: &XdpFrame<'_>, datagram: &mut Datagram) -> Option<(Counter, u32)> {
    if !datagram.is_frame() {
        return None;
    }
    let own = own();
    if own == 0 {
        return Some((Counter::Unconfigured, xdp_action::XDP_PASS));
    }
    if datagram.destination() != own {
        return None;
    }
    let is_prepare = datagram.header.kind == kind::PREPARE;
    if !is_prepare && datagram.header.kind != kind::PREPARE_OK {
        return Some((Counter::OtherKind, xdp_action::XDP_PASS));
    }
    let Some(control) = control_of(datagram) else {
        return Some((Counter::OtherGroup, xdp_action::XDP_PASS));
    };
    let length_bytes = frame.length_bytes();
    let Ok(bytes) = datagram.frame_bytes(length_bytes) else {
        return Some((Counter::Malformed, xdp_action::XDP_PASS));
    };
    Some(if is_prepare {
        follow::follow(frame, datagram, control, bytes, length_bytes)
    } else {
        lead::lead(datagram, control)
    })
}

/// A datagram's beginning, at a place where the fields of its frame are aligned.
#[derive(Default)]
#[repr(C, align(8))]
struct Received {
    _alignment: [u8; 6],
    datagram: Datagram,
}

impl Received {
    /// False if the frame is shorter.
    #[inline(always)]
    fn load_xdp(&mut self, context: &XdpContext) -> bool {
        let datagram = (&raw mut self.datagram).cast();
        // SAFETY: the context is the kernel's, and the datagram is as long, of bytes of any value.
        unsafe { bpf_xdp_load_bytes(context.ctx, 0, datagram, DATAGRAM_HEADER_BYTES) == 0 }
    }

    /// The same.
    #[inline(always)]
    fn load_skb(&mut self, context: &TcContext) -> bool {
        let datagram = (&raw mut self.datagram).cast();
        // SAFETY: as above.
        unsafe {
            bpf_skb_load_bytes(context.skb.skb.cast(), 0, datagram, DATAGRAM_HEADER_BYTES) == 0
        }
    }
}

/// The replication socket's address; 0 if there is none.
#[inline(always)]
fn own() -> u64 {
    match REPLICATION_CONFIG.get_ptr(0) {
        // SAFETY: the kernel keeps the map's memory while the program runs.
        Some(config) => unsafe { (&raw const (*config).own).read_volatile() },
        None => 0,
    }
}

/// The control of the group that a frame is about, which the kernel keeps while the program runs.
#[inline(always)]
fn control_of(datagram: &Datagram) -> Option<*mut Control> {
    let index = REPLICATION_GROUPS.get_ptr(&datagram.group())?;
    // SAFETY: as above.
    REPLICATION_CONTROL.get_ptr_mut(unsafe { index.read_volatile() })
}

#[inline(always)]
fn count(counter: Counter) {
    if let Some(counters) = REPLICATION_COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's entry of the map. A program that interrupts this one may cost a count, nothing else.
        unsafe { (*counters).count(counter) };
    }
}

/// Reads one field of the shared memory.
macro_rules! read {
    ($control:expr, $($field:tt)+) => {
        (&raw const (*$control).$($field)+).read_volatile()
    };
}

/// Writes one field of the shared memory.
macro_rules! write {
    ($control:expr, $field:ident, $value:expr) => {
        (&raw mut (*$control).$field).write_volatile($value)
    };
}

use {read, write};
