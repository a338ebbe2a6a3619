//! What is acknowledged is on disk in durable mode, and promises are on disk before they are made in both.

use super::super::world::{Checked, World};
use ashlar_vr::{Message, Mode, View};

impl World {
    pub(super) fn hear_what_is_stored(&mut self, host: usize, message: &Message) -> Checked {
        let at = &self.hosts[host];
        let stored = at.disk.durable();
        let promised = stored.promise.as_ref().map_or(View::default(), |promise| promise.view);
        let (view, op) = match message {
            Message::PrepareOk { view, op, digest } => (*view, Some((*op, *digest))),
            Message::DoViewChange(vote) => (vote.view, None),
            _ => return Ok(()),
        };
        if promised < view {
            let detail =
                format!("host {host} speaks in view {view}, and its disk knows of {promised}");
            return Err(self.violation("stored", detail));
        }
        let Some((op, digest)) = op.filter(|_| self.plan.options.mode == Mode::Durable) else {
            return Ok(());
        };
        let is_covered = stored.checkpoint.as_ref().is_some_and(|(at, _)| *at >= op);
        let is_there = stored.entries.get(&op).is_some_and(|entry| entry.digest == digest);
        if op > 0 && !is_covered && !is_there {
            let detail = format!("host {host} acknowledges {op}, which its disk does not have");
            return Err(self.violation("stored", detail));
        }
        Ok(())
    }
}
