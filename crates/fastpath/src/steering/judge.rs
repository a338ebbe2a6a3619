//! What becomes of a client's frame.

use super::flow::{EntryOrNone, MacAddress};
use super::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// An entry's time is written again only if it is older than this: not every frame of a busy flow then writes to the entry.
pub const TOUCH_INTERVAL_NS: u64 = 100_000_000;

/// What is to happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on untouched: to this host's stack, or through the switch to where it is addressed to.
    Pass(PassReason),
    /// It goes to the owner, by its Ethernet address.
    Steer(MacAddress),
    /// A new connection starts under a name that an ending one had: the entry goes, and the frame goes on untouched.
    PassAndForget,
}

/// Why a frame of a TCP connection is not steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// The flow is not in the table: the host that the frame is addressed to has the connection, or answers that nobody has.
    NoFlow,
    /// The flow's owner is the very host that the frame is addressed to.
    OwnedHere,
}

/// A verdict, and what to write into the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What is to happen to the frame.
    pub verdict: Verdict,
    /// Write the present time.
    pub touch: bool,
    /// Write that the client is about to end the connection.
    pub close: bool,
}

impl Judgement {
    #[inline(always)]
    const fn without_entry(verdict: Verdict) -> Self {
        Self { verdict, touch: false, close: false }
    }
}

/// Judges a TCP frame from a client.
///
/// `found` is what the table holds for the flow, `identity` what an entry of this flow says of itself, `destination` the Ethernet
/// address that the frame goes to, `tcp_flags` the flags of the TCP header.
#[inline(always)]
pub const fn judge(
    found: &EntryOrNone,
    identity: u32,
    destination: MacAddress,
    tcp_flags: u8,
    now_ns: u64,
) -> Judgement {
    let entry = &found.entry;
    // Another identity: the entry was removed while it was read, and its memory belongs to another flow by now.
    if !found.is_present || entry.identity != identity {
        return Judgement::without_entry(Verdict::Pass(PassReason::NoFlow));
    }
    if entry.is_closing() && is_opening(tcp_flags) {
        return Judgement::without_entry(Verdict::PassAndForget);
    }
    // A SYN for a connection that is not ending goes to the owner too: its stack challenges it, and a client that started anew
    // answers that with a RST, which makes the entry one that is ending.
    let owner = entry.owner().mac;
    let verdict = if owner.to_bits() == destination.to_bits() {
        Verdict::Pass(PassReason::OwnedHere)
    } else {
        Verdict::Steer(owner)
    };
    Judgement {
        verdict,
        touch: now_ns.saturating_sub(entry.last_seen_ns) >= TOUCH_INTERVAL_NS,
        close: tcp_flags & (TCP_FIN | TCP_RST) != 0 && !entry.is_closing(),
    }
}

#[inline(always)]
const fn is_opening(tcp_flags: u8) -> bool {
    tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN
}
