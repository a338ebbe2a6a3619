//! Accepts other storage nodes' connections and serves each by its purpose.

use super::{
    Identity, QUERY_IDLE_TIMEOUT, QUERY_TIMEOUT, STAGE_TIMEOUT,
    connection::{FrameReader, FrameWriter, PeerError, accept},
    link, stage,
};
use crate::storage_node::{chain_thread::ChainHandle, views::Views};
use ashlar_object::NodeIndex;
use ashlar_storage::Engine;
use ashlar_wire::{Frame, Purpose};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::sleep,
};

/// Connections of peers at one time; a peer opens a few and one for each large body under way.
const CONNECTIONS_MAX: usize = 4096;

/// What serving a peer takes.
#[derive(Clone)]
pub(crate) struct Acceptor {
    /// Who this node is.
    pub(crate) identity: Arc<Identity>,
    /// Where bodies go.
    pub(crate) engine: Arc<dyn Engine>,
    /// Where chain messages go.
    pub(crate) chain: ChainHandle,
    /// What tail queries are answered from.
    pub(crate) views: Arc<Views>,
    /// The predecessors' chain connections.
    pub(crate) links: Arc<Links>,
}

/// The chain connection of each predecessor, at most one: what is sent here keeps it open.
#[derive(Debug, Default)]
pub(crate) struct Links {
    latest: Mutex<HashMap<NodeIndex, oneshot::Sender<Infallible>>>,
}

impl Links {
    /// Ends the connection of `predecessor`, if there is one, in favour of another; gives what that
    /// one ends with.
    fn replace(&self, predecessor: NodeIndex) -> oneshot::Receiver<Infallible> {
        let (holder, replaced) = oneshot::channel();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.insert(predecessor, holder);
        replaced
    }
}

impl Acceptor {
    /// Accepts until the task is dropped.
    pub(crate) async fn run(self, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = connections.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, address)) => {
                    let acceptor = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = acceptor.serve(stream).await {
                            tracing::debug!(%address, %error, "peer connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) -> Result<(), PeerError> {
        let (node, purpose, reader, writer) = accept(&self.identity, stream).await?;
        match purpose {
            Purpose::Chain => {
                let replaced = self.links.replace(node);
                tokio::select! {
                    result = link::serve(node, self.chain, reader, writer) => result,
                    _ = replaced => Err(PeerError::Replaced),
                }
            }
            Purpose::Stage => {
                stage::serve(self.identity, self.engine, reader, writer, STAGE_TIMEOUT).await
            }
            Purpose::Query => self.answer_queries(reader, writer).await,
        }
    }

    async fn answer_queries(
        self,
        mut reader: FrameReader,
        mut writer: FrameWriter,
    ) -> Result<(), PeerError> {
        while let Some(frame) = reader.next_within(QUERY_IDLE_TIMEOUT).await? {
            let Frame::TailQuery(partitions) = frame else {
                return Err(PeerError::Unexpected("a tail query"));
            };
            let answers =
                partitions.iter().map(|partition| self.views.tail_committed(*partition)).collect();
            writer.send(&Frame::TailAnswer(answers), QUERY_TIMEOUT).await?;
        }
        Ok(())
    }
}
