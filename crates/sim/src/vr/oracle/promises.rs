//! Who has voted for a view acknowledges nothing in earlier ones, whatever happens to its process.

use super::super::world::{Checked, World};
use ashlar_vr::{Message, View};

/// The latest view that each host has voted for.
#[derive(Debug)]
pub(super) struct Promises(Vec<View>);

impl Promises {
    pub(super) fn new(hosts: usize) -> Self {
        Self(vec![View::default(); hosts])
    }
}

impl World {
    pub(super) fn hear_promise(&mut self, host: usize, message: &Message) -> Checked {
        let promised = &mut self.oracles.promises.0[host];
        let view = match message {
            Message::DoViewChange(vote) => {
                *promised = vote.view.max(*promised);
                vote.view
            }
            Message::PrepareOk { view, .. }
            | Message::Prepare { view, .. }
            | Message::StartView { view, .. } => *view,
            _ => return Ok(()),
        };
        if view < *promised {
            let detail =
                format!("host {host} takes part in view {view} after it has voted for {promised}");
            return Err(self.violation("promises", detail));
        }
        Ok(())
    }
}
