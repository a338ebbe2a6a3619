//! The end of a run: without faults, everything comes to rest.

use super::world::{Checked, Event, World};
use ashlar_vr::Status;

/// Between two looks, in microseconds.
const TICK_US: u64 = 100_000;
/// The world must have come to rest by then, in microseconds after the last fault.
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
        for client in 0..self.clients.len() {
            self.queue.push_after(0, Event::ClientBegins { client });
        }
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
    }

    /// Has the world come to rest?
    pub(super) fn liveness_tick(&mut self) -> Checked {
        let waiting = self.waiting();
        let Some(waiting) = waiting else {
            return self.read_last();
        };
        if self.queue.now_us() > self.plan.safety_us + REST_US {
            return Err(self.violation("liveness", waiting));
        }
        self.queue.push_after(TICK_US, Event::LivenessTick);
        Ok(())
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
        if !self.replicas().any(ashlar_vr::Replica::is_leader) {
            return Some("nobody leads".to_owned());
        }
        let members = self.members();
        let mut executed = None;
        for address in members {
            let host = self.host_at(address).expect("members are hosts");
            let replica = self.hosts[host].replica.as_ref().expect("faults have ended");
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
