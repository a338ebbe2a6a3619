//! The end of a run: without faults, everything comes to rest.

use super::plan::Plan;
use super::world::{Checked, Event, World};
use ashlar_vr::{Mode, Replica, Status};

/// Between two looks, in microseconds.
const TICK_US: u64 = 100_000;
/// How long a member is away that falls behind while clients write.
const AWAY_US: std::ops::Range<u64> = 300_000..2_000_000;
/// All members must follow a leader that goes on within that time of the last fault, and then the world must come to
/// rest within it, in microseconds.
const REST_US: u64 = 30_000_000;

impl World {
    /// Faults end; everything that was begun must be done.
    pub(super) fn end_safety(&mut self) -> Checked {
        self.record(|| "faults end".to_owned());
        self.is_safe_phase = false;
        self.network.end_faults();
        for host in 0..self.hosts.len() {
            self.hosts[host].paused_until_us = 0;
            self.hosts[host].slow_until_us = 0;
            self.start(host)?;
        }
        for client in 0..self.plan.clients {
            self.queue.push_after(0, Event::ClientBegins { client });
        }
        self.rests_by_us = self.queue.now_us() + REST_US;
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
    }

    /// Has the world come to rest?
    pub(super) fn liveness_tick(&mut self) -> Checked {
        let waiting = if self.has_followed { self.waiting() } else { self.lagging() };
        match waiting {
            Some(waiting) if self.queue.now_us() > self.rests_by_us => {
                return Err(self.violation("liveness", waiting));
            }
            None if self.has_followed => return self.read_last(),
            Some(_) => {}
            None if self.stragglers_left > 0 => self.lose_sight_of_a_member(),
            None => {
                self.record(|| "all members follow; writers end".to_owned());
                self.has_followed = true;
                self.rests_by_us = self.queue.now_us() + REST_US;
            }
        }
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
    }

    /// A member, mostly the leader, is out of reach, or dead, for so long that it has much to fetch.
    fn lose_sight_of_a_member(&mut self) {
        self.stragglers_left -= 1;
        let members = self.members();
        if Plan::failures_max(members.len()) == 0 {
            return;
        }
        let leader = self.leading().and_then(Replica::leader);
        let any = *self.random.pick(&members);
        let member = leader.filter(|_| self.random.chance(0.7)).unwrap_or(any);
        let host = self.host_at(member).expect("members are hosts");
        let away_us = self.random.range(AWAY_US);
        self.away_until_us = self.queue.now_us() + away_us;
        self.rests_by_us = self.away_until_us + REST_US;
        self.to_follow = None;
        let is_durable = self.plan.options.mode == Mode::Durable;
        if self.random.chance(0.3) && (is_durable || self.may_lose_memory(host)) {
            self.stop(host, is_durable);
            self.queue.push_after(away_us, Event::Start { host });
        } else {
            self.network.isolate(host, true, true);
            self.queue.push_after(away_us, Event::NetworkHeals);
        }
    }

    /// Who does not follow, while clients write.
    fn lagging(&mut self) -> Option<String> {
        if self.queue.now_us() < self.away_until_us {
            return Some("a member is away".to_owned());
        }
        let known = self.replicas().map(Replica::commit).max().unwrap_or(0);
        let to_follow = *self.to_follow.get_or_insert(known);
        let view = self.leading().map(Replica::view);
        let is_behind = |replica: &Replica<_>| {
            let is_in_view = replica.status() == Status::Normal && Some(replica.view()) == view;
            !is_in_view || replica.executed() < to_follow
        };
        let mut members = self.members().into_iter();
        let host = members.find_map(|address| {
            let host = self.host_at(address).expect("members are hosts");
            self.hosts[host].replica().is_none_or(is_behind).then_some(host)
        })?;
        let at = self.hosts[host].replica();
        let at = at.map(|replica| (replica.status(), replica.view(), replica.executed()));
        Some(format!("host {host} is at {at:?} and should follow {view:?} up to {to_follow}"))
    }

    /// What keeps the world from rest.
    fn waiting(&self) -> Option<String> {
        for client in 0..self.clients.len() {
            if !self.is_idle(client) {
                let left = self.operations_left;
                return Some(format!(
                    "client {client} waits ({:?}), {left} operations are left",
                    self.clients[client].session
                ));
            }
        }
        if self.operator.is_busy() {
            return Some("the operator waits".to_owned());
        }
        if !self.replicas().any(Replica::is_leader) {
            return Some("nobody leads".to_owned());
        }
        let members = self.members();
        let mut executed = None;
        for address in members {
            let host = self.host_at(address).expect("members are hosts");
            let replica = self.hosts[host].replica().expect("faults have ended");
            if replica.status() != Status::Normal {
                return Some(format!(
                    "host {host} is {:?} in {}",
                    replica.status(),
                    replica.view()
                ));
            }
            let state = (replica.view(), replica.executed(), replica.log().head_op());
            if *executed.get_or_insert(state) != state || state.1 != state.2 {
                return Some(format!("host {host} is at {state:?}, others at {executed:?}"));
            }
        }
        None
    }

    /// Every key is read once more; then the run is over.
    fn read_last(&mut self) -> Checked {
        if self.operations.last().is_some_and(|last| last.is_last) {
            self.ends = true;
            return Ok(());
        }
        for key in 0..self.plan.keys {
            self.read_at_rest(key);
        }
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
    }
}
