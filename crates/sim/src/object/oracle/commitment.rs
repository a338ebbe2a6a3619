//! Committed never exceeds what the tail has applied, and never falls while a process lives.

use ashlar_object::Version;

/// The oracle's name.
pub(crate) const NAME: &str = "commitment";

/// What one replica took for committed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commitment {
    last: Version,
}

impl Commitment {
    /// The replica takes `committed` for committed; the tail's disk once held `tail_applied`.
    pub(crate) fn check(
        &mut self,
        committed: Version,
        tail_applied: Version,
    ) -> Result<(), String> {
        let last = std::mem::replace(&mut self.last, committed);
        if committed < last {
            return Err(format!("committed fell from {last} to {committed}"));
        }
        if committed > tail_applied {
            return Err(format!(
                "{committed} is taken for committed, the tail has applied {tail_applied}"
            ));
        }
        Ok(())
    }
}
