//! A replica keeps no more than it may.

use super::super::world::{Checked, World};
use ashlar_vr::Mode;

impl World {
    pub(super) fn look_at_bounds(&mut self, host: usize) -> Checked {
        let options = self.plan.options;
        let Some(replica) = self.hosts[host].replica() else { return Ok(()) };
        let sessions = replica.sessions().len();
        if sessions > options.sessions_max {
            let detail = format!("host {host} keeps {sessions} sessions");
            return Err(self.violation("bounded", detail));
        }
        let log = replica.log();
        // Whoever appended the last entry had a window open, behind what it knew to be committed.
        let window = options.window_entries + options.batch_entries_max as u64;
        let ahead = log.head_op().saturating_sub(self.oracles.committed.frontier());
        if ahead > window {
            let detail = format!("host {host} has {ahead} entries that are not committed");
            return Err(self.violation("bounded", detail));
        }
        let kept_max = match options.mode {
            Mode::Volatile => options.log_bytes_max,
            // A checkpoint may be on its way to a slow disk here, and have been at who sent a log that was fetched.
            Mode::Durable => 4 * options.log_bytes_max,
        };
        let bytes_max = kept_max + 2 * options.window_bytes + 2 * options.batch_bytes_max;
        let bytes = log.bytes();
        if bytes > bytes_max {
            let detail =
                format!("host {host} keeps {bytes} bytes of its log, {bytes_max} are enough");
            return Err(self.violation("bounded", detail));
        }
        Ok(())
    }
}
