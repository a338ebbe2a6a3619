//! The entries and bytes that wait for their commit keep to their bounds.

use ashlar_object::{Body, Change, Entry, Version};
use std::collections::VecDeque;

/// The oracle's name.
pub(crate) const NAME: &str = "window";

/// What waits at one replica, counted from outside.
#[derive(Debug, Default)]
pub(crate) struct Window {
    waiting: VecDeque<(Version, usize)>,
    bytes: usize,
}

impl Window {
    /// The replica takes an entry in.
    pub(crate) fn keep(&mut self, entry: &Entry) {
        let bytes = match &entry.operation.change {
            Change::Put { body: Body::Inline(bytes), .. } => bytes.len(),
            _ => 0,
        };
        self.waiting.push_back((entry.version, bytes));
        self.bytes += bytes;
    }

    /// The replica takes everything up to `committed` for committed.
    pub(crate) fn check(
        &mut self,
        committed: Version,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<(), String> {
        while let Some((_, bytes)) = self.waiting.pop_front_if(|(at, _)| *at <= committed) {
            self.bytes -= bytes;
        }
        let (entries, bytes) = (self.waiting.len(), self.bytes);
        if entries > entries_max {
            return Err(format!("{entries} entries wait, the bound is {entries_max}"));
        }
        if bytes > bytes_max {
            return Err(format!("{bytes} bytes wait, the bound is {bytes_max}"));
        }
        Ok(())
    }
}
