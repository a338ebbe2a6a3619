//! The entries of a replica that wait for their commit.

use super::{Newest, Options};
use crate::{Body, Change, Entry, Key, Operation, Version};
use std::collections::{HashMap, VecDeque};

/// Entries above what is committed, ascending and without gaps: kept to be sent again and to be
/// released.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// Bytes of inline bodies in `entries`.
    inline_bytes: usize,
    /// The newest entry of each key in `entries`, which the storage may not show yet.
    newest: HashMap<Key, Newest>,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `operation` fits. A replica that has started again may hold a full window whose
    /// commit it has yet to hear of.
    pub(super) fn has_room(&self, options: &Options, operation: &Operation) -> bool {
        self.entries.len() < options.window_entries_max
            && self.inline_bytes + inline_bytes(operation) <= options.window_bytes_max
    }

    /// The newest write of `key` that waits here.
    pub(super) fn newest(&self, key: &Key) -> Option<&Newest> {
        self.newest.get(key)
    }

    /// The entry of that version, if it waits here.
    pub(super) fn get(&self, version: Version) -> Option<&Entry> {
        let offset = version.0.checked_sub(self.entries.front()?.version.0)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries above `above`, up to `through`.
    pub(super) fn between(&self, above: Version, through: Version) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.version > above && entry.version <= through)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.inline_bytes += inline_bytes(&entry.operation);
        let meta = entry.operation.change.meta().cloned();
        let newest = Newest { version: entry.version, meta };
        self.newest.insert(entry.operation.key.clone(), newest);
        self.entries.push_back(entry);
    }

    /// Takes out the oldest entry if its version is at most `through`.
    pub(super) fn pop_through(&mut self, through: Version) -> Option<Entry> {
        let entry = self.entries.pop_front_if(|entry| entry.version <= through)?;
        self.inline_bytes -= inline_bytes(&entry.operation);
        if self.newest(&entry.operation.key).is_some_and(|n| n.version == entry.version) {
            self.newest.remove(&entry.operation.key);
        }
        Some(entry)
    }
}

fn inline_bytes(operation: &Operation) -> usize {
    match &operation.change {
        Change::Put { body: Body::Inline(bytes), .. } => bytes.len(),
        _ => 0,
    }
}
