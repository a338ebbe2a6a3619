//! What programs in the kernel decide for a replica, and the memory that they share with it.
//!
//! - A backup's host appends frames of its leader to a log of slots, and acknowledges them ([`judge_prepare`]).
//! - A leader's host keeps how far each backup is, and wakes the leader when a quorum is further ([`judge_acknowledgement`]).
//! - A leader's host makes one frame into as many as it has receivers ([`FanOut`]).
//!
//! Whoever decides about a group's log holds the lock of its [`Control`]: programs never wait for long, and leave a frame to user
//! space if they do not get it. So a replica that wants to be sure that nothing is acknowledged any more takes the lock.

mod acknowledgement;
mod checksum;
mod counters;
mod datagram;
mod fan_out;
mod header;
mod prepare;
mod shared;
#[cfg(test)]
mod tests;

pub use acknowledgement::{
    Acknowledgement, AcknowledgementVerdict, Leader, judge_acknowledgement, reaches_quorum,
};
pub use checksum::{STRIPE_BYTES, Stripe, checksum, checksum_of, stripes_of};
pub use counters::{Counter, Counters};
pub use datagram::{DATAGRAM_HEADER_BYTES, Datagram, HEADERS_BYTES, Malformed};
pub use fan_out::{COPY_MARK, FanOut, sum_with_other_address};
pub use header::{FOLLOWED, HEADER_BYTES, Header, MAGIC, NO_PLACE, VERSION, kind};
pub use prepare::{Follower, Prepare, PrepareVerdict, judge_prepare};
pub use shared::{
    Acknowledged, Config, Control, FRAME_BYTES_MAX, GroupKey, LOCK_FREE, LOCK_KERNEL, LOCK_OWNER,
    MEMBERS_MAX, MODE_FOLLOW, MODE_LEAD, MODE_OFF, SCHEMA_VERSION, SLOTS, Slot, member_bits,
};
