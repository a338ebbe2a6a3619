//! Faults: what strikes, whom, and for how long.

use super::{
    node::Node,
    oracle::{acknowledged, prefix},
    plan::Fault,
    world::{Checked, Event, World},
};

impl World {
    /// Schedules the next fault, if the plan has any.
    pub(super) fn schedule_fault(&mut self) {
        if self.plan.faults.iter().sum::<u64>() > 0 {
            let delay_us = self.random.below(2 * self.plan.fault_interval_us);
            self.queue.push_after(delay_us, Event::FaultStrikes);
        }
    }

    /// A fault strikes, unless the safety phase is over.
    pub(super) fn fault_strikes(&mut self) -> Checked {
        if self.stage.is_some() {
            return Ok(());
        }
        let fault = Fault::ALL[self.random.weighted(&self.plan.faults)];
        let node = self.random.index(self.plan.nodes);
        let lasts_us = self.random.range(self.plan.fault_us.clone());
        match fault {
            Fault::Kill => self.kill(node, lasts_us),
            Fault::PowerLoss => self.lose_power(node, lasts_us)?,
            Fault::Blackout => self.black_out(lasts_us)?,
            Fault::Wipe => self.wipe(node, lasts_us)?,
            Fault::Pause => self.pause(node, lasts_us),
            Fault::LinkBreak => self.break_some_link(),
            Fault::Split | Fault::Isolate | Fault::CutOneWay => self.cut(fault, lasts_us),
            Fault::Heal => {
                self.note(|| "all cuts are mended".to_owned());
                self.network.heal();
            }
            Fault::SlowDisk => {
                self.coverage.slow_disks += 1;
                self.note(|| format!("the disk of n{node} is slow"));
                self.nodes[node].slow_until_us = self.now_us() + lasts_us;
            }
            Fault::FullDisk => self.fill_disk(node, lasts_us),
        }
        self.schedule_fault();
        Ok(())
    }

    fn kill(&mut self, node: usize, lasts_us: u64) {
        if self.nodes[node].up {
            self.coverage.kills += 1;
            self.note(|| format!("n{node} is killed"));
            self.stop(node, lasts_us);
        }
    }

    /// A host loses power; its process need not run for that.
    fn lose_power(&mut self, node: usize, lasts_us: u64) -> Checked {
        self.coverage.power_losses += 1;
        self.note(|| format!("n{node} loses power"));
        self.stop(node, lasts_us);
        let Node { database, bodies, .. } = &mut self.nodes[node];
        let (kept, lost) = database.lose_power(&mut self.random);
        bodies.lose_power(&mut self.random);
        self.coverage.batches_kept += kept as u64;
        self.coverage.batches_lost += lost as u64;
        self.compare_disk(node)
    }

    fn black_out(&mut self, lasts_us: u64) -> Checked {
        self.coverage.blackouts += 1;
        (0..self.plan.nodes).try_for_each(|node| self.lose_power(node, lasts_us))
    }

    /// A disk is replaced, unless another has been, or it held the only replica.
    fn wipe(&mut self, node: usize, lasts_us: u64) -> Checked {
        if self.plan.replicas == 1 || self.wiped.is_some() {
            return Ok(());
        }
        if self.random.chance(0.5) {
            self.black_out(lasts_us)?;
        } else {
            self.lose_power(node, lasts_us)?;
        }
        self.coverage.wipes += 1;
        self.note(|| format!("the disk of n{node} is replaced by an empty one"));
        self.wiped = Some(node);
        self.nodes[node].database.wipe();
        self.nodes[node].bodies.wipe();
        for (partition, chain) in self.chains.iter().enumerate() {
            if let Some(position) = chain.iter().position(|member| *member == node) {
                self.oracles.prefix.wiped(partition, position);
            }
        }
        Ok(())
    }

    fn pause(&mut self, node: usize, lasts_us: u64) {
        self.coverage.pauses += 1;
        self.note(|| format!("n{node} stands still"));
        self.nodes[node].paused_until_us = self.now_us() + lasts_us;
    }

    fn break_some_link(&mut self) {
        if !self.links.is_empty() {
            let link = self.random.index(self.links.len());
            self.break_link(link);
        }
    }

    fn cut(&mut self, fault: Fault, lasts_us: u64) {
        self.coverage.cuts += 1;
        let hosts = self.plan.nodes + self.plan.clients;
        match fault {
            Fault::Split => {
                let sides: Vec<_> = (0..hosts).map(|_| self.random.chance(0.5)).collect();
                self.network.split(|host| sides[host]);
            }
            Fault::Isolate => {
                let (inward, outward) =
                    *self.random.pick(&[(true, true), (true, false), (false, true)]);
                let node = self.random.index(self.plan.nodes);
                self.network.isolate(node, inward, outward);
            }
            _ => {
                let (from, to) = (self.random.index(hosts), self.random.index(hosts));
                self.network.cut(from, to);
            }
        }
        self.note(|| format!("the network is cut: {fault:?}"));
        // Some connections notice, others wait for messages that do not come.
        for link in 0..self.links.len() {
            let (one, other) = (self.links[link].predecessor, self.links[link].successor);
            if !self.network.connects(one, other) && self.random.chance(0.5) {
                self.break_link(link);
            }
        }
        self.queue.push_after(lasts_us, Event::NetworkHeals);
    }

    /// The process is gone and starts again after a while.
    fn stop(&mut self, node: usize, lasts_us: u64) {
        if self.nodes[node].up {
            self.queue.push_after(lasts_us, Event::Start { node });
        }
        self.nodes[node].forget();
        self.oracles.replies.void(node);
        for link in 0..self.links.len() {
            if self.links[link].predecessor == node {
                self.drop_link(link);
            } else if self.links[link].successor == node {
                self.break_link(link);
            }
        }
    }

    /// Compares what the disk has kept with what was acknowledged and what the neighbours hold.
    pub(super) fn compare_disk(&mut self, node: usize) -> Checked {
        for partition in 0..self.chains.len() {
            let position = self.chains[partition].iter().position(|member| *member == node);
            let Some(position) = position else {
                continue;
            };
            let disk = self.nodes[node].database.durable().partition(partition);
            let finding = self.oracles.prefix.settled(partition, position, disk);
            let place = |text| format!("p{partition} at n{node}: {text}");
            self.judge(prefix::NAME, finding.map_err(place))?;
            let excused = self.oracles.prefix.is_excused(partition, position);
            let finding = self.oracles.acknowledged.kept(partition, disk, excused);
            self.judge(acknowledged::NAME, finding.map_err(place))?;
        }
        Ok(())
    }
}
