//! What can happen next in a world.

use super::{Action, Asker, World};
use ashlar_handoff::protocol::Importer;

impl World {
    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for task in &self.tasks {
            actions.push(Action::Report { task: *task, succeeds: true });
            if self.faults.failures > 0 {
                actions.push(Action::Report { task: *task, succeeds: false });
            }
        }
        self.deliveries(&mut actions);
        if self.faults.deadlines {
            if self.exporter_alive && self.exporter.poll_timeout().is_some() {
                actions.push(Action::ExporterDeadline);
            }
            let importer = self.importer.as_ref().and_then(Importer::poll_timeout);
            if self.importer_alive && importer.is_some() {
                actions.push(Action::ImporterDeadline);
            }
        }
        if self.faults.cancellations > 0 && self.exporter_alive {
            actions.push(Action::Cancel);
        }
        if self.faults.breaks > 0 {
            actions.push(Action::Break);
        }
        if self.channel_broken && !self.exporter_cut && self.exporter_alive {
            actions.push(Action::ExporterLearnsOfTheBreak);
        }
        if self.channel_broken && !self.importer_cut && self.importer_alive {
            actions.push(Action::ImporterIsCutOff);
        }
        if self.faults.returns && self.served && self.exporter_alive {
            actions.push(Action::FlowReturns);
        }
        if self.faults.memory_losses > 0 && self.steering_alive {
            actions.push(Action::SteeringForgets);
        }
        if self.faults.deaths > 0 {
            self.deaths(&mut actions);
        }
        actions
    }

    fn deliveries(&self, actions: &mut Vec<Action>) {
        for stays in [false, true] {
            if stays && self.faults.repetitions == 0 {
                continue;
            }
            if self.importer_alive {
                let indexes = 0..self.to_importer.len();
                actions.extend(indexes.map(|index| Action::ToImporter { index, stays }));
            }
            if self.exporter_alive {
                let indexes = 0..self.to_exporter.len();
                actions.extend(indexes.map(|index| Action::ToExporter { index, stays }));
            }
            let heard = |asker| match asker {
                Asker::Exporter => self.exporter_alive,
                Asker::Importer => self.importer_alive,
            };
            for (index, (asker, _)) in self.from_steering.iter().enumerate() {
                if heard(*asker) {
                    actions.push(Action::FromSteering { index, stays });
                }
            }
            for (index, request) in self.to_steering.iter().enumerate() {
                // One that makes an entry travels in one copy.
                if self.steering_alive && !(stays && request.makes_an_entry) {
                    actions.push(Action::ToSteering { index, stays });
                }
            }
        }
    }

    /// Deaths at rest, and between the outputs of whatever else may happen.
    fn deaths(&self, actions: &mut Vec<Action>) {
        if self.steering_alive {
            actions.push(Action::SteeringDies);
        }
        let living = actions.clone();
        if self.exporter_alive {
            actions.push(Action::ExporterDies { after_outputs: 0, action: None });
        }
        if self.importer_alive {
            actions.push(Action::ImporterDies { after_outputs: 0, action: None });
        }
        for action in living {
            let (of_exporter, outputs) = self.outputs_of(&action);
            for after_outputs in 1..outputs {
                let action = Some(Box::new(action.clone()));
                actions.push(if of_exporter {
                    Action::ExporterDies { after_outputs, action }
                } else {
                    Action::ImporterDies { after_outputs, action }
                });
            }
        }
    }

    /// Whose outputs an action gives, and how many.
    fn outputs_of(&self, action: &Action) -> (bool, usize) {
        let mut world = self.clone();
        world.input(action);
        let exporter = std::iter::from_fn(|| world.exporter.poll_output()).count();
        let importer = world
            .importer
            .as_mut()
            .map_or(0, |importer| std::iter::from_fn(|| importer.poll_output()).count());
        (exporter > 0, exporter.max(importer))
    }
}
