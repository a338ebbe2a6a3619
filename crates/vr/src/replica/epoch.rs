//! Changing the members (VR Revisited, section 7).
//!
//! The entry that names the next members is the last one of its epoch: its leader takes no request behind it.
//! Whoever executes it is in the next epoch at once. Members of the new epoch that do not know it yet are told
//! by its leader, and by old members that are no members any more.

use super::{Output, Replica, Status, fetch::Purpose};
use crate::{Configuration, Entry, EpochStart, Members, Message, Service, View};
use std::{net::SocketAddr, sync::Arc};

/// Times the usual interval: how often a former member tells its successors.
const TEACHING_INTERVALS: u64 = 4;

impl<S: Service> Replica<S> {
    /// Executes the entry that ends an epoch.
    pub(super) fn begin_epoch(&mut self, entry: &Entry, members: Vec<SocketAddr>) {
        let view = View::new(entry.view.epoch() + 1, 0);
        if view.epoch() <= self.view.epoch() && self.status != Status::Joining {
            // Executed again, from a disk that knows what came of it.
            return;
        }
        let configuration = Configuration::new(view.epoch(), members.clone());
        let configuration =
            configuration.expect("the members were checked when the request was read");
        let epoch = EpochStart { view, op: entry.op, digest: entry.digest, members };
        self.enter_epoch(epoch, Arc::new(configuration));
    }

    /// Is in an epoch from now on. What that means is settled when everything that is known to be committed is
    /// executed: it may hold further epochs.
    pub(super) fn enter_epoch(&mut self, epoch: EpochStart, configuration: Arc<Configuration>) {
        assert!(epoch.view.epoch() > self.view.epoch() || self.status == Status::Joining);
        let previous = std::mem::replace(&mut self.configuration, configuration);
        self.previous = Some(previous);
        self.started = Members::NONE;
        self.view = epoch.view.max(self.view);
        self.last_normal = self.view;
        self.epoch = epoch;
        self.is_settled = false;
    }

    /// Takes up what it is in its epoch.
    pub(super) fn settle_epoch(&mut self, now_us: u64) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        self.stop_leading();
        (self.changing, self.recovering) = (None, None);
        (self.fetch, self.incoming) = (None, None);
        self.suspicions = Default::default();
        self.timers = Default::default();
        self.ahead.clear();
        self.place = self.configuration.place_of(self.address);
        self.status = if self.place.is_some() { Status::Normal } else { Status::Retired };
        let promise = self.promise();
        self.promise_write = self.outputs.write(super::Write::Promise(promise));
        if self.status == Status::Retired {
            return self.teach_successors(now_us);
        }
        if self.leads() {
            self.lead(now_us, false);
        } else {
            // It may be new, and know of no group.
            let leader = self.configuration.leader_of(self.view);
            let epoch = self.epoch.clone();
            self.send(leader, Message::StartEpoch(epoch));
            self.timers.suspect = Some(self.suspect_at(now_us));
            self.owes_acknowledgement = true;
        }
    }

    /// Tells former members that this one is in the epoch: they may go then, so it must be for good.
    pub(super) fn tell_former_members(&mut self) {
        if !self.is_settled || self.place.is_none() || !self.may_speak() {
            return;
        }
        let (view, previous) = (self.view, self.previous.take());
        let former = previous.iter().flat_map(|previous| previous.members().to_vec());
        let former: Vec<_> = former.filter(|address| self.place_of(*address).is_none()).collect();
        for to in former {
            self.outputs.push(Output::Send { to, message: Message::EpochStarted { view } });
        }
    }

    /// As a former member: tells the members of the next epoch that it has begun, until a quorum is in it.
    pub(super) fn teach_successors(&mut self, now_us: u64) {
        if self.started.len() >= self.configuration.quorum() {
            self.timers.repeat = None;
            return;
        }
        self.timers.repeat = Some(now_us + TEACHING_INTERVALS * self.options.heartbeat_us);
        self.teach_members();
    }

    /// Tells the members that are not known to be in the epoch.
    pub(super) fn teach_members(&mut self) {
        let waiting = self.others().iter().filter(|place| !self.started.contains(*place));
        for place in waiting.collect::<Vec<_>>() {
            let epoch = self.epoch.clone();
            self.send(place, Message::StartEpoch(epoch));
        }
    }

    /// Somebody is in the epoch.
    pub(super) fn on_epoch_started(&mut self, from: SocketAddr, view: View) {
        if let Some(place) = self.place_of(from).filter(|_| view.epoch() == self.view.epoch()) {
            self.started = self.started.with(place);
        }
    }

    /// A former member whose successors do not need it any more.
    pub fn is_dispensable(&self) -> bool {
        self.status == Status::Retired && self.started.len() >= self.configuration.quorum()
    }

    /// Tells somebody that speaks in a view which is over.
    pub(super) fn teach(&mut self, from: SocketAddr, view: View) {
        if view.epoch() < self.view.epoch() && self.is_settled {
            let message = Message::StartEpoch(self.epoch.clone());
            self.outputs.push(Output::Send { to: from, message });
        } else if view < self.view
            && self.leading.is_some()
            && let Some(place) = self.place_of(from).filter(|place| Some(*place) != self.place)
        {
            self.announce(place);
        }
    }

    /// An epoch has begun.
    pub(super) fn on_start_epoch(&mut self, now_us: u64, from: SocketAddr, epoch: EpochStart) {
        let is_known = self.status != Status::Joining && epoch.view.epoch() <= self.view.epoch();
        if is_known {
            let has_log = matches!(self.status, Status::Normal | Status::ViewChange);
            // Nobody tells it again.
            if epoch.view.epoch() == self.view.epoch() && has_log && self.may_speak() {
                let message = Message::EpochStarted { view: self.view };
                self.outputs.push(Output::Send { to: from, message });
            }
            return self.teach(from, epoch.view);
        }
        if self.status == Status::Joining && !epoch.members.contains(&self.address) {
            return;
        }
        if self.fetch.as_ref().is_some_and(|fetch| fetch.is_for_epoch_after(epoch.view)) {
            return;
        }
        let (commit, target) = (epoch.op, (epoch.op, Some(epoch.digest)));
        self.start_fetch(now_us, Purpose::Epoch(epoch), commit, target, vec![from]);
    }
}
