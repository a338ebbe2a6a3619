//! Makes a process ready to give connections away and to take them.

use super::{
    Control, FRONT_END_ID, HandOff, Parts, ServiceAddresses, Stages,
    calibrate::Costs,
    channel, owner_id,
    steering::{Metrics, attach_to, settings, sweep},
    switch,
};
use crate::{
    config::{Cluster, Config, ConfigError, FrontEnd, Mode, Steering as Placement, SteeringHere},
    metrics::Registry,
    serve,
    threads::Threads,
};
use ashlar_fastpath::steering::MacAddress;
use ashlar_kernel::steering::Steering;
use ashlar_net::{
    channel_identity::{ChannelIdentity, ClusterKey, ClusterKeyError, IdentityError},
    repair::{self, RepairError},
    service_address::{Interface, interface_of},
    steering_client::{SteeringClient, SteeringSender},
};
use ashlar_object::NodeIndex;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// Why connections cannot move.
#[derive(Debug, thiserror::Error)]
pub enum HandOffError {
    /// The configuration does not say what it must.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel does not let sockets be moved.
    #[error("sockets cannot be moved: {0}")]
    Repair(#[from] RepairError),
    /// The cluster key cannot be used.
    #[error("cluster.key_file: {0}")]
    Key(#[from] ClusterKeyError),
    /// No certificate can be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A listener on all addresses.
    #[error("front_end: {0} is no address of one interface, which steering needs")]
    Unspecified(SocketAddr),
    /// The address is on no interface with a hardware address.
    #[error("{0} is on no interface that steering can attach to")]
    NoInterface(IpAddr),
    /// Steering cannot be loaded or attached.
    #[error("steering: {0}")]
    Steering(#[from] ashlar_kernel::Error),
    /// Something else was refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Prepares a front end; none if its connections stay, with a line in the log that says why.
///
/// # Errors
/// When they must move and cannot.
pub(crate) fn front_end(
    config: &Config,
    role: &FrontEnd,
    threads: &Threads,
    registry: &mut Registry,
) -> Result<Option<Arc<HandOff>>, HandOffError> {
    let prepared = match role.hand_off.mode {
        Mode::Relay => return Ok(None),
        Mode::Auto | Mode::Handoff => prepare_front_end(config, role, threads, registry),
    };
    match prepared {
        Ok(hand_off) => Ok(Some(hand_off)),
        Err(error) if role.hand_off.mode == Mode::Auto => {
            tracing::info!(reason = %error, "responses are relayed, because connections cannot move");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn prepare_front_end(
    config: &Config,
    role: &FrontEnd,
    threads: &Threads,
    registry: &mut Registry,
) -> Result<Arc<HandOff>, HandOffError> {
    config.cluster.check_hand_off()?;
    repair::probe()?;
    let listeners: Vec<_> = [role.http, role.https].into_iter().flatten().collect();
    if let Some(listener) = listeners.iter().find(|listener| listener.ip().is_unspecified()) {
        return Err(HandOffError::Unspecified(*listener));
    }
    let address = listeners.first().expect("a front end listens").ip();
    let Interface { name: interface, hardware_address } = interface(address)?;
    let key = cluster_key(config)?;
    let (id, steering, executors, control_address) = match &role.hand_off.steering {
        Placement::Switch(control) => (switch::front_end_id(address), None, Vec::new(), *control),
        Placement::Here(here) => {
            let control = SocketAddr::new(address, here.control_port);
            let steering = attach(here, &interface, control, &key)?;
            let executors = (0..threads.count()).map(|_| steering.executor()).collect();
            (FRONT_END_ID, Some(steering), executors, control)
        }
    };
    let clients = steering_clients(&key, id, control_address.ip(), threads)?;
    let threshold_bytes = threshold_bytes(role.hand_off.threshold_bytes, &config.cluster);
    tracing::info!(threshold_bytes, interface, "large bodies flow past the front end");
    let hand_off = HandOff::new(Parts {
        identity: ChannelIdentity::new(&key, &config.name)?,
        cluster: config.cluster.clone(),
        mac: MacAddress(hardware_address),
        id,
        node: None,
        service: Some(ServiceAddresses { listeners, steering: control_address, threshold_bytes }),
        control: Control::new(executors, clients),
        threshold_bytes,
        stages: Stages::new(registry),
    });
    if let Some(steering) = steering {
        let steering = Arc::new(Mutex::new(steering));
        hand_off.look_after_with(Arc::clone(&steering));
        threads.spawn_background(0, sweep(steering, Metrics::new(registry)));
    } else {
        tracing::info!(switch = %control_address, sender = id, "steering is asked on a switch");
        let _entered = threads.handle(0).enter();
        hand_off.control.suspect(0, control_address);
    }
    maintain_channels(&hand_off, threads);
    Ok(hand_off)
}

/// The size from which on bodies are not relayed: the configured one, or where a move begins to be worth
/// it.
fn threshold_bytes(configured: Option<u64>, cluster: &Cluster) -> u64 {
    /// Where nothing could be measured.
    const USUAL: u64 = 64 << 10;
    if let Some(bytes) = configured {
        return bytes;
    }
    match Costs::measure() {
        Ok(costs) => {
            tracing::info!(costs.move_ns, costs.relay_ns_per_kib, "measured the hand-off");
            costs.threshold_bytes(cluster.nodes.len())
        }
        Err(error) => {
            tracing::warn!(%error, "the cost of a hand-off cannot be measured");
            USUAL
        }
    }
}

/// Loads steering and attaches it to the front end's interface.
fn attach(
    here: &SteeringHere,
    interface: &str,
    control: SocketAddr,
    key: &ClusterKey,
) -> Result<Steering, HandOffError> {
    let mut steering = Steering::load(&settings(control, key, FRONT_END_ID, here.flows_max))?;
    let interface = here.interface.as_deref().unwrap_or(interface);
    steering.attach(interface, attach_to(here.attach))?;
    Ok(steering)
}

/// Prepares a storage node; none if it takes no connections.
///
/// # Errors
/// When the configuration says that it does and it cannot.
pub(crate) fn storage(
    config: &Config,
    node: NodeIndex,
    threads: &Threads,
    registry: &mut Registry,
) -> Result<Option<Arc<HandOff>>, HandOffError> {
    let Some(address) = config.cluster.nodes[usize::from(node.0)].handoff else {
        return Ok(None);
    };
    if let Err(error) = config
        .cluster
        .check_hand_off()
        .map_err(HandOffError::from)
        .and_then(|()| Ok(repair::probe()?))
    {
        tracing::info!(reason = %error, "this storage node takes no connections from front ends");
        return Ok(None);
    }
    let Interface { hardware_address, .. } = interface(address.ip())?;
    let key = cluster_key(config)?;
    let clients = steering_clients(&key, owner_id(node), address.ip(), threads)?;
    let hand_off = HandOff::new(Parts {
        identity: ChannelIdentity::new(&key, &config.name)?,
        cluster: config.cluster.clone(),
        mac: MacAddress(hardware_address),
        id: owner_id(node),
        node: Some(node),
        service: None,
        control: Control::new(Vec::new(), clients),
        threshold_bytes: threshold_bytes(None, &config.cluster),
        stages: Stages::new(registry),
    });
    let listen = |source| HandOffError::System { what: "cannot listen for hand-offs", source };
    let bound = serve::bind(address, threads.count()).map_err(listen)?;
    for (thread, socket) in bound.into_sockets().into_iter().enumerate() {
        let hand_off = Arc::clone(&hand_off);
        threads.spawn_background(thread, async move {
            match TcpListener::from_std(socket) {
                Ok(listener) => accept(hand_off, listener, thread).await,
                Err(error) => tracing::error!(%error, "the listener for hand-offs fails"),
            }
        });
    }
    maintain_channels(&hand_off, threads);
    Ok(Some(hand_off))
}

async fn accept(hand_off: Arc<HandOff>, listener: TcpListener, thread: usize) {
    /// After an accept that failed for lack of descriptors.
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(channel::accept(Arc::clone(&hand_off), stream, thread));
            }
            Err(error) => {
                tracing::debug!(%error, "a channel for hand-offs cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Keeps a channel from each event loop to each storage node but this one.
fn maintain_channels(hand_off: &Arc<HandOff>, threads: &Threads) {
    for thread in 0..threads.count() {
        for node in hand_off.cluster.map.nodes().filter(|node| Some(*node) != hand_off.node) {
            threads.spawn_background(thread, channel::maintain(Arc::clone(hand_off), node, thread));
        }
    }
}

pub(super) fn interface(address: IpAddr) -> Result<Interface, HandOffError> {
    let what = "cannot list the interfaces";
    let found = interface_of(address).map_err(|source| HandOffError::System { what, source })?;
    found.ok_or(HandOffError::NoInterface(address))
}

pub(super) fn cluster_key(config: &Config) -> Result<ClusterKey, HandOffError> {
    let path = config.cluster.key_file.as_deref().expect("the configuration was checked for it");
    Ok(ClusterKey::load(path)?)
}

/// One for each event loop.
fn steering_clients(
    key: &ClusterKey,
    sender: u16,
    address: IpAddr,
    threads: &Threads,
) -> Result<Vec<SteeringClient>, HandOffError> {
    let sender = Arc::new(SteeringSender::new(sender, &key.steering_key()));
    let local = match address {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let bind = |thread| {
        let bound =
            threads.handle(thread).block_on(SteeringClient::bind(local, Arc::clone(&sender)));
        bound.map_err(|source| HandOffError::System { what: "cannot ask steering", source })
    };
    (0..threads.count()).map(bind).collect()
}
