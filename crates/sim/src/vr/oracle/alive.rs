//! Programs speak for a process only while it lives and is well, and for a lease longer.

use super::super::{
    kernel::{HELD_US, LEASE_US},
    world::{Checked, World},
};

impl World {
    pub(super) fn hear_who_lives(&mut self, host: usize) -> Checked {
        let at = &self.hosts[host];
        let silent_us = at.local_us(self.queue.now_us()) - at.seen_us;
        // A run that has begun comes to its end, whatever becomes of the process.
        if silent_us <= LEASE_US + HELD_US.end {
            return Ok(());
        }
        let detail = format!(
            "the program of host {host} acknowledges, and its process was not seen for {silent_us} us"
        );
        Err(self.violation("alive", detail))
    }
}
