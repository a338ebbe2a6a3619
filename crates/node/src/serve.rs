//! The HTTP server that every role uses: listeners, connections, limits, time-outs, drain.
//!
//! HTTP/1.1 and 1.0 themselves are hyper's work. This module gives it connections, one event-loop
//! thread each, and takes them back when a client exceeds its [`Limits`] or the process drains:
//!
//! - [`accept`] listens on every thread and keeps the number of connections within its limit,
//! - [`connection`] runs one connection,
//! - [`client`] is what hyper reads from and writes to, and remembers what the connection waits for,
//! - [`short`] answers simple reads without hyper, where a service can,
//! - [`exchange`] counts one request and its response.

mod accept;
mod client;
mod connection;
mod exchange;
mod metrics;
mod short;

pub(crate) use metrics::ServerMetrics;
#[cfg(feature = "fuzzing")]
pub(crate) use short::fuzz_request;
pub(crate) use short::{ShortAnswer, ShortRequest};

use crate::{
    body::Body,
    config::Limits,
    threads::{Shutdown, Threads},
    tls::ServerTls,
};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{
    future::{Future, Ready},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

/// What a service knows of how a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// The event-loop thread that it lives on, below [`Threads::count`].
    pub(crate) thread: usize,
    /// When the request's head was there.
    pub(crate) received: Instant,
}

/// Answers requests. A clone serves each connection.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// Answers one request. The future is dropped when the client goes away.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: ConnectionInfo,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Answers a read the short way: from text to text, without hyper. None for a request that
    /// [`Service::call`] must answer; the connection stays with hyper from then on.
    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        connection: ConnectionInfo,
    ) -> Option<impl Future<Output = ShortAnswer> + Send + use<'s, Self>> {
        let _ = (request, connection);
        None::<Ready<ShortAnswer>>
    }
}

/// Listens on `address`, encrypted if there is `tls`, from every thread and answers with `service`.
/// Gives the address, whose port differs if `address` has none.
///
/// When `shutdown` drains, the listener closes, idle connections end, and requests under way have
/// `limits.drain_timeout` to finish; [`Threads::join`] waits for that.
///
/// # Errors
/// When the address cannot be listened on; then nothing has started.
pub(crate) fn spawn_server<S: Service>(
    address: SocketAddr,
    tls: Option<&Arc<ServerTls>>,
    limits: Limits,
    threads: &Threads,
    shutdown: &Shutdown,
    metrics: ServerMetrics,
    service: S,
) -> io::Result<SocketAddr> {
    let server = Server::new(limits, shutdown, metrics, service);
    server.listen(address, tls, threads)
}

/// A service with its limits; several listeners may share them.
pub(crate) struct Server<S>(Arc<accept::Shared<S>>);

impl<S: Service> Server<S> {
    /// A server that listens nowhere yet.
    pub(crate) fn new(
        limits: Limits,
        shutdown: &Shutdown,
        metrics: ServerMetrics,
        service: S,
    ) -> Self {
        Self(Arc::new(accept::Shared::new(limits, shutdown.clone(), metrics, service)))
    }

    /// As [`spawn_server`]. The limit on connections is one for all listeners together.
    ///
    /// # Errors
    /// As [`spawn_server`].
    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        tls: Option<&Arc<ServerTls>>,
        threads: &Threads,
    ) -> io::Result<SocketAddr> {
        let bound = accept::bind(address, threads.count())?;
        let address = bound.address();
        bound.spawn(tls, threads, &self.0);
        Ok(address)
    }
}
