//! A large body on its way in: to this node's disk and down the chain at once.
//!
//! As long as no write that names the body has been handed to the chain, it belongs to the
//! request: when that ends, for whatever reason, the body goes from every replica. What a crash
//! keeps from going is found by the [sweep](super::sweep).

use super::Shared;
use crate::peer::stage::{LocalStage, StageError, StageSender, blocking, discard};
use ashlar_object::{ETag, NodeIndex, PartitionIndex, StageId};
use bytes::Bytes;
use md5::{Digest, Md5};
use std::{panic::resume_unwind, sync::Arc};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit};

/// A large body that no write names yet.
pub(super) struct StagedBody {
    shared: Arc<Shared>,
    partition: PartitionIndex,
    stage: StageId,
    /// When this is dropped, the body goes, here and behind.
    is_ours: bool,
    /// Removing counts as being under way: bodies that are hard to remove hold new ones back.
    permit: Option<OwnedSemaphorePermit>,
}

impl StagedBody {
    /// Its name.
    pub(super) fn id(&self) -> StageId {
        self.stage
    }

    /// From now on the chain may hold a write that names the body: it must stay.
    pub(super) fn give_to_chain(&mut self) {
        self.is_ours = false;
    }

    /// The chain has said that it does not.
    pub(super) fn take_back(&mut self) {
        self.is_ours = true;
    }
}

impl Drop for StagedBody {
    fn drop(&mut self) {
        // Without an event loop the process ends: its next start removes what nothing names.
        if let (true, Ok(event_loop)) = (self.is_ours, Handle::try_current()) {
            let (partition, stage) = (self.partition, self.stage);
            let (shared, permit) = (self.shared.clone(), self.permit.take());
            event_loop.spawn(async move {
                remove(&shared, partition, stage).await;
                drop(permit);
            });
        }
    }
}

/// Removes a body here and behind, one whether or not the other works.
async fn remove(shared: &Shared, partition: PartitionIndex, stage: StageId) {
    let engine = shared.engine.clone();
    let here = blocking(move || engine.discard_stage(stage)).await;
    let behind = match successor(shared, partition) {
        Some(node) => discard(&shared.identity, node, partition, stage).await,
        None => Ok(()),
    };
    if let Err(error) = here.map_err(StageError::from).and(behind) {
        tracing::warn!(%stage, %error, "the body of a write that failed stays for now");
    }
}

/// A body that is being received.
pub(super) struct Upload {
    body: StagedBody,
    local: LocalStage,
    remote: Option<StageSender>,
    /// None while a piece is being hashed.
    hash: Option<Md5>,
}

/// A body that every replica has synced.
pub(super) struct Uploaded {
    pub(super) body: StagedBody,
    pub(super) size_bytes: u64,
    pub(super) etag: ETag,
}

impl Upload {
    /// Begins a body. `permit` is one of those that bound how many are under way.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        partition: PartitionIndex,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, StageError> {
        let stage = StageId(rand::random());
        let local = LocalStage::open(&shared.engine, stage).await?;
        let remote = match successor(shared, partition) {
            Some(node) => {
                Some(StageSender::open(&shared.identity, node, partition, stage, true).await?)
            }
            None => None,
        };
        // Until it ends, a body that breaks off is removed by every replica by itself.
        let shared = shared.clone();
        let body = StagedBody { shared, partition, stage, is_ours: false, permit: Some(permit) };
        Ok(Self { body, local, remote, hash: Some(Md5::new()) })
    }

    /// Writes, hashes and passes on, all at once.
    pub(super) async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StageError> {
        let mut hash = self.hash.take().expect("no piece is being hashed");
        let to_hash = pieces.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            to_hash.iter().for_each(|piece| hash.update(piece));
            hash
        });
        let remote = &mut self.remote;
        let to_send = pieces.clone();
        let sending = async move {
            if let Some(remote) = remote {
                for piece in &to_send {
                    remote.write(piece).await?;
                }
            }
            Ok::<_, StageError>(())
        };
        let (written, sent, hash) = tokio::join!(self.local.write(pieces), sending, hashing);
        written?;
        sent?;
        self.hash = Some(hash.expect("hashing does not panic"));
        Ok(())
    }

    /// Syncs here and behind.
    ///
    /// In a task of its own, whose result is dropped if nobody waits for it any more: a body must
    /// not be removed before it has come to its end here, or it would come to stay.
    pub(super) async fn finish(self) -> Result<Uploaded, StageError> {
        match tokio::spawn(self.sync()).await {
            Ok(result) => result,
            // A bug of our own: let it be seen.
            Err(error) => resume_unwind(error.into_panic()),
        }
    }

    async fn sync(self) -> Result<Uploaded, StageError> {
        let Self { mut body, local, remote, hash } = self;
        body.is_ours = true;
        let behind = async {
            match remote {
                Some(remote) => remote.finish().await,
                None => Ok(()),
            }
        };
        let (here, behind) = tokio::join!(local.finish(), behind);
        let size_bytes = here?;
        behind?;
        let hash = hash.expect("no piece is being hashed");
        Ok(Uploaded { body, size_bytes, etag: ETag(hash.finalize().into()) })
    }
}

fn successor(shared: &Shared, partition: PartitionIndex) -> Option<NodeIndex> {
    shared.identity.place_in(partition)?.successor
}
