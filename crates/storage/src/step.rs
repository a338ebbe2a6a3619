//! A batch as the journal keeps it and the tables take it.

use crate::{Batch, Item, StorageError, record::Marks};
use ashlar_object::{Change, Entry, Key, PartitionIndex, StageId, Version};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One item of a batch. Unlike [`Item::Release`] a release carries no body: it is journalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// See [`Item::Entry`].
    Entry {
        /// The partition.
        partition: u16,
        /// The write.
        entry: Entry,
    },
    /// See [`Item::Release`].
    Release {
        /// The partition.
        partition: u16,
        /// The committed version.
        version: Version,
        /// Its key.
        key: Key,
        /// Whether the version is a deletion.
        deletes: bool,
    },
    /// See [`Item::Joined`].
    Joined {
        /// The partition.
        partition: u16,
    },
}

/// The marks of the partitions, which every batch moves.
pub(crate) type PartitionMarks = HashMap<u16, Marks>;

impl Step {
    /// The steps of a batch.
    pub(crate) fn of_batch(batch: &Batch) -> Vec<Self> {
        batch.items.iter().map(Self::of_item).collect()
    }

    fn of_item(item: &Item) -> Self {
        match item {
            Item::Entry { partition, entry } => {
                Self::Entry { partition: partition.0, entry: entry.clone() }
            }
            Item::Release { partition, entry } => Self::Release {
                partition: partition.0,
                version: entry.version,
                key: entry.operation.key.clone(),
                deletes: entry.operation.change == Change::Delete,
            },
            Item::Joined { partition } => Self::Joined { partition: partition.0 },
        }
    }

    /// The partition that the step belongs to.
    pub(crate) fn partition(&self) -> PartitionIndex {
        match self {
            Self::Entry { partition, .. }
            | Self::Release { partition, .. }
            | Self::Joined { partition } => PartitionIndex(*partition),
        }
    }

    /// Whether the step needs space that nothing gives back.
    pub(crate) fn stores_an_object(&self) -> bool {
        matches!(self, Self::Entry { entry, .. } if entry.operation.change != Change::Delete)
    }

    /// The large body that the step's entry names.
    pub(crate) fn stage(&self) -> Option<StageId> {
        match self {
            Self::Entry { entry, .. } => entry.operation.change.stage(),
            _ => None,
        }
    }

    /// Moves the marks of the step's partition.
    ///
    /// # Errors
    /// When the step breaks the rules of its item.
    pub(crate) fn advance(&self, marks: &mut Marks) -> Result<(), StorageError> {
        let broken = |detail: String| {
            let what = format!("the journal of partition {}", self.partition().0);
            Err(StorageError::corrupt(what, detail))
        };
        match self {
            Self::Entry { entry, .. } => {
                if entry.version != marks.applied.next() {
                    let (version, applied) = (entry.version, marks.applied);
                    return broken(format!("version {version} comes after {applied}"));
                }
                marks.applied = entry.version;
            }
            Self::Release { version, .. } => {
                if *version > marks.applied {
                    let applied = marks.applied;
                    return broken(format!("version {version} is released, of {applied}"));
                }
                marks.committed = marks.committed.max(*version);
            }
            Self::Joined { .. } => marks.joined = true,
        }
        Ok(())
    }
}

/// The marks that `steps` move, as they are afterwards.
///
/// # Errors
/// When a step breaks the rules of its item.
pub(crate) fn advance(
    marks: &PartitionMarks,
    steps: &[Step],
) -> Result<PartitionMarks, StorageError> {
    let mut moved = PartitionMarks::new();
    for step in steps {
        let partition = step.partition().0;
        let before = || marks.get(&partition).copied().unwrap_or_default();
        step.advance(moved.entry(partition).or_insert_with(before))?;
    }
    Ok(moved)
}
