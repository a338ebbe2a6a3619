//! Who has acknowledged something in a view has it as long as it takes part in this view, and says so when it leaves.

use super::super::world::{Checked, World};
use ashlar_vr::{Message, Status, View};

/// What each host has acknowledged last: the view, the place, and the digest there.
pub(super) type Kept = Vec<Option<(View, u64, u64)>>;

impl World {
    pub(super) fn hear_what_is_kept(&mut self, host: usize, message: &Message) -> Checked {
        let known = &mut self.oracles.kept[host];
        match message {
            Message::PrepareOk { view, op, digest } => {
                *known = (*known).max(Some((*view, *op, *digest)))
            }
            Message::DoViewChange(vote) => {
                let Some((view, op, _)) = *known else { return Ok(()) };
                let is_shorter = vote.last_normal == view && vote.head_op < op;
                if is_shorter || vote.last_normal < view {
                    let (last, head) = (vote.last_normal, vote.head_op);
                    let detail = format!(
                        "host {host} has acknowledged {op} in view {view}, and votes with {head} of {last}"
                    );
                    return Err(self.violation("kept", detail));
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn look_at_what_is_kept(&mut self, host: usize) -> Checked {
        let Some(replica) = self.hosts[host].replica() else { return Ok(()) };
        let Some((view, op, digest)) = self.oracles.kept[host] else { return Ok(()) };
        // Whoever has left a view votes with its log, perhaps for itself, until it has another one.
        let log_of = match replica.status() {
            Status::Normal => Some(replica.view()),
            Status::ViewChange => Some(replica.last_normal()),
            Status::Recovering | Status::Joining | Status::Retired => None,
        };
        if log_of != Some(view) {
            return Ok(());
        }
        let log = replica.log();
        // What is in a snapshot is there, and a disk that has lost an entry knows it;
        // what programs have taken will be put in before it leaves.
        let kernel = self.hosts[host].kernel.as_ref().map(|kernel| kernel.borrow());
        let kernel = kernel.filter(|_| replica.status() == Status::Normal);
        let is_in_slot = kernel.is_some_and(|kernel| kernel.holds(view, op, digest));
        let is_excused = op < log.base_op() || log.holes().contains(&op) || is_in_slot;
        if !is_excused && log.digest_at(op) != Some(digest) {
            let head = log.head_op();
            let detail = format!(
                "host {host} has acknowledged {op} in view {view}, and its log ends at {head}"
            );
            return Err(self.violation("kept", detail));
        }
        Ok(())
    }
}
