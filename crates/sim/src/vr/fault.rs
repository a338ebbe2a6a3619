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
/// How long a leader is cut off while others lead, in microseconds.
const STRANDED_US: std::ops::Range<u64> = 300_000..1_500_000;
/// How long a memory that was recovered lasts, in microseconds.
const RELAPSE_US: std::ops::Range<u64> = 100..50_000;
/// How long a cut lasts, in microseconds.
const CUT_US: std::ops::Range<u64> = 10_000..1_500_000;

impl World {
    /// A fault strikes, and the next one will.
    pub(super) fn strike(&mut self) -> Checked {
        if !self.is_safe_phase || self.coverage.faults_struck >= self.plan.strikes_max {
            return Ok(());
        }
        self.coverage.faults_struck += 1;
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
            Fault::Relieve => {
                if let Some(leader) = self.leader() {
                    self.strand(leader);
                }
            }
            Fault::Ambush => self.is_ambush_laid = true,
            Fault::Relapse => self.is_relapse_near = true,
            Fault::SwitchOffload => return self.switch_offload(host),
        }
        Ok(())
    }

    fn parties(&self) -> usize {
        self.plan.hosts() + self.plan.clients() + 1
    }

    fn leader(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.replica().is_some_and(|replica| replica.is_leader()))
    }

    /// Cuts a host off that still hears clients: it takes entries that nobody else gets, and may answer reads.
    /// Whoever else was cut off is back.
    fn strand(&mut self, host: usize) {
        self.network.heal();
        if self.random.chance(0.5) {
            self.network.isolate(host, false, true);
        } else {
            for other in (0..self.hosts.len()).filter(|other| *other != host) {
                self.network.cut(host, other);
                self.network.cut(other, host);
            }
        }
        self.coverage.leaders_stranded += 1;
        let cut_us = self.random.range(STRANDED_US);
        self.queue.push_after(cut_us, Event::NetworkHeals);
    }

    /// Cuts a leader off whose view has begun, before it says so, or takes its power.
    pub(super) fn spring_ambush(&mut self, host: usize) {
        let is_about_to_lead = |replica: &ashlar_vr::Replica<_>| {
            let is_leader = replica.leader() == Some(self.hosts[host].address);
            is_leader && !replica.is_leader()
        };
        if self.is_ambush_laid
            && self.is_safe_phase
            && self.hosts[host].replica().is_some_and(is_about_to_lead)
        {
            self.is_ambush_laid = false;
            if self.random.chance(0.5) { self.strand(host) } else { self.kill(host, true) }
        }
    }

    /// A replica has recovered its memory.
    pub(super) fn recovered(&mut self, host: usize) {
        self.coverage.recoveries_ended += 1;
        if std::mem::take(&mut self.is_relapse_near) && self.is_safe_phase {
            let after_us = self.random.magnitude(RELAPSE_US);
            self.queue.push_after(after_us, Event::Relapse { host });
        }
    }

    /// It loses its memory again, for a moment.
    pub(super) fn relapse(&mut self, host: usize) -> Checked {
        if self.is_safe_phase && self.hosts[host].process.is_some() && self.may_lose_memory(host) {
            self.stop(host, false);
            self.start(host)?;
        }
        Ok(())
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

    /// Ends a process, or lets it begin to do something first.
    fn kill(&mut self, host: usize, power: bool) {
        if self.hosts[host].process.is_none() || !self.may_kill(host) {
            return;
        }
        if power || !self.dooms(host) {
            self.bring_down(host, power);
        }
    }

    /// A process ends; another one starts later.
    pub(super) fn bring_down(&mut self, host: usize, power: bool) {
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
            || self.hosts[host].process.is_none()
        {
            return;
        }
        if self.hosts[host].journal.is_some() {
            return self.damage_journal(host);
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

    /// The same with a real journal. It rests when it happens: what is damaged in a batch before anything says that it
    /// was synced looks like a torn one, which docs/replication.md counts among the limits.
    fn damage_journal(&mut self, host: usize) {
        if !self.hosts[host].disk.is_synced() {
            return;
        }
        self.stop(host, false);
        let seed = self.random.below(u64::MAX);
        let is_damaged =
            self.hosts[host].journal.as_mut().is_some_and(|journal| journal.damage(seed));
        self.coverage.journals_damaged += u64::from(is_damaged);
        let down_us = self.random.magnitude(DOWN_US);
        self.queue.push_after(down_us, Event::Start { host });
    }
}
