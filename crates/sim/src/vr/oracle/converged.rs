//! At rest, all members have the same state, and the same client table.

use super::super::world::{Checked, World};

impl World {
    pub(super) fn judge_convergence(&mut self) -> Checked {
        let members = self.members();
        let replicas = self.hosts.iter().filter(|host| members.contains(&host.address));
        let mut replicas = replicas.filter_map(|host| host.replica());
        let Some(first) = replicas.next() else { return Ok(()) };
        for other in replicas {
            if other.service() != first.service() {
                return Err(self.violation("converged", "members have different states".into()));
            }
            if other.sessions() != first.sessions() {
                return Err(
                    self.violation("converged", "members have different client tables".into())
                );
            }
        }
        Ok(())
    }
}
