//! What is committed was acknowledged by a quorum, in one view, each of its members counted once; and every log of
//! a later view has it.

use super::super::world::{Checked, World};
use ashlar_vr::{Message, Mode, Status, View};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

#[derive(Debug)]
pub(super) struct Committed {
    /// Somebody takes everything up to here for committed.
    frontier: u64,
    /// By view: the last place that became committed in it.
    last: BTreeMap<View, u64>,
    /// By view, then by host: the last place that was acknowledged.
    acknowledged: BTreeMap<View, Vec<u64>>,
    /// The members of each epoch.
    groups: HashMap<u32, Vec<SocketAddr>>,
}

impl Committed {
    pub(super) fn new() -> Self {
        Self {
            frontier: 0,
            last: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Somebody takes everything up to here for committed.
    pub(super) fn frontier(&self) -> u64 {
        self.frontier
    }
}

impl World {
    pub(super) fn hear_acknowledgement(&mut self, host: usize, message: &Message) -> Checked {
        match message {
            Message::PrepareOk { view, op, .. } => {
                let hosts = self.hosts.len();
                let acknowledged = &mut self.oracles.committed.acknowledged;
                let by_host = acknowledged.entry(*view).or_insert_with(|| vec![0; hosts]);
                by_host[host] = by_host[host].max(*op);
                Ok(())
            }
            Message::DoViewChange(vote) => self.has_committed(host, vote.last_normal, vote.head_op),
            _ => Ok(()),
        }
    }

    /// A log of a view has everything that was committed in earlier ones.
    fn has_committed(&self, host: usize, view: View, head_op: u64) -> Checked {
        let committed = self.oracles.committed.last.range(..view).map(|(_, op)| *op).max();
        match committed.filter(|op| *op > head_op) {
            None => Ok(()),
            Some(op) => {
                let detail = format!(
                    "host {host}'s log of view {view} ends at {head_op}, and {op} was committed before"
                );
                Err(self.violation("committed", detail))
            }
        }
    }

    pub(super) fn look_at_commit(&mut self, host: usize) -> Checked {
        let Some(replica) = self.hosts[host].replica() else { return Ok(()) };
        if replica.status() == Status::Joining {
            return Ok(());
        }
        if replica.status() == Status::Normal {
            self.has_committed(host, replica.view(), replica.log().head_op())?;
        }
        let (commit, group) = (replica.commit(), replica.configuration());
        let appended_in = replica.log().get(commit).map(|entry| entry.view);
        let committed = &mut self.oracles.committed;
        committed.groups.entry(group.epoch()).or_insert_with(|| group.members().to_vec());
        if commit <= committed.frontier {
            return Ok(());
        }
        committed.frontier = commit;
        // Who is alone tells nobody.
        let is_alone = self.oracles.committed.groups.values().any(|group| group.len() == 1);
        let alone_in = appended_in.filter(|_| is_alone);
        let Some(view) = self.acknowledged_in(commit).or(alone_in) else {
            let detail = format!("host {host} takes {commit} for committed, and no quorum has it");
            return Err(self.violation("committed", detail));
        };
        self.oracles.committed.last.insert(view, commit);
        Ok(())
    }

    /// The last view in which a quorum has acknowledged a place. A leader need not tell itself.
    fn acknowledged_in(&self, op: u64) -> Option<View> {
        let Committed { acknowledged, groups, .. } = &self.oracles.committed;
        let has = |view: &View, by_host: &[u64], address: &SocketAddr, leader: &SocketAddr| {
            let Some(host) = self.host_at(*address) else { return false };
            if address != leader {
                return by_host[host] >= op;
            }
            debug_assert!(by_host[host] == 0, "{view} is its own");
            let disk = self.hosts[host].disk.durable();
            let is_stored = disk.entries.contains_key(&op)
                || disk.checkpoint.as_ref().is_some_and(|(at, _)| *at >= op);
            self.plan.options.mode == Mode::Volatile || is_stored
        };
        let is_decided = |view: &View, by_host: &[u64]| {
            let Some(group) = groups.get(&view.epoch()) else { return false };
            let leader = &group[(view.number() % group.len() as u64) as usize];
            let count = group.iter().filter(|at| has(view, by_host, at, leader)).count();
            2 * count > group.len()
        };
        // In an earlier one, another entry may have been acknowledged there.
        let decided = acknowledged.iter().rev();
        decided.filter(|(view, by_host)| is_decided(view, by_host)).map(|(view, _)| *view).next()
    }
}
