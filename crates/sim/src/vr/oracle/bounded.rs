//! A replica keeps no more than it may.

use super::super::world::{Checked, World};

impl World {
    pub(super) fn look_at_bounds(&mut self, host: usize) -> Checked {
        let options = self.plan.options;
        let Some(replica) = self.hosts[host].replica.as_ref() else { return Ok(()) };
        let sessions = replica.sessions().len();
        if sessions > options.sessions_max {
            let detail = format!("host {host} keeps {sessions} sessions");
            return Err(self.violation("bounded", detail));
        }
        Ok(())
    }
}
