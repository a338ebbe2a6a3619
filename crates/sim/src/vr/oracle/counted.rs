//! What writers were told to be done is there until they put something else, and nothing comes twice.

use super::super::{
    World,
    world::Checked,
    writer::{Put, count_of, writer_key},
};

impl World {
    /// A put replaces what its writer has put before it, and nothing older than what was answered by then.
    pub(in super::super) fn judge_put(&self, client: usize, put: Put, before: u64) -> Checked {
        let Put { key, value, answered } = put;
        if (answered..value).contains(&before) {
            return Ok(());
        }
        let detail = format!(
            "writer {client} was told that {value} replaced {before} at its key {key}, after {answered}"
        );
        Err(self.violation("counted", detail))
    }

    /// At rest every key has what was answered last, or what was put later.
    pub(super) fn judge_writers(&self) -> Checked {
        let Some(leader) = self.leading() else { return Ok(()) };
        for (client, at) in self.clients.iter().enumerate() {
            let answered = at.writer.iter().flat_map(|writer| &writer.answered);
            for (key, answered) in answered.enumerate() {
                let found = leader.service().get(&writer_key(client, key)).value;
                let count = count_of(found.as_ref());
                if count < *answered {
                    let detail = format!(
                        "writer {client}'s key {key} has {count} in the end, after {answered} was done"
                    );
                    return Err(self.violation("counted", detail));
                }
            }
        }
        Ok(())
    }
}
