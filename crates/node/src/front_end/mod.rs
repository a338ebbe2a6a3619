//! The front end: takes clients' requests and relays each to a storage node that holds the object.
//!
//! - [`service`] receives a request, [`request`] checks it, [`fields`] knows what is relayed,
//! - [`relay`] sends reads to any replica and writes to the head of the chain, [`resume`] continues
//!   a body that breaks off, [`list`] merges listings,
//! - [`health`] knows which storage nodes can be used, [`balance`] which of them to ask, [`cover`]
//!   which of them hold all partitions,
//! - [`upstream`] speaks HTTP with them.

mod balance;
mod cover;
mod fields;
mod health;
mod list;
mod metrics;
mod relay;
mod request;
mod resume;
mod service;
#[cfg(test)]
mod tests;
mod upstream;

pub(crate) use service::{Core, FrontEnd};

use crate::{
    admin::Health,
    config::{Config, FrontEnd as Role, Limits},
    hand_off::{self, HandOff, HandOffError},
    metrics::Registry,
    serve::{Server, ServerMetrics},
    threads::{Shutdown, Threads},
    tls::{CertificateSource, ServerTls, TlsError},
};
#[cfg(feature = "fuzzing")]
pub(crate) use {resume::parse_content_range, upstream::fuzz_response_head};

use health::NodeStates;
use metrics::UpstreamMetrics;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use upstream::{SWEEP_INTERVAL, Upstream};

/// How long the head of a chain may take to answer a write, if this host does not know: well above
/// the time after which storage nodes give up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What an answer may take longer than the storage node's own time-out.
const WRITE_MARGIN: Duration = Duration::from_secs(5);

/// A front end that runs.
pub(crate) struct Started {
    /// Where it listens for HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Where it listens for HTTPS.
    pub(crate) https: Option<SocketAddr>,
    /// Whether enough storage nodes are reachable.
    pub(crate) health: Arc<dyn Health>,
    /// Reads the certificate again, if there is one.
    pub(crate) reload: Option<Reload>,
}

/// Why a front end cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FrontEndError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Connections must move and cannot.
    #[error("front_end.mode: {0}")]
    HandOff(#[from] HandOffError),
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// Reads a front end's certificate again.
pub(crate) struct Reload(Arc<ServerTls>);

impl Reload {
    /// New connections get what the files hold now. If that cannot be used, it is logged and the
    /// old certificate stays.
    pub(crate) fn reload(&self) {
        match self.0.reload() {
            Ok(()) => tracing::info!("the certificate was reloaded"),
            Err(error) => tracing::error!(%error, "the old certificate stays"),
        }
    }
}

/// Starts the front end that `config` describes, on all of `threads`, until `shutdown` drains.
///
/// # Errors
/// When a certificate cannot be used or an address cannot be listened on.
///
/// # Panics
/// When `config` has no front end.
pub(crate) fn start(
    config: &Config,
    threads: &Threads,
    shutdown: &Shutdown,
    registry: &mut Registry,
) -> Result<Started, FrontEndError> {
    let role = config.front_end.as_ref().expect("the configuration has a front end");
    let tls = role.https.map(|address| tls(config, role, address)).transpose()?;
    let hand_off = hand_off::front_end(config, role, threads, registry)?;
    let core = core(config, role.limits, hand_off.clone(), threads, registry);
    let server_metrics = ServerMetrics::new(registry, "front_end");
    let service = FrontEnd(Arc::clone(&core));
    let server = Server::new(role.limits, shutdown, server_metrics, service);
    if let Some(hand_off) = hand_off {
        hand_off.adopt_with(server.adopter(threads), threads, shutdown);
        let limit = role.limits.drain_timeout;
        threads.spawn(0, hand_off.drain_owners(shutdown.clone(), limit));
    }
    let listen = |address: Option<SocketAddr>, tls: Option<&Arc<ServerTls>>| {
        let bound = address.map(|address| {
            let listen = |source| FrontEndError::Listen { address, source };
            server.listen(address, tls, threads).map_err(listen)
        });
        bound.transpose()
    };
    let http = listen(role.http, None)?;
    let https = listen(role.https, tls.as_ref())?;
    look_after(&core, threads);
    let health = Arc::clone(&core.states) as Arc<dyn Health>;
    Ok(Started { http, https, health, reload: tls.map(Reload) })
}

fn tls(config: &Config, role: &Role, address: SocketAddr) -> Result<Arc<ServerTls>, FrontEndError> {
    let source = match &role.certificate {
        Some(files) => CertificateSource::Files(files.clone()),
        None => {
            let data = config.data.as_ref().expect("the configuration was checked for it");
            CertificateSource::SelfSigned { directory: data.join("tls"), address: address.ip() }
        }
    };
    Ok(Arc::new(ServerTls::load(source)?))
}

/// What requests that are relayed share, and those that look after storage nodes.
pub(crate) fn core(
    config: &Config,
    limits: Limits,
    hand_off: Option<Arc<HandOff>>,
    threads: &Threads,
    registry: &mut Registry,
) -> Arc<Core> {
    let cluster = &config.cluster;
    let names = cluster.nodes.iter().map(|node| node.name.as_str());
    let metrics = UpstreamMetrics::new(registry, names);
    let addresses = cluster.nodes.iter().map(|node| node.http).collect();
    let upstream = Arc::new(Upstream::new(addresses, threads.count(), metrics.clone()));
    let commit_timeout = config.storage.as_ref().map(|storage| storage.commit_timeout);
    Arc::new(Core {
        map: cluster.map.clone(),
        upstream,
        states: Arc::new(NodeStates::new(cluster, metrics.clone())),
        metrics,
        limits,
        write_timeout: commit_timeout.map_or(WRITE_TIMEOUT, |timeout| timeout + WRITE_MARGIN),
        hand_off,
    })
}

/// Checks storage nodes and closes idle connections, as long as the threads run.
pub(crate) fn look_after(core: &Arc<Core>, threads: &Threads) {
    for node in core.map.nodes() {
        let thread = usize::from(node.0) % threads.count();
        let (upstream, states) = (Arc::clone(&core.upstream), Arc::clone(&core.states));
        threads.spawn_background(thread, health::watch(node, thread, upstream, states));
    }
    for thread in 0..threads.count() {
        let upstream = Arc::clone(&core.upstream);
        threads.spawn_background(thread, async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                ticks.tick().await;
                upstream.sweep(thread);
            }
        });
    }
}
