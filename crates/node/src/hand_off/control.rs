//! Telling steering where a flow's frames go.

use super::{HERE, ORIGINS_MAX, lock};
use ashlar_fastpath::steering::{FlowKey, Operation, Reply, ResultCode};
use ashlar_handoff::protocol::{Owner, Steered};
use ashlar_kernel::steering::Executor;
use ashlar_net::steering_client::{
    Repetition::{self, UntilAnswered},
    SteeringClient,
};
use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::sleep;

/// How long steering on another host is asked before a move must do without an answer.
const DEADLINE: Duration = Duration::from_millis(400);

/// Between the first two questions to a host that was silent; then twice as long, and so on.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// Between two questions to a host that is silent for long.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(2);

/// The ways to steering: of this process, or of a front end's or switch's host.
pub(crate) struct Control {
    /// For each event loop, if this process runs steering.
    executors: Vec<Mutex<Executor>>,
    /// For each event loop.
    clients: Vec<Arc<SteeringClient>>,
    silent: Arc<Silent>,
}

/// Steering hosts that did not answer, until they do.
#[derive(Default)]
struct Silent {
    /// With the number of the task that listens to each.
    hosts: Mutex<HashMap<SocketAddr, usize>>,
    /// Numbers for tasks.
    listeners: AtomicUsize,
    /// How many there are: looked at for every request.
    count: AtomicUsize,
}

/// An answer to come; none if steering does not answer.
pub(super) type Answer = Pin<Box<dyn Future<Output = Option<Reply>> + Send>>;

impl Control {
    /// Asks this process's steering by `executors` and others' by `clients`, each for one event
    /// loop.
    pub(crate) fn new(executors: Vec<Executor>, clients: Vec<SteeringClient>) -> Self {
        let executors = executors.into_iter().map(Mutex::new).collect();
        let clients = clients.into_iter().map(Arc::new).collect();
        Self { executors, clients, silent: Arc::default() }
    }

    /// Whether any steering host that was asked is silent.
    pub(super) fn is_any_silent(&self) -> bool {
        self.silent.count.load(Relaxed) > 0
    }

    /// Whether steering at `address` is silent.
    pub(super) fn is_silent(&self, address: SocketAddr) -> bool {
        lock(&self.silent.hosts).contains_key(&address)
    }

    /// Steering at `address` has just begun.
    pub(super) fn hears(&self, address: SocketAddr) {
        self.silent.forget(address);
    }

    /// Takes steering at `address` for silent until it answers. Within a runtime.
    pub(super) fn suspect(&self, thread: usize, address: SocketAddr) {
        Silent::suspect(&self.silent, &self.clients[thread], address);
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

    /// Asks steering at `address` from event loop `thread`, again and again.
    pub(super) fn execute(
        &self,
        thread: usize,
        address: SocketAddr,
        operation: Operation,
    ) -> Answer {
        self.ask(thread, address, operation, UntilAnswered)
    }

    /// Asks steering at `address` from event loop `thread`, in one copy: once that is answered, none can
    /// be carried out any more.
    pub(super) fn execute_once(
        &self,
        thread: usize,
        address: SocketAddr,
        operation: Operation,
    ) -> Answer {
        self.ask(thread, address, operation, Repetition::Never)
    }

    fn ask(
        &self,
        thread: usize,
        address: SocketAddr,
        operation: Operation,
        repetition: Repetition,
    ) -> Answer {
        let (client, silent) = (Arc::clone(&self.clients[thread]), Arc::clone(&self.silent));
        Box::pin(async move {
            let mut asked = Asked { silent, client, address, is_answered: false };
            let reply = asked.client.execute(address, operation, DEADLINE, repetition).await;
            asked.is_answered = reply.is_ok();
            reply.inspect_err(|error| tracing::debug!(%error, "steering is silent")).ok()
        })
    }
}

/// How steering numbers the two owners of a move.
pub(super) struct Owners {
    pub(super) exporter: u16,
    pub(super) importer: u16,
}

impl Owners {
    /// A reply as the protocol takes it; none if it says nothing about the flow.
    pub(super) fn steered(&self, answers_epoch: u64, reply: Option<Reply>) -> Option<Steered> {
        let reply = reply?;
        if matches!(reply.result, ResultCode::Busy | ResultCode::WrongIncarnation) {
            return None;
        }
        let (epoch, owner) = match reply.state {
            Some(state) if state.owner.id == self.importer => (state.epoch, Owner::Importer),
            Some(state) if state.owner.id == self.exporter => (state.epoch, Owner::Exporter),
            Some(state) => (state.epoch, Owner::Other),
            None => (0, Owner::Nobody),
        };
        Some(Steered { answers_epoch, epoch, owner })
    }
}

/// A question under way. Who asks may give it up before the deadline, and ask again.
struct Asked {
    silent: Arc<Silent>,
    client: Arc<SteeringClient>,
    address: SocketAddr,
    is_answered: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_answered && tokio::runtime::Handle::try_current().is_ok() {
            Silent::suspect(&self.silent, &self.client, self.address);
        }
    }
}

impl Silent {
    fn suspect(silent: &Arc<Self>, client: &Arc<SteeringClient>, address: SocketAddr) {
        let mut hosts = lock(&silent.hosts);
        if hosts.len() >= ORIGINS_MAX || hosts.contains_key(&address) {
            return;
        }
        let number = silent.listeners.fetch_add(1, Relaxed);
        hosts.insert(address, number);
        silent.count.store(hosts.len(), Relaxed);
        tokio::spawn(Self::listen(Arc::clone(silent), Arc::clone(client), address, number));
    }

    /// Asks steering at `address` until it answers, or another task does.
    async fn listen(
        silent: Arc<Self>,
        client: Arc<SteeringClient>,
        address: SocketAddr,
        number: usize,
    ) {
        let is_mine = || lock(&silent.hosts).get(&address) == Some(&number);
        // About no flow that there is: any answer will do.
        let question = Operation::Query { flow: FlowKey::new(address, address) };
        let (mut was_silent, mut pause) = (false, PROBE_PAUSE);
        while let Err(error) = client.execute(address, question, DEADLINE, UntilAnswered).await {
            if !is_mine() {
                return;
            }
            if !was_silent {
                tracing::warn!(%error, "connections stay where they are until steering answers");
                was_silent = true;
            }
            sleep(pause).await;
            pause = (2 * pause).min(PROBE_PAUSE_MAX);
        }
        if was_silent {
            tracing::info!(%address, "steering answers again");
        }
        if is_mine() {
            silent.forget(address);
        }
    }

    fn forget(&self, address: SocketAddr) {
        let mut hosts = lock(&self.hosts);
        hosts.remove(&address);
        self.count.store(hosts.len(), Relaxed);
    }
}
