//! Finding the object that a read may see.

use super::Shared;
use crate::peer::stage::blocking;
use ashlar_object::{
    Key, NodeIndex, ObjectMeta, PartitionIndex, Version,
    read::{ReadDecision, decide, decide_at},
};
use ashlar_storage::{Blob, Engine, Place, Snapshot, StorageError, Stored, StoredChange};
use bytes::Bytes;
use std::sync::Arc;

/// How often a read starts over because what it found was released under it.
const ATTEMPTS_MAX: usize = 8;

/// An object that a read may see.
pub(super) struct Object {
    /// Its version within its partition.
    pub(super) version: Version,
    /// All about it but its bytes.
    pub(super) meta: ObjectMeta,
    /// Its bytes.
    pub(super) source: Source,
}

/// Where an object's bytes come from.
#[derive(Clone)]
pub(super) enum Source {
    /// Memory.
    Inline(Bytes),
    /// A file.
    Blob(Arc<dyn Blob>),
    /// Arithmetic: [`ashlar_object::synthetic`].
    Synthetic,
}

/// Why a read cannot be answered here and now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The partition is not served here at the moment.
    #[error("this replica does not serve the key's partition now")]
    NotServed,
    /// A write of this key is under way and the tail, whose word settles it, does not answer.
    #[error("a write of this key is under way and the tail of its chain does not answer")]
    Undecided,
    /// The disk.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

/// What one look at the storage gave.
enum Look {
    Settled(Option<Object>),
    /// The newest version is not known to be committed.
    Dirty(Box<dyn Snapshot>, Vec<Stored>),
}

/// The object that `key` names; none if it names nothing.
pub(super) async fn lookup(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    key: &Key,
) -> Result<Option<Object>, LookupError> {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(shared, partition, key).await {
            Err(LookupError::Storage(StorageError::Gone)) => {}
            result => return result,
        }
    }
    Err(LookupError::Storage(StorageError::Gone))
}

async fn attempt(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    key: &Key,
) -> Result<Option<Object>, LookupError> {
    if !shared.views.serves_reads(partition) {
        return Err(LookupError::NotServed);
    }
    let (context, name) = (shared.clone(), key.clone());
    let look = blocking(move || {
        let snapshot = context.engine.snapshot()?;
        let versions = snapshot.versions(&name)?;
        // After the snapshot: `ashlar_object::read` says why.
        let committed = context.views.committed(partition);
        match decide(&numbers(&versions), committed) {
            ReadDecision::AskTail => Ok(Look::Dirty(snapshot, versions)),
            decision => {
                settle(&*context.engine, &*snapshot, &name, &versions, decision).map(Look::Settled)
            }
        }
    })
    .await?;
    let (snapshot, versions) = match look {
        Look::Settled(object) => return Ok(object),
        Look::Dirty(snapshot, versions) => (snapshot, versions),
    };
    shared.metrics.dirty_reads.inc();
    let committed = tail_committed(shared, partition).await.ok_or(LookupError::Undecided)?;
    let (context, name) = (shared.clone(), key.clone());
    let object = blocking(move || {
        let decision = decide_at(&numbers(&versions), committed);
        settle(&*context.engine, &*snapshot, &name, &versions, decision)
    })
    .await?;
    Ok(object)
}

/// The word of the partition's tail, given after this is called.
pub(super) async fn tail_committed(shared: &Shared, partition: PartitionIndex) -> Option<Version> {
    let tail: NodeIndex = *shared.identity.cluster.map.chain(partition).last()?;
    if tail == shared.identity.node {
        return shared.views.tail_committed(partition);
    }
    shared.tails.committed(tail, partition).await
}

/// The numbers of a key's versions, as the read rule takes them.
pub(super) fn numbers(versions: &[Stored]) -> Vec<Version> {
    versions.iter().map(|stored| stored.version).collect()
}

fn settle(
    engine: &dyn Engine,
    snapshot: &dyn Snapshot,
    key: &Key,
    versions: &[Stored],
    decision: ReadDecision,
) -> Result<Option<Object>, StorageError> {
    let ReadDecision::Serve(version) = decision else { return Ok(None) };
    let stored = versions.iter().find(|stored| stored.version == version);
    let stored = stored.expect("the decision names one of the versions");
    let StoredChange::Put { meta, place } = &stored.change else { return Ok(None) };
    let source = match place {
        Place::Inline => Source::Inline(snapshot.inline_body(key, stored)?),
        Place::Staged(stage) => Source::Blob(engine.open_stage(*stage)?.into()),
    };
    Ok(Some(Object { version, meta: meta.clone(), source }))
}
