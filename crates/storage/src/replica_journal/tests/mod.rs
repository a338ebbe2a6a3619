//! Tests of the whole journal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod files;
mod model;
mod power_loss;
mod simulated_folder;

use super::{Contents, ReplicaJournal};
use crate::StorageError;
use simulated_folder::SimulatedFolder;

/// Segments are this long: short, so that tests fill several.
const SEGMENT_BYTES: u64 = 96 << 10;

fn open(folder: &SimulatedFolder) -> Result<(ReplicaJournal, Contents), StorageError> {
    ReplicaJournal::open_in(Box::new(folder.clone()), SEGMENT_BYTES)
}
