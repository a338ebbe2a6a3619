//! The HTTP server that every role uses: listeners, connections, limits, time-outs, drain.
//!
//! HTTP/1.1 and 1.0 themselves are hyper's work. This module gives it connections, one event-loop
//! thread each, and takes them back when a client exceeds its [`Limits`] or the process drains:
//!
//! - [`accept`] listens on every thread and keeps the number of connections within its limit,
//! - [`handshake`] begins one with TLS whose records [`sealed`] then protects,
//! - [`connection`] runs one connection,
//! - [`afterword`] is what its last owner still has to say,
//! - [`client`] is what hyper reads from and writes to, and remembers what the connection waits for,
//! - [`short`] answers simple reads without hyper, where a service can,
//! - [`one_request`] lets hyper see one request of a connection that may move afterwards,
//! - [`exchange`] counts one request and its response, [`metrics`] all of them.

mod accept;
mod afterword;
mod client;
mod connection;
mod exchange;
mod handshake;
mod metrics;
mod one_request;
mod sealed;
mod short;

pub(crate) use accept::{Permit, bind};
pub(crate) use afterword::{Afterword, Late};
pub(crate) use client::ClientStream;
pub(crate) use metrics::ServerMetrics;
pub(crate) use sealed::SealedStream;
#[cfg(feature = "fuzzing")]
pub(crate) use short::fuzz_request;
pub(crate) use short::{RequestHead, ShortAnswer, ShortRequest, Shortcut};

use crate::{
    body::Body,
    config::Limits,
    hand_off::OriginGuard,
    threads::{Shutdown, Threads},
    tls::ServerTls,
};
use ashlar_handoff::protocol::Refusal;
use ashlar_object::NodeIndex;
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
    /// Whether it can move to another node after a request.
    pub(crate) can_move: bool,
    /// What its moves need to know.
    pub(crate) flow: Flow,
}

/// A connection as steering sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Of the flow's entry at steering, as long as this host owns it.
    pub(crate) epoch: u64,
    /// The front end that accepted it, as this process numbers them.
    pub(crate) origin: u16,
    /// Names the connection in the logs of all its owners.
    pub(crate) number: u64,
    /// How often it has moved.
    pub(crate) moves: u32,
    /// Steering may have an entry of it.
    pub(crate) is_known: bool,
    /// It never moves again: an introduction that was not answered may still reach steering.
    pub(crate) is_fixed: bool,
    /// What the client connected to.
    pub(crate) service: SocketAddr,
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
    /// [`Service::call`] must answer.
    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        connection: ConnectionInfo,
    ) -> Option<impl Future<Output = Shortcut> + Send + use<'s, Self>> {
        let _ = (request, connection);
        None::<Ready<Shortcut>>
    }

    /// Whether connections may move to other nodes.
    fn moves(&self) -> bool {
        false
    }

    /// Where a request is to be answered. Asked only about connections that can move.
    fn place(&self, head: &RequestHead<'_>, connection: ConnectionInfo) -> Place {
        let _ = (head, connection);
        Place::Here
    }

    /// Where a connection goes between two requests when this process drains; none if it ends.
    fn refuge(&self, connection: ConnectionInfo) -> Option<Target> {
        let _ = connection;
        None
    }

    /// A connection has ended here.
    fn ended(&self, connection: ConnectionInfo) {
        let _ = connection;
    }

    /// Moves a connection to another node, or gives it back. Asked only about connections that can
    /// move, and only if this service wanted it to.
    fn depart(
        &self,
        departure: Departure,
        connection: ConnectionInfo,
    ) -> impl Future<Output = Result<(), Departure>> + Send {
        let _ = connection;
        std::future::ready(Err(departure))
    }
}

/// Where a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here.
    Here,
    /// On another node, to which the connection moves.
    At(Target),
}

/// Where a connection moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A storage node.
    Storage(NodeIndex),
    /// The front end that it came from.
    Origin,
}

/// A connection that is about to move, between two requests.
pub(crate) struct Departure {
    /// Where it goes.
    pub(crate) target: Target,
    /// The connection. All that was to be sent has been written.
    pub(crate) stream: ClientStream,
    /// What has been read of the requests to come, from the start of one; without TLS.
    pub(crate) received: Vec<u8>,
    /// The client sends no more than that.
    pub(crate) finished: bool,
    /// What its moves need to know; a move that fails may change it.
    pub(crate) flow: Flow,
    /// Whoever brought it here may end it yet.
    pub(crate) afterword: Option<Arc<Afterword>>,
}

/// A connection that has moved here.
pub(crate) struct Arrival {
    pub(crate) stream: ClientStream,
    /// What was read of the requests to come; without TLS.
    pub(crate) received: Vec<u8>,
    /// The client sends no more than that.
    pub(crate) finished: bool,
    pub(crate) connection: ConnectionInfo,
    /// Held by whoever brings it here.
    pub(crate) afterword: Arc<Afterword>,
    /// Tells it to end.
    pub(crate) shutdown: Shutdown,
    /// The right to serve it.
    pub(crate) permit: Permit,
    /// Held until it ends here.
    pub(crate) guard: OriginGuard,
}

/// Serves connections that have moved here.
pub(crate) trait Adopt: Send + Sync {
    /// The right to serve one more connection, if there is room.
    ///
    /// # Errors
    /// Why there is none.
    fn room(&self) -> Result<Permit, Refusal>;

    /// Serves a connection on the event loop that this is called on.
    fn adopt(&self, arrival: Arrival);
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
        let bound = bind(address, threads.count())?;
        let address = bound.address();
        bound.spawn(tls, threads, &self.0);
        Ok(address)
    }

    /// Serves connections that move here. They count against the same limit as those of listeners,
    /// and [`Threads::join`] waits for them.
    pub(crate) fn adopter(&self, threads: &Threads) -> Arc<dyn Adopt> {
        accept::Adopter::spawn(&self.0, threads)
    }
}
