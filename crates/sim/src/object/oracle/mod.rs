//! The oracles: one property a file.
//!
//! | oracle | property |
//! |--------|----------|
//! | [`linearizable`] | an order of the operations explains what the clients of a key saw |
//! | [`acknowledged`] | a write that was answered is durable at every replica, and stays |
//! | [`prefix`] | what a replica has applied is a prefix of what its predecessor has |
//! | [`commitment`] | committed never exceeds what the tail has applied, and never falls |
//! | [`replies`] | every write is answered at most once, and by the replica that took it |
//! | [`window`] | the entries and bytes that wait for their commit keep to their bounds |
//! | [`refused`] | a write that was refused or failed is never persisted nor seen |
//! | [`stored_bodies`] | a staged body is there as long as a version names it |
//! | [`space`] | what was numbered before a full disk was heard of finds room in its reserve |
//! | [`standing`] | only a replica whose disk was lost takes itself for lost |
//! | [`converged`] | without faults all replicas come to hold the same, and nothing superseded |
//! | [`liveness`] | without faults everything ends, and new writes and reads succeed |

pub(crate) mod acknowledged;
pub(crate) mod commitment;
pub(crate) mod converged;
pub(crate) mod linearizable;
pub(crate) mod liveness;
pub(crate) mod prefix;
pub(crate) mod refused;
pub(crate) mod replies;
pub(crate) mod space;
pub(crate) mod standing;
pub(crate) mod stored_bodies;
pub(crate) mod window;

/// The oracles that remember something across nodes.
#[derive(Debug)]
pub(crate) struct Oracles {
    pub(crate) acknowledged: acknowledged::Acknowledged,
    pub(crate) prefix: prefix::Prefix,
    pub(crate) refused: refused::Refused,
    pub(crate) replies: replies::Replies,
}

impl Oracles {
    /// Oracles that have seen nothing yet.
    pub(crate) fn new(chains: &[Vec<usize>]) -> Self {
        Self {
            acknowledged: acknowledged::Acknowledged::new(chains.len()),
            prefix: prefix::Prefix::new(chains),
            refused: refused::Refused::default(),
            replies: replies::Replies::default(),
        }
    }
}
