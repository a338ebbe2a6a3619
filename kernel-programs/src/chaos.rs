//! Faults on purpose. Which frame suffers what is `ashlar_fastpath::chaos`'s decision; here it is carried out.

use crate::atomic::fetch_increment;
use crate::packet::{StackFrame, XdpFrame};
use ashlar_fastpath::chaos::{
    Config, Counters, Frame, Hook, Outcome, SCHEMA_VERSION, Verdict, decide,
};
use ashlar_fastpath::frame::{FrameBytes, Headers};
use aya_ebpf::bindings::{BPF_F_INGRESS, tcx_action_base, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// The layout of the maps below. The loader reads this section and refuses an object of another layout.
#[unsafe(link_section = "chaos_schema")]
#[unsafe(no_mangle)]
static CHAOS_SCHEMA: [u8; 4] = SCHEMA_VERSION.to_le_bytes();

/// Interfaces are numbered from 1 on.
const NO_INTERFACE: u32 = 0;

const HOOKS: u32 = Hook::ALL.len() as u32;

/// Which slot of `CHAOS_CONFIG` is in force. User space fills the other slot first, so that no frame meets half a configuration.
#[map]
static CHAOS_ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static CHAOS_CONFIG: Array<Config> = Array::with_max_entries(2, 0);

/// By hook: the number of the next frame that matches.
#[map]
static CHAOS_NUMBERS: Array<u64> = Array::with_max_entries(HOOKS, 0);

/// By hook: what became of the frames.
#[map]
static CHAOS_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(HOOKS, 0);

/// Drops and corrupts. A driver cannot duplicate: such a frame passes and is counted as declined.
#[xdp]
pub fn chaos_xdp(context: XdpContext) -> u32 {
    let frame = XdpFrame(&context);
    let verdict = judge(Hook::Xdp, &frame, frame.length_bytes());
    let (outcome, action) = match verdict {
        Verdict::Drop => (Outcome::Done(verdict), xdp_action::XDP_DROP),
        Verdict::Duplicate => (Outcome::DuplicateDeclined, xdp_action::XDP_PASS),
        Verdict::Corrupt(corruption) if !frame.flip(corruption.offset_bytes, corruption.mask) => {
            (Outcome::CorruptDeclined, xdp_action::XDP_PASS)
        }
        Verdict::Pass(_) | Verdict::Corrupt(_) => (Outcome::Done(verdict), xdp_action::XDP_PASS),
    };
    count(Hook::Xdp, outcome);
    action
}

/// Judges frames that come in, after the driver.
#[classifier]
pub fn chaos_tc_ingress(context: TcContext) -> i32 {
    chaos_tc(Hook::TcxIngress, &context)
}

/// Judges frames that are about to leave.
#[classifier]
pub fn chaos_tc_egress(context: TcContext) -> i32 {
    chaos_tc(Hook::TcxEgress, &context)
}

#[inline(always)]
fn chaos_tc(hook: Hook, context: &TcContext) -> i32 {
    if copy_mark::take(context) {
        count(hook, Outcome::OwnCopy);
        return tcx_action_base::TCX_NEXT;
    }
    let frame = StackFrame(context);
    let verdict = judge(hook, &frame, frame.length_bytes());
    let (outcome, action) = match verdict {
        Verdict::Drop => (Outcome::Done(verdict), lose(hook)),
        Verdict::Duplicate if !duplicate(hook, context) => {
            (Outcome::DuplicateDeclined, tcx_action_base::TCX_NEXT)
        }
        Verdict::Corrupt(corruption) if !frame.flip(corruption.offset_bytes, corruption.mask) => {
            (Outcome::CorruptDeclined, tcx_action_base::TCX_NEXT)
        }
        Verdict::Pass(_) | Verdict::Duplicate | Verdict::Corrupt(_) => {
            (Outcome::Done(verdict), tcx_action_base::TCX_NEXT)
        }
    };
    count(hook, outcome);
    action
}

#[inline(always)]
fn judge<F: FrameBytes>(hook: Hook, frame: &F, length_bytes: u32) -> Verdict {
    let active = CHAOS_ACTIVE.get(0).copied().unwrap_or(0);
    let (Some(config), Some(numbers)) =
        (CHAOS_CONFIG.get(active), CHAOS_NUMBERS.get_ptr_mut(hook.index()))
    else {
        return decide(
            &Config::ABSENT,
            &Frame { hook, length_bytes, headers: Headers::OTHER },
            || 0,
        );
    };
    let frame = Frame { hook, length_bytes, headers: Headers::parse(frame) };
    // SAFETY: the pointer is a map's entry, which the kernel keeps while the program runs.
    decide(config, &frame, || unsafe { fetch_increment(numbers) })
}

#[inline(always)]
fn count(hook: Hook, outcome: Outcome) {
    if let Some(counters) = CHAOS_COUNTERS.get_ptr_mut(hook.index()) {
        // SAFETY: the pointer is this CPU's entry of the map, and no other program touches the entry while this one runs here.
        unsafe { (*counters).count(outcome) };
    }
}

/// The action that loses a frame.
#[inline(always)]
fn lose(hook: Hook) -> i32 {
    match hook {
        Hook::Xdp | Hook::TcxIngress => tcx_action_base::TCX_DROP,
        // A plain drop would be reported to the sender, whose TCP would then know at once what a network never tells. A redirection
        // is reported as sent, and one to an interface that does not exist goes nowhere.
        // SAFETY: no pointers.
        Hook::TcxEgress => unsafe { bpf_redirect(NO_INTERFACE, 0) as i32 },
    }
}

/// Sends a copy the frame's own way; false if the kernel could not.
#[inline(always)]
fn duplicate(hook: Hook, context: &TcContext) -> bool {
    let flags = match hook {
        Hook::Xdp | Hook::TcxIngress => u64::from(BPF_F_INGRESS),
        Hook::TcxEgress => 0,
    };
    // SAFETY: the context is the kernel's, and the verifier checks the access.
    let interface = unsafe { (*context.skb.skb).ifindex };
    copy_mark::set(context);
    let copied = context.clone_redirect(interface, flags).is_ok();
    copy_mark::take(context);
    copied
}

/// The copy of a frame comes by the same hook again and must not be judged there, or copies would have copies without end. It is
/// known by a mark in the packet's control buffer, which the kernel copies with the packet, leaves alone until the hook, and no
/// sender can write. (The firewall mark would do as well, but routing and applications use that.)
mod copy_mark {
    use aya_ebpf::programs::TcContext;

    /// "AshlarCP": 64 bits, so that leftovers of other layers in the control buffer do not look like it.
    const MARK: [u32; 2] = [0x4173_686c, 0x6172_4350];

    #[inline(always)]
    pub fn set(context: &TcContext) {
        write(context, MARK);
    }

    /// Whether the mark was there; it is not any more.
    #[inline(always)]
    pub fn take(context: &TcContext) -> bool {
        // SAFETY: the context is the kernel's, and the verifier checks the access.
        let [first, second, ..] = unsafe { (*context.skb.skb).cb };
        if [first, second] != MARK {
            return false;
        }
        write(context, [0; 2]);
        true
    }

    #[inline(always)]
    fn write(context: &TcContext, words: [u32; 2]) {
        let [first, second] = words;
        // SAFETY: as above. Volatile: the verifier allows whole words only, so the two must not be merged into one store.
        unsafe {
            (&raw mut (*context.skb.skb).cb[0]).write_volatile(first);
            (&raw mut (*context.skb.skb).cb[1]).write_volatile(second);
        }
    }
}
