//! The oracles: one property a file.
//!
//! | oracle | property |
//! |--------|----------|
//! | [`responses`] | every byte that a client gets is the right one of the right answer |
//! | [`requests`] | every byte of a request reaches one application, once and in order |
//! | [`owners`] | one socket of a connection may speak, at most |
//! | [`followed`] | steering delivers to whoever goes on with a connection |
//! | [`introduced`] | an entry is made for a living connection, by the owner that frames come to, by one datagram |
//! | [`acknowledged`] | what was acknowledged to a client is at its connection's owner |
//! | [`silence`] | only a socket in repair mode is closed without a word |
//! | [`undisturbed`] | without faults every move succeeds, and no client notices any |
//! | [`leftovers`] | in the end no socket, move or entry is left |
//! | [`liveness`] | without faults every client is answered |

pub(crate) mod acknowledged;
pub(crate) mod followed;
pub(crate) mod introduced;
pub(crate) mod leftovers;
pub(crate) mod liveness;
pub(crate) mod owners;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod silence;
pub(crate) mod undisturbed;

use std::collections::BTreeSet;

/// The oracles that remember something.
#[derive(Debug)]
pub(crate) struct Oracles {
    pub(crate) requests: requests::Requests,
    pub(crate) undisturbed: undisturbed::Undisturbed,
    /// Connections whose frozen socket has acknowledged something.
    pub(crate) slipped: BTreeSet<usize>,
}

impl Oracles {
    /// Oracles that have seen nothing yet.
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            requests: requests::Requests::default(),
            undisturbed: undisturbed::Undisturbed::new(clients),
            slipped: BTreeSet::new(),
        }
    }
}
