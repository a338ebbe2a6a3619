//! Connections that move: from the front end to the storage node that owns the object, from storage
//! node to storage node, and back.
//!
//! - [`channel`] carries the owners' conversation, one connection for each event loop and peer,
//! - [`hello`] is how two processes greet on it, [`peers`] keeps the channels,
//! - [`origins`] knows the front ends that connections came from,
//! - [`depart`] and [`arrive`] are the shells of the protocol's two machines,
//! - [`calibrate`] finds out which bodies are worth a move,
//! - [`control`] tells steering where a flow's frames go,
//! - [`start`] tries what the host can do, and puts the parts together,
//! - [`steering`] runs it in this process, [`switch`] on a host of its own,
//! - [`stages`] measures.
//!
//! The protocol, and the duties of its shells, are in [`ashlar_handoff::protocol`].

mod arrive;
mod calibrate;
mod channel;
mod control;
mod depart;
mod hello;
mod origins;
mod peers;
mod stages;
mod start;
mod steering;
pub(crate) mod switch;

pub(crate) use control::Control;
pub(crate) use hello::Service as ServiceAddresses;
pub(crate) use origins::OriginGuard;
pub(crate) use stages::Stages;
pub(crate) use start::{HandOffError, front_end, storage};

use crate::{
    config::Cluster,
    serve::{Adopt, Afterword, ConnectionInfo},
    threads::{Shutdown, Threads},
};
use ashlar_fastpath::steering::{FlowKey, MacAddress, Operation, Owner};
use ashlar_handoff::protocol::Timeouts;
use ashlar_kernel::steering::Steering;
use ashlar_net::{
    channel_identity::ChannelIdentity,
    repair::{Frozen, MUTE_TIME},
    service_address,
};
use ashlar_object::NodeIndex;
use channel::{Channel, News};
use origins::{ORIGINS_MAX, Origins};
use std::{
    collections::{HashMap, HashSet},
    future::pending,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// The listeners that a storage node takes packets for.
const ROUTES_MAX: usize = 1024;
/// How long the last packets of a connection may be under way.
const FORGET_DELAY: Duration = Duration::from_secs(5);
/// How long clients may take to acknowledge the ends of connections that had ended by themselves just
/// before their front end drained; storage nodes wait for the others.
const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_secs(1);
/// Connections for which that is waited for at one time.
const FORGETTING_MAX: usize = 1 << 16;
/// This process, as the origin of a connection.
pub(crate) const HERE: u16 = 0;

/// What a process needs to give connections away and to take them.
pub(crate) struct HandOff {
    /// Who this node is to its peers.
    identity: ChannelIdentity,
    cluster: Cluster,
    /// This host, as steering names it.
    owner: Owner,
    /// This node, if it is a storage node.
    node: Option<NodeIndex>,
    /// What a front end tells the nodes that it gives connections to.
    service: Option<ServiceAddresses>,
    control: Control,
    timeouts: Timeouts,
    /// Bodies from this size on flow past a front end that does not say otherwise.
    threshold_bytes: u64,
    /// What front ends say, by name.
    thresholds_bytes: Mutex<HashMap<String, u64>>,
    /// The zero of the protocol's clock.
    started: Instant,
    stages: Stages,
    peers: Mutex<peers::Peers>,
    /// Front ends, by the number that connections carry.
    origins: Origins,
    /// Frozen sockets of connections that have gone, by flow.
    lingering: Mutex<HashMap<FlowKey, Lingering>>,
    /// Packets of which listeners come here.
    routes: Mutex<HashSet<SocketAddr>>,
    /// This process's steering, if there is one.
    steering: OnceLock<Arc<Mutex<Steering>>>,
    /// Flows to be forgotten that are waited for.
    forgetting: AtomicUsize,
    /// Storage nodes whose flows were forgotten since they were last there.
    gone: Mutex<HashSet<NodeIndex>>,
    /// The processes that storage nodes were when they last greeted.
    incarnations: Mutex<HashMap<NodeIndex, u64>>,
    /// Names this process in greetings.
    incarnation: u64,
    /// This front end is about to end.
    drains: AtomicBool,
    /// Serves connections that arrive.
    adopter: OnceLock<Arc<dyn Adopt>>,
}

/// A frozen socket whose connection belongs to another node, or soon will. It must be closed before
/// the connection can come back.
#[derive(Clone)]
struct Lingering {
    /// The epoch that the other node got the connection with: whoever offers it again has one that
    /// is no lower.
    epoch: u64,
    /// Taken out by who closes it.
    socket: Slot,
    /// Where the owner before this host says what its socket received too late.
    afterword: Option<Arc<Afterword>>,
    /// The move that it belongs to.
    owner: mpsc::UnboundedSender<News>,
}

/// A frozen socket that two tasks may close.
type Slot = Arc<Mutex<Option<Frozen<TcpStream>>>>;

/// Everything that [`HandOff`] starts with.
pub(crate) struct Parts {
    pub(crate) identity: ChannelIdentity,
    pub(crate) cluster: Cluster,
    pub(crate) mac: MacAddress,
    /// How steering numbers this host among owners and senders.
    pub(crate) id: u16,
    pub(crate) node: Option<NodeIndex>,
    pub(crate) service: Option<ServiceAddresses>,
    pub(crate) control: Control,
    pub(crate) threshold_bytes: u64,
    pub(crate) stages: Stages,
}

impl HandOff {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { identity, cluster, mac, id, node, service, control, threshold_bytes, stages } =
            parts;
        let timeouts = Timeouts::default();
        let mute_ms = u128::from(timeouts.claim_ms + timeouts.leave_ms);
        assert!(mute_ms < MUTE_TIME.as_millis(), "imported sockets would repeat their send queues");
        let steering = service.as_ref().map_or(NOWHERE, |service| service.steering);
        let origins = Origins::new(identity.node_name(), steering);
        Arc::new(Self {
            identity,
            cluster,
            owner: Owner { mac, id },
            node,
            service,
            control,
            timeouts,
            threshold_bytes,
            thresholds_bytes: Mutex::default(),
            started: Instant::now(),
            stages,
            peers: Mutex::default(),
            origins,
            lingering: Mutex::default(),
            routes: Mutex::default(),
            steering: OnceLock::new(),
            forgetting: AtomicUsize::new(0),
            gone: Mutex::default(),
            incarnations: Mutex::default(),
            incarnation: rand::random(),
            drains: AtomicBool::new(false),
            adopter: OnceLock::new(),
        })
    }

    /// Bodies from this size on flow past the front end that a connection came from. None do as long
    /// as its steering is silent: a move would end in a reset.
    pub(crate) fn threshold_bytes(&self, origin: u16) -> Option<u64> {
        if self.control.is_any_silent() && self.control.is_silent(self.origins.get(origin).steering)
        {
            return None;
        }
        if origin == HERE {
            return Some(self.threshold_bytes);
        }
        let said = lock(&self.thresholds_bytes).get(&self.origins.get(origin).name).copied();
        Some(said.unwrap_or(self.threshold_bytes))
    }

    /// Forgets flows of owners that die.
    fn look_after_with(&self, steering: Arc<Mutex<Steering>>) {
        assert!(self.steering.set(steering).is_ok(), "there is one steering");
    }

    /// A storage node's process has ended: its connections are answered by this host, with resets. Once
    /// for each time that it was there.
    fn owner_is_gone(&self, node: NodeIndex) {
        if lock(&self.peers).reaches(node) || !lock(&self.gone).insert(node) {
            return;
        }
        self.forget_owner(node);
    }

    /// Another process than before greets as a storage node, or the first one.
    fn owner_greets(&self, node: NodeIndex, incarnation: u64) {
        lock(&self.gone).remove(&node);
        let before = lock(&self.incarnations).insert(node, incarnation);
        if before.is_some_and(|before| before != incarnation) {
            self.forget_owner(node);
        }
    }

    fn forget_owner(&self, node: NodeIndex) {
        // A switch finds out by itself.
        let Some(steering) = self.steering.get() else { return };
        let name = self.cluster.nodes[usize::from(node.0)].name.clone();
        let steering = Arc::clone(steering);
        // Looking through a large table takes longer than an event loop may stand still.
        tokio::task::spawn_blocking(move || {
            steering::forget_owner(&steering, owner_id(node), &name);
        });
    }

    /// A front end says where its clients come in.
    fn prepare(
        &self,
        name: &str,
        service: &ServiceAddresses,
        incarnation: u64,
    ) -> Result<(), String> {
        self.origins.begin(name, service.steering, incarnation);
        self.control.hears(service.steering);
        let mut thresholds = lock(&self.thresholds_bytes);
        if thresholds.len() < ORIGINS_MAX || thresholds.contains_key(name) {
            thresholds.insert(name.into(), service.threshold_bytes);
        }
        drop(thresholds);
        let mut routes = lock(&self.routes);
        for listener in &service.listeners {
            if routes.contains(listener) {
                continue;
            }
            if routes.len() >= ROUTES_MAX {
                return Err(format!("this host takes packets for {ROUTES_MAX} listeners already"));
            }
            let route = service_address::prepare(*listener).map_err(|error| error.to_string())?;
            // Kept by the event loop, which ends: nobody drops this, which its adopter refers to.
            tokio::spawn(async move {
                let _route = route;
                pending::<()>().await;
            });
            routes.insert(*listener);
        }
        Ok(())
    }

    /// A connection has ended here. Steering forgets it when nothing of it can come any more.
    pub(crate) fn ended(self: &Arc<Self>, connection: ConnectionInfo) {
        let flow = connection.flow;
        if flow.is_known {
            let key = FlowKey::new(connection.peer, flow.service);
            self.forget_later(key, flow.epoch, flow.origin, connection.thread);
        }
    }

    /// Has steering forget a flow, unless it has a higher epoch by then, when nothing of the connection can
    /// come any more.
    fn forget_later(self: &Arc<Self>, flow: FlowKey, epoch: u64, origin: u16, thread: usize) {
        if self.forgetting.load(Relaxed) >= FORGETTING_MAX {
            // Steering finds out by itself.
            return;
        }
        self.forgetting.fetch_add(1, Relaxed);
        let hand_off = Arc::clone(self);
        tokio::spawn(async move {
            sleep(FORGET_DELAY).await;
            let operation = Operation::Forget { flow, epoch };
            let control = &hand_off.control;
            if control.execute_here(thread, origin, &operation).is_none() {
                let steering = hand_off.origins.get(origin).steering;
                // If it does not hear, it finds out by itself; and moves must not wait behind this.
                if !control.is_silent(steering) {
                    let _ = control.execute(thread, steering, operation).await;
                }
            }
            hand_off.forgetting.fetch_sub(1, Relaxed);
        });
    }

    /// Once this front end drains: has the nodes end the connections that came from it, for their frames
    /// will not be steered any more; waits for that, but not for longer than `limit`.
    pub(crate) async fn drain_owners(self: Arc<Self>, shutdown: Shutdown, limit: Duration) {
        shutdown.draining().await;
        if self.steering.get().is_none() {
            // A switch steers on.
            return;
        }
        self.drains.store(true, Relaxed);
        let channels = lock(&self.peers).to_storage();
        channels.iter().for_each(|channel| channel.say_drain());
        let all = async {
            for channel in &channels {
                channel.drained().await;
            }
        };
        if timeout(limit, all).await.is_err() {
            tracing::warn!("connections at storage nodes are cut because the drain takes too long");
        }
        // Clients' acknowledgements come by steering.
        sleep(ACKNOWLEDGEMENT_DELAY).await;
    }

    /// Whether connections can go back to the front end that they came from.
    pub(crate) fn can_return(&self, origin: u16) -> bool {
        !self.origins.get(origin).drains()
    }

    /// Gives connections that arrive to `adopter`, until this process drains. Once, before any can
    /// arrive.
    pub(crate) fn adopt_with(
        self: &Arc<Self>,
        adopter: Arc<dyn Adopt>,
        threads: &Threads,
        shutdown: &Shutdown,
    ) {
        assert!(self.adopter.set(adopter).is_ok(), "there is one adopter");
        let (hand_off, shutdown) = (Arc::clone(self), shutdown.clone());
        threads.spawn_background(0, async move {
            shutdown.draining().await;
            hand_off.origins.drain();
        });
    }

    /// The protocol's clock.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When the protocol's clock shows `at_ms`.
    fn instant(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms)
    }

    /// Makes room for a connection that was here a moment ago. False if bytes came here after it was
    /// exported that its image still lacks: its `receive_sequence` tells. Also gives what its last
    /// owner before this host may still have to say.
    fn welcome_back(
        &self,
        flow: &FlowKey,
        epoch: u64,
        receive_sequence: u32,
    ) -> (bool, Option<Arc<Afterword>>) {
        let mut all = lock(&self.lingering);
        let Some(lingering) = all.get(flow).filter(|lingering| epoch >= lingering.epoch) else {
            return (true, None);
        };
        let mut socket = lock(&lingering.socket);
        let Some(frozen) = socket.as_ref() else { return (true, None) };
        let lacks = |received: u32| received.wrapping_sub(receive_sequence) as i32 > 0;
        if !frozen.receive_sequence().is_ok_and(|received| !lacks(received)) {
            return (false, None);
        }
        if let Some(frozen) = socket.take() {
            frozen.close_silently();
        }
        drop(socket);
        // A move that is over needs no news.
        let _ = lingering.owner.send(News::FlowReturned);
        let afterword = lingering.afterword.clone();
        all.remove(flow);
        (true, afterword)
    }

    fn forget_lingering(&self, flow: &FlowKey, socket: &Slot) {
        let mut all = lock(&self.lingering);
        if all.get(flow).is_some_and(|present| Arc::ptr_eq(&present.socket, socket)) {
            all.remove(flow);
        }
    }

    fn channel_lost(&self, channel: &Arc<Channel>) {
        lock(&self.peers).remove(channel);
    }
}

/// Nobody takes control datagrams for connections that began here.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// How steering on a front end numbers that among the owners of its flows.
pub(crate) const FRONT_END_ID: u16 = 0;

/// How steering numbers a storage node.
pub(crate) fn owner_id(node: NodeIndex) -> u16 {
    node.0 + 1
}

/// A lock whose holder never panics in a way that leaves nonsense behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
