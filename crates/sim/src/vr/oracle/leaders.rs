//! A view has one leader.

use super::super::world::{Checked, Incarnation, World};
use ashlar_vr::View;
use std::collections::HashMap;

/// Which process has led which view.
pub(super) type Leaders = HashMap<View, (usize, Incarnation)>;

impl World {
    pub(super) fn look_at_leader(&mut self, host: usize) -> Checked {
        let at = &self.hosts[host];
        let Some(view) =
            at.replica().filter(|replica| replica.is_leader()).map(|replica| replica.view())
        else {
            return Ok(());
        };
        let own = (host, at.incarnation);
        let known = *self.oracles.leaders.entry(view).or_insert_with(|| {
            self.coverage.views_begun += 1;
            own
        });
        if known != own {
            let detail = format!("process {own:?} leads view {view}, which {known:?} has led");
            return Err(self.violation("leaders", detail));
        }
        Ok(())
    }
}
