//! Staged bodies on their way down a chain.
//!
//! The head streams a large body to its successor while it receives it, which streams it on; each
//! node writes it to its own disk. `StageDone` travels back when a node and everything behind it
//! has synced. Memory is bounded by one frame a hop; a body that breaks off is discarded by all, and
//! so is one that is complete here if it failed behind or if nobody waits for the word of it.

use super::{
    Identity, STAGE_TIMEOUT,
    connection::{FrameReader, FrameWriter, PeerError, connect},
};
use ashlar_object::{NodeIndex, PartitionIndex, StageId};
use ashlar_storage::{Blob, Engine, StageWriter, StorageError};
use ashlar_wire::{Frame, Purpose, peer::STAGE_DATA_BYTES_MAX};
use bytes::Bytes;
use std::{pin::pin, sync::Arc, time::Duration};

/// Why a body did not reach everyone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// This node's disk.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The connection to the next node.
    #[error("{0}")]
    Peer(#[from] PeerError),
    /// The next node's disk or connections.
    #[error("a replica could not store the body: {0}")]
    Remote(String),
}

/// A body on its way to a successor.
#[derive(Debug)]
pub(crate) struct StageSender {
    reader: FrameReader,
    writer: FrameWriter,
    /// Bytes sent so far.
    sent_bytes: u64,
}

impl StageSender {
    /// Opens a connection and announces the body. With `relay` the successor passes it on.
    pub(crate) async fn open(
        identity: &Identity,
        successor: NodeIndex,
        partition: PartitionIndex,
        stage: StageId,
        relay: bool,
    ) -> Result<Self, StageError> {
        let (reader, mut writer) = connect(identity, successor, Purpose::Stage).await?;
        writer.send(&Frame::StageOpen { partition, stage, relay }, STAGE_TIMEOUT).await?;
        Ok(Self { reader, writer, sent_bytes: 0 })
    }

    /// Sends bytes.
    pub(crate) async fn write(&mut self, bytes: &Bytes) -> Result<(), StageError> {
        for start in (0..bytes.len()).step_by(STAGE_DATA_BYTES_MAX) {
            let piece = bytes.slice(start..bytes.len().min(start + STAGE_DATA_BYTES_MAX));
            self.writer.send(&Frame::StageData(piece), STAGE_TIMEOUT).await?;
        }
        self.sent_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends the body and waits until it is synced there and behind.
    pub(crate) async fn finish(mut self) -> Result<(), StageError> {
        let end = Frame::StageEnd { length_bytes: self.sent_bytes };
        self.writer.send(&end, STAGE_TIMEOUT).await?;
        match self.reader.expect(2 * STAGE_TIMEOUT).await? {
            Frame::StageDone => Ok(()),
            Frame::StageFailed(why) => Err(StageError::Remote(why)),
            _ => Err(PeerError::Unexpected("the end of a staged body").into()),
        }
    }
}

/// Ships a body that is complete here to the successor alone, which lacks it.
pub(crate) async fn send_again(
    identity: &Identity,
    engine: &Arc<dyn Engine>,
    successor: NodeIndex,
    partition: PartitionIndex,
    stage: StageId,
) -> Result<(), StageError> {
    let opener = engine.clone();
    let blob: Arc<dyn Blob> = blocking(move || opener.open_stage(stage)).await?.into();
    let mut sender = StageSender::open(identity, successor, partition, stage, false).await?;
    let mut offset = 0;
    while offset < blob.len() {
        let source = blob.clone();
        let piece = blocking(move || source.read_at(offset, STAGE_DATA_BYTES_MAX)).await?;
        offset += piece.len() as u64;
        sender.write(&piece).await?;
    }
    sender.finish().await
}

/// Tells the successor, and through it all behind, that a body is not needed.
pub(crate) async fn discard(
    identity: &Identity,
    successor: NodeIndex,
    partition: PartitionIndex,
    stage: StageId,
) -> Result<(), StageError> {
    let (mut reader, mut writer) = connect(identity, successor, Purpose::Stage).await?;
    writer.send(&Frame::StageDiscard { partition, stage }, STAGE_TIMEOUT).await?;
    match reader.expect(STAGE_TIMEOUT).await? {
        Frame::StageDone => Ok(()),
        _ => Err(PeerError::Unexpected("the answer to a discard").into()),
    }
}

/// Serves a predecessor's bodies on one connection, one after the other.
pub(crate) async fn serve(
    identity: Arc<Identity>,
    engine: Arc<dyn Engine>,
    mut reader: FrameReader,
    mut writer: FrameWriter,
    idle_timeout: Duration,
) -> Result<(), PeerError> {
    // A predecessor has something to say at once, or it has gone without a word.
    while let Some(frame) = reader.next_within(idle_timeout).await? {
        let result = match frame {
            Frame::StageOpen { partition, stage, relay } => {
                let next = successor(&identity, partition).filter(|_| relay);
                let body = Incoming { partition, stage, ahead_of_write: relay };
                receive(&identity, &engine, &mut reader, body, next).await
            }
            Frame::StageDiscard { partition, stage } => {
                discard_here_and_behind(&identity, &engine, partition, stage).await
            }
            _ => return Err(PeerError::Unexpected("a staged body")),
        };
        match result {
            Ok(()) => writer.send(&Frame::StageDone, STAGE_TIMEOUT).await?,
            Err(error) => {
                tracing::warn!(%error, "staged body failed");
                // What is left of the body on this connection is not read: close it.
                let failed = Frame::StageFailed(error.to_string());
                return writer.send(&failed, STAGE_TIMEOUT).await;
            }
        }
    }
    Ok(())
}

/// A body that a predecessor announces.
struct Incoming {
    partition: PartitionIndex,
    stage: StageId,
    /// No write names it yet; otherwise it is sent again because it was missing here.
    ahead_of_write: bool,
}

async fn receive(
    identity: &Arc<Identity>,
    engine: &Arc<dyn Engine>,
    reader: &mut FrameReader,
    Incoming { partition, stage, ahead_of_write }: Incoming,
    next: Option<NodeIndex>,
) -> Result<(), StageError> {
    let mut local = LocalStage::open(engine, stage).await?;
    let mut remote = match next {
        Some(node) => Some(StageSender::open(identity, node, partition, stage, true).await?),
        None => None,
    };
    loop {
        match reader.expect(STAGE_TIMEOUT).await? {
            Frame::StageData(piece) => {
                let forward = async {
                    match &mut remote {
                        Some(remote) => remote.write(&piece).await,
                        None => Ok(()),
                    }
                };
                let (written, forwarded) = tokio::join!(local.write(vec![piece.clone()]), forward);
                written?;
                forwarded?;
            }
            Frame::StageEnd { length_bytes } if length_bytes == local.written_bytes => break,
            Frame::StageEnd { .. } => {
                return Err(StageError::Remote("the body's length does not fit".into()));
            }
            _ => return Err(PeerError::Unexpected("a staged body's data").into()),
        }
    }
    let finished = finish(reader, local, remote).await;
    // A body that travels ahead of its write is named by nothing before its head has heard of it. One
    // that is sent again has an entry, which may arrive at any moment: it stays.
    if finished.is_err() && ahead_of_write {
        let (identity, engine) = (identity.clone(), engine.clone());
        tokio::spawn(async move {
            let discarded = discard_here_and_behind(&identity, &engine, partition, stage).await;
            if let Err(error) = discarded {
                tracing::warn!(%stage, %error, "a body that failed elsewhere stays for now");
            }
        });
    }
    finished
}

/// Syncs here and behind, while the predecessor waits for it.
async fn finish(
    reader: &mut FrameReader,
    local: LocalStage,
    remote: Option<StageSender>,
) -> Result<(), StageError> {
    let behind = async {
        match remote {
            Some(remote) => remote.finish().await,
            None => Ok(()),
        }
    };
    // Both to their end, whatever happens: what is to be discarded must not come later.
    let mut syncing = pin!(async { tokio::join!(local.finish(), behind) });
    let (waits, (here, behind)) = tokio::select! {
        both = &mut syncing => (Ok(()), both),
        // It has nothing more to say before it is answered.
        said = reader.next() => {
            let error = match said {
                Ok(Some(_)) => PeerError::Unexpected("nothing before the end of a staged body"),
                Ok(None) => PeerError::Closed,
                Err(error) => error,
            };
            (Err(error), syncing.await)
        }
    };
    here?;
    behind?;
    waits.map_err(StageError::from)
}

async fn discard_here_and_behind(
    identity: &Identity,
    engine: &Arc<dyn Engine>,
    partition: PartitionIndex,
    stage: StageId,
) -> Result<(), StageError> {
    let engine = engine.clone();
    let here = blocking(move || engine.discard_stage(stage)).await;
    let behind = match successor(identity, partition) {
        // Boxed because the call goes round by way of the next node.
        Some(node) => Box::pin(discard(identity, node, partition, stage)).await,
        None => Ok(()),
    };
    here?;
    behind
}

fn successor(identity: &Identity, partition: PartitionIndex) -> Option<NodeIndex> {
    identity.place_in(partition)?.successor
}

/// A body that is being written to this node's disk, off the event loop.
pub(crate) struct LocalStage {
    /// None while a write is under way, and after one failed.
    writer: Option<Box<dyn StageWriter>>,
    /// Bytes written so far.
    pub(crate) written_bytes: u64,
}

impl LocalStage {
    /// Begins a body.
    pub(crate) async fn open(
        engine: &Arc<dyn Engine>,
        stage: StageId,
    ) -> Result<Self, StorageError> {
        let engine = engine.clone();
        let writer = blocking(move || engine.stage(stage)).await?;
        Ok(Self { writer: Some(writer), written_bytes: 0 })
    }

    /// Appends pieces.
    pub(crate) async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let mut writer = self.writer.take().expect("no write is under way");
        let (writer, written_bytes) = blocking(move || {
            let mut written_bytes = 0;
            for piece in &pieces {
                writer.write(piece)?;
                written_bytes += piece.len() as u64;
            }
            Ok((writer, written_bytes))
        })
        .await?;
        self.writer = Some(writer);
        self.written_bytes += written_bytes;
        Ok(())
    }

    /// Ends the body and syncs it.
    pub(crate) async fn finish(mut self) -> Result<u64, StorageError> {
        let writer = self.writer.take().expect("no write is under way");
        blocking(move || writer.finish()).await
    }
}

/// Runs a blocking call of the storage off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        // The storage's own bug: let it be seen.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
