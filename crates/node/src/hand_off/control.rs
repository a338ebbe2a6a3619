//! Telling steering where a flow's frames go.

use super::{HERE, lock};
use ashlar_fastpath::steering::{Operation, Reply};
use ashlar_kernel::steering::Executor;
use ashlar_net::steering_client::SteeringClient;
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long steering on another host is asked before a move must do without an answer.
const DEADLINE: Duration = Duration::from_millis(400);

/// The ways to steering: of this process, or of a front end's or switch's host.
pub(crate) struct Control {
    /// For each event loop, if this process runs steering.
    executors: Vec<Mutex<Executor>>,
    /// For each event loop.
    clients: Vec<Arc<SteeringClient>>,
}

/// An answer to come; none if steering does not answer.
pub(super) type Answer = Pin<Box<dyn Future<Output = Option<Reply>> + Send>>;

impl Control {
    /// Asks this process's steering by `executors` and others' by `clients`, each for one event
    /// loop.
    pub(crate) fn new(executors: Vec<Executor>, clients: Vec<SteeringClient>) -> Self {
        let executors = executors.into_iter().map(Mutex::new).collect();
        Self { executors, clients: clients.into_iter().map(Arc::new).collect() }
    }

    /// Asks at once, if connections of `origin` are steered by this process. The inner value is none
    /// when steering did not answer.
    pub(super) fn execute_here(
        &self,
        thread: usize,
        origin: u16,
        operation: &Operation,
    ) -> Option<Option<Reply>> {
        let executor = self.executors.get(thread).filter(|_| origin == HERE)?;
        let reply = lock(executor).execute(operation);
        Some(reply.inspect_err(|error| tracing::warn!(%error, "steering fails")).ok())
    }

    /// Asks steering at `address` from event loop `thread`.
    pub(super) fn execute(
        &self,
        thread: usize,
        address: SocketAddr,
        operation: Operation,
    ) -> Answer {
        let client = Arc::clone(&self.clients[thread]);
        Box::pin(async move {
            let reply = client.execute(address, operation, DEADLINE).await;
            reply.inspect_err(|error| tracing::debug!(%error, "steering is silent")).ok()
        })
    }
}
