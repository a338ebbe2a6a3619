//! What must hold, one property a file. Oracles know nothing of how replicas provide it.

mod agreement;
mod alive;
mod bounded;
mod committed;
mod converged;
mod counted;
mod kept;
mod leaders;
mod linearizable;
mod promises;
mod stored;

use super::{
    Judge,
    world::{Checked, World},
};
use agreement::Agreement;
use ashlar_vr::Message;
use committed::Committed;
use kept::Kept;
use leaders::Leaders;
use promises::Promises;

/// What the oracles remember.
#[derive(Debug)]
pub(super) struct Oracles {
    agreement: Agreement,
    committed: Committed,
    kept: Kept,
    leaders: Leaders,
    promises: Promises,
}

impl Oracles {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            agreement: Agreement::new(hosts),
            committed: Committed::new(),
            kept: vec![None; hosts],
            leaders: Leaders::default(),
            promises: Promises::new(hosts),
        }
    }

    /// A process has started.
    pub(super) fn started(&mut self, host: usize) {
        self.agreement.started(host);
    }
}

impl World {
    /// Looks at a replica after it has done something.
    pub(super) fn look(&mut self, host: usize) -> Checked {
        if self.judge_of == Judge::Clients {
            return Ok(());
        }
        self.look_at_agreement(host)?;
        self.look_at_leader(host)?;
        self.look_at_commit(host)?;
        self.look_at_what_is_kept(host)?;
        self.look_at_bounds(host)
    }

    /// Hears what a replica says.
    pub(super) fn oracles_hear(&mut self, host: usize, message: &Message) -> Checked {
        if self.judge_of == Judge::Clients {
            return Ok(());
        }
        self.hear_acknowledgement(host, message)?;
        self.hear_promise(host, message)?;
        self.hear_what_is_kept(host, message)?;
        self.hear_what_is_stored(host, message)
    }

    /// Hears what a program says for a replica, when it decides to: nobody can keep it from that later.
    pub(super) fn oracles_hear_program(&mut self, host: usize, message: &Message) -> Checked {
        if self.judge_of == Judge::Clients {
            return Ok(());
        }
        self.hear_who_lives(host)?;
        self.oracles_hear(host, message)
    }

    /// Judges the whole run.
    pub(super) fn judge(&mut self) -> Checked {
        if self.judge_of == Judge::All {
            self.judge_convergence()?;
        }
        self.judge_writers()?;
        self.judge_histories()
    }
}
