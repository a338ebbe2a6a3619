//! Faults: what strikes, whom, and for how long.

use super::{
    plan::Fault,
    world::{Event, World},
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
    pub(super) fn fault_strikes(&mut self) {
        if self.stage.is_some() {
            return;
        }
        let fault = Fault::ALL[self.random.weighted(&self.plan.faults)];
        let node = self.random.index(self.plan.nodes);
        let lasts_us = self.random.range(self.plan.fault_us.clone());
        let now_us = self.now_us();
        match fault {
            Fault::Kill | Fault::PowerLoss => self.strike_down(node, fault, lasts_us),
            Fault::SteeringRestart => {
                self.coverage.steering_restarts += 1;
                self.note(|| "steering starts anew".to_owned());
                self.steering.restart(now_us);
            }
            Fault::ChannelBreak => {
                let working = self.working_sessions();
                if !working.is_empty() {
                    let session = *self.random.pick(&working);
                    self.break_session(session);
                }
            }
            Fault::Pause => {
                self.coverage.pauses += 1;
                self.note(|| format!("n{node} stands still"));
                self.nodes[node].paused_until_us = now_us + lasts_us;
            }
            Fault::Drain => {
                self.coverage.drains += 1;
                self.note(|| format!("n{node} drains"));
                self.nodes[node].draining_until_us = now_us + lasts_us;
                self.drain(node);
            }
        }
        self.schedule_fault();
    }

    fn strike_down(&mut self, node: usize, fault: Fault, lasts_us: u64) {
        if !self.nodes[node].up {
            return;
        }
        self.note(|| format!("n{node} is gone: {fault:?}"));
        let power = fault == Fault::PowerLoss;
        if power {
            self.coverage.power_losses += 1;
        } else {
            self.coverage.kills += 1;
        }
        self.stop(node, power);
        self.queue.push_after(lasts_us, Event::Start { node });
    }
}
