//! All replicas execute the same entries: what one has executed at a place, no other will execute another entry
//! at. The chain of digests makes one comparison stand for the whole log.

use super::super::world::{Checked, World};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Agreement {
    /// The digest at every place that somebody has executed.
    digests: BTreeMap<u64, u64>,
    /// How far each process was looked at.
    seen: Vec<u64>,
}

impl Agreement {
    pub(super) fn new(hosts: usize) -> Self {
        Self { digests: BTreeMap::new(), seen: vec![0; hosts] }
    }

    pub(super) fn started(&mut self, host: usize) {
        self.seen[host] = 0;
    }
}

impl World {
    pub(super) fn look_at_agreement(&mut self, host: usize) -> Checked {
        let Some(replica) = self.hosts[host].replica() else { return Ok(()) };
        let (executed, log) = (replica.executed(), replica.log());
        let agreement = &mut self.oracles.agreement;
        let first = (agreement.seen[host] + 1).max(log.base_op());
        for op in first..=executed {
            // What a snapshot covers was looked at where it was executed.
            let Some(digest) = log.digest_at(op).filter(|_| op > 0) else { continue };
            let known = *agreement.digests.entry(op).or_insert_with(|| {
                self.coverage.entries_committed += 1;
                digest
            });
            if known != digest {
                let detail = format!("host {host} has executed another entry at {op} than others");
                return Err(self.violation("agreement", detail));
            }
        }
        agreement.seen[host] = executed;
        Ok(())
    }
}
