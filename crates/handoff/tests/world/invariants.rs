//! What must hold in every state.

use super::{Action, EPOCH, Faults, Socket, Task, World};
use ashlar_handoff::protocol::{Importer, Outcome, Owner};
use std::hash::Hash;

/// The most deadlines that one machine may need to end.
const DEADLINES_MAX: usize = 16;

impl World {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.thawed && self.served {
            return Err("two continuations".into());
        }
        let follows = self.entry.map(|(_, owner)| owner);
        if !self.steering_forgot {
            let at_home = if self.is_home { None } else { Some(Owner::Exporter) };
            let follows_exporter = follows == Some(Owner::Exporter) || follows == at_home;
            if self.thawed && !follows_exporter && !self.faults.is_full {
                return Err(format!("the exporter goes on, steering follows {follows:?}"));
            }
            if self.served && follows != Some(Owner::Importer) {
                return Err(format!("the importer goes on, steering follows {follows:?}"));
            }
        }
        if self.faults == Faults::NONE {
            let steered_here = match follows {
                Some(Owner::Importer) => self.importer_socket,
                _ => self.exporter_socket,
            };
            if steered_here == Socket::Absent {
                return Err("a frame of the client would meet no socket".into());
            }
        }
        Ok(())
    }

    /// What the next check depends on.
    pub(crate) fn owners(&self) -> impl Hash {
        let alive = (self.exporter_alive, self.importer_alive);
        let sockets = (self.exporter_socket, self.importer_socket);
        (alive, sockets, self.exporter.clone(), self.importer.clone(), self.tasks.clone())
    }

    pub(crate) fn check_nobody_is_stuck(&self) -> Result<(), String> {
        let mut world = self.clone();
        for _ in 0..DEADLINES_MAX {
            if !world.exporter_alive || world.exporter.poll_timeout().is_none() {
                break;
            }
            world.perform(&Action::ExporterDeadline);
        }
        if world.exporter_alive {
            if !world.exporter.is_finished() {
                return Err(format!("the exporter is stuck: {:?}", world.exporter));
            }
            if world.exporter_socket == Socket::Mute {
                return Err("the exporter's socket stays frozen".into());
            }
        }
        for _ in 0..DEADLINES_MAX {
            let importer = world.importer.as_ref().and_then(Importer::poll_timeout);
            if !world.importer_alive || importer.is_none() {
                break;
            }
            world.perform(&Action::ImporterDeadline);
        }
        if world.tasks.contains(&Task::Import) && world.importer_alive {
            world.report(Task::Import, true);
            world.perform_importer_outputs(usize::MAX);
        }
        if world.importer.is_some_and(|importer| !importer.is_finished()) && world.importer_alive {
            return Err("the importer is stuck".into());
        }
        if world.importer_socket == Socket::Mute {
            return Err("the importer's socket stays mute".into());
        }
        Ok(())
    }

    /// Whether the connection is where it should be.
    pub(crate) fn has_moved(&self) -> bool {
        let moved = Outcome::Moved { epoch: EPOCH + 1 };
        self.outcomes == [moved, moved]
            && self.importer_socket == Socket::Alive
            && self.exporter_socket == Socket::Mute
            && self.entry == Some((EPOCH + 1, Owner::Importer))
    }

    /// Whether the importer has what came to the exporter behind the image.
    pub(crate) fn has_late_bytes(&self) -> bool {
        self.sent_late && self.received_late
    }

    /// Whether it goes on without.
    pub(crate) fn lacks_late_bytes(&self) -> bool {
        self.sent_late && !self.received_late && self.importer_socket == Socket::Alive
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = String> {
        self.outcomes.iter().map(|outcome| format!("{outcome:?}"))
    }
}
