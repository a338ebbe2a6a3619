//! Starts the roles that configurations name, in one process, and ends them in order.

use crate::{
    admin,
    config::{Config, ConfigError, EngineKind, Storage},
    front_end::{self, FrontEnd},
    hand_off::{self, HandOffError},
    metrics::{Registry, registry},
    replication::{self, Offloads, Replicas},
    serve::{Server, ServerMetrics, Service, spawn_server},
    storage_node::{self, Owner, SyntheticService},
    threads::{Shutdown, ShutdownTrigger, Threads},
};
use ashlar_storage::StorageError;
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// Peers that wait to be accepted.
const PEER_BACKLOG: i32 = 1024;

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A storage node cannot take connections.
    #[error("cluster.storage.handoff: {0}")]
    HandOff(#[from] HandOffError),
    /// A replica has no journal: it is new, or has lost what it promised.
    #[error(
        "replication.group {group}: there is no journal in {}: if this member has lost its disk, replace it by one with \
         another address, and never format under this one; for a new group or a new member, run `ashlar format` once",
        directory.display()
    )]
    NoJournal {
        /// The group.
        group: u32,
        /// Where its journal should be.
        directory: PathBuf,
    },
    /// A journal is another replica's.
    #[error("{}: it is the journal of {was}, not of {is}: a replica keeps its address and its group's mode for ever", directory.display())]
    Owner {
        /// Where it is.
        directory: PathBuf,
        /// Whose it is.
        was: String,
        /// Whose it would have to be.
        is: String,
    },
    /// A replica's journal was created for something else.
    #[error("replication.group {group}.state: the journal was created with state = \"{was}\"")]
    State {
        /// The group.
        group: u32,
        /// What it was created for.
        was: &'static str,
    },
    /// The replicas cannot start.
    #[error("replication: {0}")]
    Replication(#[from] ashlar_replica::StartError),
    /// A switch cannot start.
    #[error("switch: {0}")]
    Switch(#[source] HandOffError),
    /// The front end cannot start.
    #[error(transparent)]
    FrontEnd(#[from] front_end::FrontEndError),
}

/// Where a process listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoints {
    /// The front end's HTTP.
    pub http: Option<SocketAddr>,
    /// The front end's HTTPS.
    pub https: Option<SocketAddr>,
    /// Replicas, over UDP.
    pub replication: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: Option<SocketAddr>,
}

/// Roles that run.
pub struct Process {
    storage: Option<Tier>,
    front_ends: Option<Tier>,
    switch: Option<Tier>,
    /// What looks after replicas; they have threads of their own.
    replication: Option<(Tier, Vec<Replicas>)>,
    endpoints: Endpoints,
    certificates: Vec<front_end::Reload>,
    /// By what they are called.
    roles: Vec<(String, Arc<dyn admin::Health>)>,
}

/// The roles of one kind: their event loops, and how they end together.
struct Tier {
    threads: Threads,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    drain_timeout: Duration,
}

impl Tier {
    fn start(name: &str, threads: usize) -> Result<Self, NodeError> {
        let threads = Threads::start(name, threads)
            .map_err(|source| NodeError::System { what: "cannot start threads", source })?;
        let (trigger, shutdown) = ShutdownTrigger::new();
        Ok(Self { threads, trigger, shutdown, drain_timeout: Duration::ZERO })
    }

    /// Takes nothing new, finishes what is under way, and ends; whether all could be finished.
    fn stop(self) -> bool {
        self.trigger.drain();
        self.threads.join(self.drain_timeout)
    }
}

impl Process {
    /// Starts all roles of `configs`. Those of one kind share event loops; the first
    /// configuration's `threads` and `admin` count.
    ///
    /// # Errors
    /// When a role cannot start; those that have started end.
    pub fn start(configs: &[Config]) -> Result<Self, NodeError> {
        let first = configs.first().expect("a process has a configuration");
        let mut process = Self {
            storage: None,
            front_ends: None,
            switch: None,
            replication: None,
            endpoints: Endpoints::default(),
            certificates: Vec::new(),
            roles: Vec::new(),
        };
        let mut registry = registry();
        // A front end that finds its storage nodes listening uses them from its first look on.
        if configs.iter().any(|config| config.storage.is_some()) {
            let mut tier = Tier::start("storage", first.threads)?;
            for config in configs {
                let Some(storage) = &config.storage else { continue };
                let registry = labelled(&mut registry, config);
                let health = start_storage(&mut tier, config, storage, registry)?;
                process.roles.push((format!("storage {}", config.name), health));
            }
            process.storage = Some(tier);
        }
        if configs.iter().any(|config| config.front_end.is_some()) {
            let mut tier = Tier::start("front-end", first.threads)?;
            for config in configs {
                let Some(role) = &config.front_end else { continue };
                let registry = labelled(&mut registry, config);
                tier.drain_timeout = tier.drain_timeout.max(role.limits.drain_timeout);
                let health = process.start_front_end(&tier, config, registry)?;
                process.roles.push((format!("front end {}", config.name), health));
            }
            process.front_ends = Some(tier);
        }
        if let Some(role) = &first.switch {
            assert!(configs.len() == 1, "a switch has a process of its own");
            let tier = Tier::start("switch", 1)?;
            let registry = labelled(&mut registry, first);
            let health = hand_off::switch::start(first, role, &tier.threads, registry)
                .map_err(NodeError::Switch)?;
            process.roles.push((format!("switch {}", first.name), health));
            process.switch = Some(tier);
        }
        if configs.iter().any(|config| config.replication.is_some()) {
            let tier = Tier::start("admin", 1)?;
            let mut all = Vec::new();
            for config in configs {
                let Some(role) = &config.replication else { continue };
                let registry = labelled(&mut registry, config);
                let (replicas, health) = replication::start(config, role, registry)?;
                all.push(replicas);
                process.roles.push((format!("replicas {}", config.name), health));
                process.endpoints.replication = Some(role.listen);
            }
            process.replication = Some((tier, all));
        }
        if let Some(address) = first.admin {
            process.start_admin(address, registry)?;
        }
        Ok(process)
    }

    /// Serves as long as anything does, and says from the first drain on that the process drains.
    fn start_admin(&mut self, address: SocketAddr, registry: Registry) -> Result<(), NodeError> {
        let replication = self.replication.as_ref().map(|(tier, _)| tier);
        let others = self.front_ends.iter().chain(&self.switch).chain(replication);
        let tiers = || self.storage.iter().chain(others.clone());
        let last = tiers().next().expect("a process has a role");
        let first = tiers().last().expect("a process has a role");
        let replicas = self.replication.iter().flat_map(|(_, replicas)| replicas);
        let admin = admin::Admin {
            registry,
            roles: self.roles.clone(),
            offloads: Offloads::of(replicas),
            shutdown: first.shutdown.clone(),
        };
        let bound = admin::spawn(address, &last.threads, admin)
            .map_err(|source| NodeError::Listen { address, source })?;
        self.endpoints.admin = Some(bound);
        Ok(())
    }

    /// Where the process listens.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// Whether every role can do all of its work, or one line on what is missing.
    ///
    /// # Errors
    /// When something is missing.
    pub fn complete(&self) -> Result<(), String> {
        let role = |(name, health): &(String, Arc<dyn admin::Health>)| {
            health.complete().map_err(|reason| format!("{name}: {reason}"))
        };
        self.roles.iter().try_for_each(role)
    }

    /// Reads certificates again; what cannot be used is logged and the old one stays.
    pub fn reload(&self) {
        self.certificates.iter().for_each(front_end::Reload::reload);
    }

    /// Takes nothing new, finishes what is under way within the drain time-outs, and ends. Gives
    /// whether everything could be finished.
    ///
    /// Front ends come first: what they have taken in may need a storage node yet.
    pub fn stop(self) -> bool {
        // Replicas take nothing along that their groups do not have.
        let replication = self.replication.map(|(tier, replicas)| {
            drop(replicas);
            tier
        });
        let tiers = [self.front_ends, self.storage, self.switch, replication];
        tiers.map(|tier| tier.is_none_or(Tier::stop)) == [true; 4]
    }

    fn start_front_end(
        &mut self,
        tier: &Tier,
        config: &Config,
        registry: &mut Registry,
    ) -> Result<Arc<dyn admin::Health>, NodeError> {
        let started = front_end::start(config, &tier.threads, &tier.shutdown, registry)?;
        self.endpoints.http = started.http;
        self.endpoints.https = started.https;
        self.certificates.extend(started.reload);
        Ok(started.health)
    }
}

fn start_storage(
    tier: &mut Tier,
    config: &Config,
    storage: &Storage,
    registry: &mut Registry,
) -> Result<Arc<dyn admin::Health>, NodeError> {
    let (http, peer) = storage_node::addresses(config, storage);
    let metrics = ServerMetrics::new(registry, "storage");
    let limits = storage.limits;
    let listen = |source| NodeError::Listen { address: http, source };
    tier.drain_timeout = tier.drain_timeout.max(limits.drain_timeout);
    let Tier { threads, shutdown, .. } = tier;
    match storage.engine {
        EngineKind::Synthetic => {
            let service = SyntheticService;
            let listened = metrics.clone();
            spawn_server(http, None, limits, threads, shutdown, listened, service)
                .map_err(listen)?;
            take_connections(tier, config, storage, service, metrics, registry)?;
            Ok(Arc::new(service))
        }
        EngineKind::Disk => {
            let service = open_disk(threads, config, storage, peer, registry)?;
            let listened = metrics.clone();
            spawn_server(http, None, limits, threads, shutdown, listened, service.clone())
                .map_err(listen)?;
            take_connections(tier, config, storage, service.clone(), metrics, registry)?;
            Ok(Arc::new(service))
        }
    }
}

/// Lets front ends hand connections to a storage node, if it can take them.
fn take_connections<L: Service>(
    tier: &Tier,
    config: &Config,
    storage: &Storage,
    local: L,
    metrics: ServerMetrics,
    registry: &mut Registry,
) -> Result<(), NodeError> {
    let (node, limits) = (storage.index, storage.limits);
    let prepared = hand_off::storage(config, node, &tier.threads, registry)?;
    let Some(hand_off) = prepared else { return Ok(()) };
    let relay = Some(Arc::clone(&hand_off));
    let core = front_end::core(config, limits, relay, &tier.threads, registry);
    front_end::look_after(&core, &tier.threads);
    let map = config.cluster.map.clone();
    let owner = Owner { local, front: FrontEnd(core), hand_off: Arc::clone(&hand_off), map, node };
    let server = Server::new(limits, &tier.shutdown, metrics, owner);
    hand_off.adopt_with(server.adopter(&tier.threads), &tier.threads, &tier.shutdown);
    Ok(())
}

/// Opens the disk engine with its chain traffic on the first event loop.
fn open_disk(
    threads: &Threads,
    config: &Config,
    storage: &Storage,
    peer: SocketAddr,
    registry: &mut Registry,
) -> Result<storage_node::DiskService, NodeError> {
    let listen = |source| NodeError::Listen { address: peer, source };
    let listener = listen_shared(peer).map_err(listen)?;
    let handle = threads.handle(0);
    let _entered = handle.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
    storage_node::open(config, storage, listener, registry)
}

/// Where a node's metrics go.
fn labelled<'a>(registry: &'a mut Registry, config: &Config) -> &'a mut Registry {
    registry.sub_registry_with_label(("node".into(), config.name.clone().into()))
}

/// Listens on `address`, which another socket of this process may have reserved.
fn listen_shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = reserve(address)?;
    socket.listen(PEER_BACKLOG)?;
    Ok(socket.into())
}

/// Binds `address` without listening on it: nobody else gets it as long as the socket lives, and
/// this process can still listen on it.
///
/// # Errors
/// When the address is taken.
pub fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
