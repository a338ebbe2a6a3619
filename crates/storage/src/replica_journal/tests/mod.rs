//! Tests of the whole journal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod creation;
mod damage;
mod files;
mod model;
mod power_loss;

use super::{Contents, Purpose, ReplicaJournal, ids::Ids};
use crate::{StorageError, simulation::folder::SimulatedFolder};

/// Whose journals they are.
const OWNER: &str = "a replica";
/// Segments are this long: short, so that tests fill several.
const SEGMENT_BYTES: u64 = 96 << 10;

/// Opens a journal, which is created if there is none.
fn open(folder: &SimulatedFolder) -> Result<(ReplicaJournal, Contents), StorageError> {
    ReplicaJournal::create_in(folder, (Purpose::New, OWNER), Ids::Random)?;
    ReplicaJournal::open_in(Box::new(folder.clone()), SEGMENT_BYTES, Ids::Random)
}
