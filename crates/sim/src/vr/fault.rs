//! Faults.

use super::{
    plan::{Fault, Plan},
    world::{Checked, Event, World},
};
use ashlar_vr::Mode;

/// How long a process is down, in microseconds.
const DOWN_US: std::ops::Range<u64> = 1_000..800_000;
/// How long a host stands still, in microseconds.
const PAUSE_US: std::ops::Range<u64> = 1_000..600_000;
/// How long a cut lasts, in microseconds.
const CUT_US: std::ops::Range<u64> = 10_000..1_500_000;

impl World {
    /// A fault strikes, and the next one will.
    pub(super) fn strike(&mut self) -> Checked {
        if !self.is_safe_phase {
            return Ok(());
        }
        let next_us = self.random.range(1..2 * self.plan.fault_every_us);
        self.queue.push_after(next_us, Event::FaultStrikes);
        let fault = *self.random.pick(&self.plan.faults);
        let host = self.random.index(self.hosts.len());
        match fault {
            Fault::Kill => self.kill(host, false),
            Fault::PowerLoss => self.kill(host, true),
            Fault::KillLeader => {
                if let Some(leader) = self.leader() {
                    self.kill(leader, false);
                }
            }
            Fault::Blackout if self.plan.options.mode == Mode::Durable => {
                (0..self.hosts.len()).for_each(|host| self.kill(host, true));
            }
            Fault::Blackout => {}
            Fault::Pause => {
                let pause_us = self.random.magnitude(PAUSE_US);
                self.hosts[host].paused_until_us = self.queue.now_us() + pause_us;
                self.coverage.pauses += 1;
            }
            Fault::Split => {
                let side: Vec<bool> =
                    (0..self.parties()).map(|_| self.random.chance(0.5)).collect();
                self.network.split(|party| side[party]);
                self.heal_later();
            }
            Fault::Isolate => self.isolate(host),
            Fault::IsolateLeader => {
                if let Some(leader) = self.leader() {
                    self.isolate(leader);
                }
            }
            Fault::CutOneWay => {
                let other = self.random.index(self.hosts.len());
                self.network.cut(host, other);
                self.heal_later();
            }
            Fault::Heal => self.network.heal(),
            Fault::SlowDisk => {
                let slow_us = self.random.magnitude(CUT_US);
                self.hosts[host].slow_until_us = self.queue.now_us() + slow_us;
            }
            Fault::Damage => self.damage(host),
            Fault::Reconfigure => return self.reconfigure(),
        }
        Ok(())
    }

    fn parties(&self) -> usize {
        self.plan.hosts() + self.plan.clients + 1
    }

    fn leader(&self) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.replica.as_ref().is_some_and(|replica| replica.is_leader()))
    }

    fn isolate(&mut self, host: usize) {
        let (inward, outward) = *self.random.pick(&[(true, true), (true, false), (false, true)]);
        self.network.isolate(host, inward, outward);
        self.heal_later();
    }

    fn heal_later(&mut self) {
        self.coverage.cuts += 1;
        let cut_us = self.random.magnitude(CUT_US);
        self.queue.push_after(cut_us, Event::NetworkHeals);
    }

    /// Ends a process; another one starts later.
    fn kill(&mut self, host: usize, power: bool) {
        let may = self.plan.options.mode == Mode::Durable || self.may_lose_memory(host);
        if self.hosts[host].replica.is_none() || !may {
            return;
        }
        self.stop(host, power);
        let down_us = self.random.magnitude(DOWN_US);
        self.queue.push_after(down_us, Event::Start { host });
    }

    /// A disk loses entries, and its host starts again. Only so many disks lose any that every entry is left
    /// somewhere.
    fn damage(&mut self, host: usize) {
        let may = self.plan.options.mode == Mode::Durable
            && !self.plan.faults.contains(&Fault::Reconfigure);
        if !may
            || host >= Plan::failures_max(self.plan.members)
            || self.hosts[host].replica.is_none()
        {
            return;
        }
        self.stop(host, self.plan.faults.contains(&Fault::PowerLoss));
        let places: Vec<u64> = self.hosts[host].disk.current().entries.keys().copied().collect();
        let count = if places.is_empty() { 0 } else { 1 + self.random.index(places.len().min(4)) };
        for _ in 0..count {
            // Mostly the last ones: they matter most.
            let back = self.random.magnitude(1..places.len() as u64 + 1) as usize;
            let op = places[places.len() - back];
            if !self.hosts[host].damaged.contains(&op) {
                self.hosts[host].damaged.push(op);
                self.coverage.entries_damaged += 1;
            }
        }
        let down_us = self.random.magnitude(DOWN_US);
        self.queue.push_after(down_us, Event::Start { host });
    }
}
