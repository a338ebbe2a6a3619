//! Faults on purpose: which frames are lost, repeated or damaged.
//!
//! [`decide`] judges one frame. It depends on nothing but its arguments: the same seed judges the same sequence of matching frames
//! in the same way, in the kernel and anywhere else. Frames that the rule does not match take no number, so stray traffic (ARP,
//! neighbour discovery) does not shift the sequence.

mod config;
mod counters;

pub use config::{Config, Direction, PPM, Probabilities, ProbabilitiesError, Rule, SCHEMA_VERSION};
pub use counters::{Counters, Outcome};

use crate::frame::{ETHERNET_HEADER_BYTES, Headers};

/// Where in the kernel a frame is judged. Each hook numbers the frames it matches from 0 on, and draws its own random sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    /// At the driver, before the network stack sees a frame that came in.
    Xdp = 0,
    /// Where the network stack takes a frame that came in.
    TcxIngress = 1,
    /// Where the network stack gives a frame to the interface.
    TcxEgress = 2,
}

impl Hook {
    /// Every hook, in the order of their indices.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::TcxIngress, Self::TcxEgress];

    /// The hook's entry in each map.
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// The way of the frames that this hook sees.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Xdp | Self::TcxIngress => Direction::Ingress,
            Self::TcxEgress => Direction::Egress,
        }
    }
}

/// One frame, as far as the decision depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it is judged.
    pub hook: Hook,
    /// Its length from the Ethernet header on, in bytes. Segmentation offload makes it larger than the interface's MTU.
    pub length_bytes: u32,
    /// What its headers say.
    pub headers: Headers,
}

/// Damage to one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Which byte of the frame: past the Ethernet header, before the frame's end.
    pub offset_bytes: u32,
    /// What to combine with that byte by exclusive or: never 0.
    pub mask: u8,
}

/// What is to happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on untouched.
    Pass(PassReason),
    /// It is lost.
    Drop,
    /// It goes on, and a copy with it.
    Duplicate,
    /// It goes on, with one byte changed.
    Corrupt(Corruption),
}

/// Why a frame goes on untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// There is no configuration, or one of another schema.
    Unconfigured,
    /// The rule does not match it.
    Unmatched,
    /// It matched, and the draw spared it.
    Spared,
    /// It should be corrupted, but has no byte past the Ethernet header.
    TooShort,
}

/// Judges one frame.
///
/// `next_number` gives the number of this frame among those that matched at its hook; it is called once if the rule matches, and
/// not at all otherwise.
#[inline(always)]
pub fn decide(config: &Config, frame: &Frame, next_number: impl FnOnce() -> u64) -> Verdict {
    if !config.is_of_this_schema() {
        return Verdict::Pass(PassReason::Unconfigured);
    }
    if !config.rule.matches(frame.hook.direction(), &frame.headers) {
        return Verdict::Pass(PassReason::Unmatched);
    }
    let draw = draw(config.seed, frame.hook, next_number());
    let point_ppm = scale(high_half(draw), PPM);
    // One draw decides, by which part of 0..PPM it falls into: the outcomes exclude each other and each has exactly its share.
    let probabilities = config.probabilities();
    let dropped_below_ppm = probabilities.drop_ppm;
    let duplicated_below_ppm = dropped_below_ppm.saturating_add(probabilities.duplicate_ppm);
    let corrupted_below_ppm = duplicated_below_ppm.saturating_add(probabilities.corrupt_ppm);
    if point_ppm < dropped_below_ppm {
        Verdict::Drop
    } else if point_ppm < duplicated_below_ppm {
        Verdict::Duplicate
    } else if point_ppm < corrupted_below_ppm {
        corrupt(frame.length_bytes, draw)
    } else {
        Verdict::Pass(PassReason::Spared)
    }
}

#[inline(always)]
fn corrupt(length_bytes: u32, draw: u64) -> Verdict {
    if length_bytes <= ETHERNET_HEADER_BYTES {
        return Verdict::Pass(PassReason::TooShort);
    }
    // A second draw: the first one's value is confined to the corrupting share.
    let place = mix(draw.wrapping_add(GOLDEN_GAMMA));
    let offset_bytes =
        ETHERNET_HEADER_BYTES + scale(high_half(place), length_bytes - ETHERNET_HEADER_BYTES);
    // 1..=255: a mask of 0 would change nothing.
    let mask = 1 + scale(low_half(place), 255) as u8;
    Verdict::Corrupt(Corruption { offset_bytes, mask })
}

/// The odd number nearest to 2^64 divided by the golden ratio: SplitMix64's step.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64 random bits for the frame of this number: SplitMix64 at position `number` of the sequence of (seed, hook).
#[inline(always)]
const fn draw(seed: u64, hook: Hook, number: u64) -> u64 {
    let sequence = mix(seed.wrapping_add((hook.index() as u64 + 1).wrapping_mul(GOLDEN_GAMMA)));
    mix(sequence.wrapping_add(number.wrapping_mul(GOLDEN_GAMMA)))
}

/// SplitMix64's output function: every bit of the input affects every bit of the output.
#[inline(always)]
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Maps 32 random bits evenly to `0..bound`, without a division; `bound` must not be 0.
#[inline(always)]
const fn scale(random: u32, bound: u32) -> u32 {
    ((random as u64 * bound as u64) >> 32) as u32
}

#[inline(always)]
const fn high_half(bits: u64) -> u32 {
    (bits >> 32) as u32
}

#[inline(always)]
const fn low_half(bits: u64) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests;
