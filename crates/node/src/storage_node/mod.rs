//! A storage node: an engine, the chain thread, links to peers, and objects over HTTP.

pub(crate) mod chain_thread;
mod content;
mod listing;
mod lookup;
mod owner;
mod read;
mod service;
mod sweep;
#[cfg(test)]
mod tests;
mod upload;
pub(crate) mod views;
mod write;

use crate::{
    config::{Config, EngineKind, Storage},
    peer::{Identity, acceptor::Acceptor, link, tail::TailClient},
    run::NodeError,
};
use ashlar_object::condition::{ConditionError, Conditions};
use ashlar_storage::{DiskEngine, DiskOptions, Engine, StorageError, open_disk};
use chain_thread::ChainHandle;
use http::{HeaderMap, HeaderValue, header};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};
use views::Views;

pub(crate) use owner::Owner;
pub(crate) use read::{HAND_OFF_HEADER, RELAY_MAX_HEADER};
pub(crate) use service::{DiskService, SyntheticService};

/// Large bodies under way at one time.
const UPLOADS_MAX: usize = 1024;

/// What the handlers of a storage node share.
pub(crate) struct Shared {
    /// The role's configuration.
    config: Storage,
    /// Who this node is.
    identity: Arc<Identity>,
    /// Where objects are.
    engine: Arc<dyn Engine>,
    /// The way to the chain thread.
    chain: ChainHandle,
    /// What readers may know of the chains.
    views: Arc<Views>,
    /// The way to the tails' words.
    tails: TailClient,
    /// Room for large bodies under way.
    uploads: Arc<Semaphore>,
    /// What is counted.
    metrics: Arc<Metrics>,
}

/// What a storage node counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Seconds from the start of a sync to its end.
    sync_seconds: Histogram,
    /// Entries and releases that one sync made durable.
    sync_items: Histogram,
    /// Chain messages that found no link or no room.
    messages_dropped: Counter,
    /// Clients that wait for their write's commit.
    writers_waiting: Gauge,
    /// Reads of a key with a write under way, which asked the tail.
    dirty_reads: Counter,
}

impl Metrics {
    fn new(registry: &mut Registry) -> Self {
        let powers =
            |first: f64, count: usize| (0..count).map(move |i| first * 2f64.powi(i as i32));
        let metrics = Self {
            sync_seconds: Histogram::new(powers(0.000_1, 16)),
            sync_items: Histogram::new(powers(1.0, 12)),
            messages_dropped: Counter::default(),
            writers_waiting: Gauge::default(),
            dirty_reads: Counter::default(),
        };
        registry.register(
            "storage_sync_seconds",
            "Duration of a batch's write and sync",
            metrics.sync_seconds.clone(),
        );
        registry.register(
            "storage_sync_items",
            "Entries and releases in one synced batch",
            metrics.sync_items.clone(),
        );
        registry.register(
            "chain_messages_dropped",
            "Chain messages that found no link or no room and will be repeated",
            metrics.messages_dropped.clone(),
        );
        registry.register(
            "chain_writers_waiting",
            "Clients that wait for their write's commit",
            metrics.writers_waiting.clone(),
        );
        registry.register(
            "chain_dirty_reads",
            "Reads that asked the tail because a write of their key was under way",
            metrics.dirty_reads.clone(),
        );
        metrics
    }
}

/// Opens the node's disk, recovers its replicas, and starts chain traffic on the current runtime,
/// whose tasks end with it. `peer` listens for other storage nodes.
pub(crate) fn open(
    config: &Config,
    storage: &Storage,
    peer: TcpListener,
    registry: &mut Registry,
) -> Result<DiskService, NodeError> {
    assert_eq!(storage.engine, EngineKind::Disk);
    let engine = Arc::new(open_when_free(&data_directory(config))?);
    open_on(engine, config, storage, peer, registry)
}

/// As [`open`], on a disk that is open.
fn open_on(
    engine: Arc<dyn Engine>,
    config: &Config,
    storage: &Storage,
    peer: TcpListener,
    registry: &mut Registry,
) -> Result<DiskService, NodeError> {
    let identity = Arc::new(Identity { cluster: config.cluster.clone(), node: storage.index });
    let views = Arc::new(Views::new(config.cluster.map.partitions().len()));
    let metrics = Arc::new(Metrics::new(registry));
    let chain = chain_thread::spawn(
        identity.clone(),
        engine.clone(),
        views.clone(),
        metrics.clone(),
        tokio::runtime::Handle::current(),
    )?;
    let acceptor = Acceptor {
        identity: identity.clone(),
        engine: engine.clone(),
        chain: chain.clone(),
        views: views.clone(),
        links: Arc::default(),
    };
    tokio::spawn(acceptor.run(peer));
    let map = &identity.cluster.map;
    let places = map.partitions().filter_map(|partition| identity.place_in(partition));
    let successors: BTreeSet<_> = places.filter_map(|place| place.successor).collect();
    for successor in successors {
        tokio::spawn(link::maintain(identity.clone(), successor, chain.clone()));
    }
    let tails = TailClient::spawn(&identity);
    tokio::spawn(sweep::sweep(engine.clone(), chain.clone(), sweep::Pace::default()));
    Ok(DiskService::new(Shared {
        config: storage.clone(),
        identity,
        engine,
        chain,
        views,
        tails,
        uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
        metrics,
    }))
}

/// Opens the disk. A process that was killed just now may hold its lock for another moment.
fn open_when_free(data: &Path) -> Result<DiskEngine, StorageError> {
    const ATTEMPTS_MAX: usize = 50;
    const DELAY: Duration = Duration::from_millis(100);
    for _ in 1..ATTEMPTS_MAX {
        match open_disk(data, DiskOptions::default()) {
            Err(StorageError::Locked { .. }) => std::thread::sleep(DELAY),
            result => return result,
        }
    }
    open_disk(data, DiskOptions::default())
}

/// Where the storage node keeps its objects.
pub(crate) fn data_directory(config: &Config) -> PathBuf {
    config.data.clone().expect("the configuration was checked").join("objects")
}

/// Where the storage node listens for HTTP and for its peers.
pub(crate) fn addresses(config: &Config, storage: &Storage) -> (SocketAddr, SocketAddr) {
    let node = &config.cluster.nodes[usize::from(storage.index.0)];
    (node.http, node.peer)
}

/// The conditional fields of a request.
fn conditions(headers: &HeaderMap) -> Result<Conditions, ConditionError> {
    Conditions::parse(
        joined(headers, header::IF_MATCH).as_deref(),
        joined(headers, header::IF_NONE_MATCH).as_deref(),
        joined(headers, header::IF_MODIFIED_SINCE).as_deref(),
        joined(headers, header::IF_UNMODIFIED_SINCE).as_deref(),
    )
}

/// A field's value: that of all its lines in their order (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    // A value that is not text cannot be one of our tags or a date.
    let line = |value: &HeaderValue| value.to_str().unwrap_or("\u{fffd}").to_owned();
    let lines: Vec<_> = headers.get_all(name).iter().map(line).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}
