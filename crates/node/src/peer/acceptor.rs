//! Accepts other storage nodes' connections and serves each by its purpose.

use super::{
    Identity,
    connection::{FrameReader, FrameWriter, PeerError, accept},
    link, stage,
};
use crate::storage_node::{chain_thread::ChainHandle, views::Views};
use ashlar_storage::Engine;
use ashlar_wire::{Frame, Purpose};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
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
            Purpose::Chain => link::serve(node, self.chain, reader, writer).await,
            Purpose::Stage => stage::serve(self.identity, self.engine, reader, writer).await,
            Purpose::Query => self.answer_queries(reader, writer).await,
        }
    }

    async fn answer_queries(
        self,
        mut reader: FrameReader,
        mut writer: FrameWriter,
    ) -> Result<(), PeerError> {
        while let Some(frame) = reader.next().await? {
            let Frame::TailQuery(partitions) = frame else {
                return Err(PeerError::Unexpected("a tail query"));
            };
            let answers =
                partitions.iter().map(|partition| self.views.tail_committed(*partition)).collect();
            writer.send(&Frame::TailAnswer(answers), super::QUERY_TIMEOUT).await?;
        }
        Ok(())
    }
}
