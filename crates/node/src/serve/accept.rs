//! Listeners, one socket for each thread, and the limit on connections.

use super::{Adopt, Arrival, ConnectionInfo, Flow, Service, connection, metrics::ServerMetrics};
use crate::{
    config::Limits,
    hand_off::HERE,
    threads::{Shutdown, Threads},
    tls::ServerTls,
};
use ashlar_handoff::protocol::Refusal;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io, net,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};

/// Connections that the kernel keeps for a thread which does not accept at the moment.
const BACKLOG: i32 = 4096;
/// The pause after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Sockets on one address, one for each thread; the kernel spreads connections over them.
pub(crate) struct Bound {
    address: SocketAddr,
    sockets: Vec<net::TcpListener>,
}

/// Listens on an address with `count` sockets.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Bound> {
    // Sockets that share a port share it with any process of the same user: one that does not
    // share finds out whether somebody listens already.
    drop(socket(address, Port::Own)?);
    let first = socket(address, Port::Shared)?;
    let address = first.local_addr()?.as_socket().expect("an internet socket has such an address");
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(socket(address, Port::Shared)?);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(Bound { address, sockets: sockets.into_iter().map(Into::into).collect() })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Own,
    Shared,
}

fn socket(address: SocketAddr, port: Port) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Bound {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets, one for each thread.
    pub(crate) fn into_sockets(self) -> Vec<net::TcpListener> {
        self.sockets
    }

    /// Accepts on every thread until the drain.
    pub(super) fn spawn<S: Service>(
        self,
        tls: Option<&Arc<ServerTls>>,
        threads: &Threads,
        server: &Arc<Shared<S>>,
    ) {
        for (thread, socket) in self.sockets.into_iter().enumerate() {
            let (server, tls) = (Arc::clone(server), tls.cloned());
            threads.spawn(thread, async move {
                match TcpListener::from_std(socket) {
                    Ok(listener) => Acceptor::new(listener, tls, thread, server).run().await,
                    Err(error) => tracing::error!(%error, "a listener cannot be used"),
                }
            });
        }
    }
}

/// What the connections of a server share.
pub(super) struct Shared<S> {
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: ServerMetrics,
    pub(super) service: S,
    pub(super) protocol: http1::Builder,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
}

impl<S: Service> Shared<S> {
    pub(super) fn new(
        limits: Limits,
        shutdown: Shutdown,
        metrics: ServerMetrics,
        service: S,
    ) -> Self {
        Self {
            limits,
            shutdown,
            metrics,
            service,
            protocol: connection::protocol(&limits),
            permits: Arc::new(Semaphore::new(limits.connections_max)),
        }
    }
}

/// The right to have a connection open; held as long as it is.
pub(crate) struct Permit {
    metrics: ServerMetrics,
    _permit: OwnedSemaphorePermit,
    /// The acceptor waits until all clones are gone.
    _open: mpsc::Sender<()>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.counts().connections.dec();
    }
}

/// Serves connections that move here.
pub(super) struct Adopter<S> {
    server: Arc<Shared<S>>,
    /// Present until the drain.
    open: Arc<Mutex<Option<mpsc::Sender<()>>>>,
}

impl<S: Service> Adopter<S> {
    pub(super) fn spawn(server: &Arc<Shared<S>>, threads: &Threads) -> Arc<Self> {
        let (sender, mut closed) = mpsc::channel(1);
        let open = Arc::new(Mutex::new(Some(sender)));
        let (shared, until_drain) = (Arc::clone(server), Arc::clone(&open));
        threads.spawn(0, async move {
            shared.shutdown.clone().draining().await;
            drop(until_drain.lock().unwrap_or_else(PoisonError::into_inner).take());
            // What is left then is cut with the event loops.
            let _ = timeout(shared.limits.drain_timeout, closed.recv()).await;
        });
        Arc::new(Self { server: Arc::clone(server), open })
    }
}

impl<S: Service> Adopt for Adopter<S> {
    fn room(&self) -> Result<Permit, Refusal> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let open = open.ok_or(Refusal::Draining)?;
        let permit = Arc::clone(&self.server.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::Full)?;
        self.server.metrics.counts().connections.inc();
        Ok(Permit { metrics: self.server.metrics.clone(), _permit: permit, _open: open })
    }

    fn adopt(&self, arrival: Arrival) {
        tokio::spawn(connection::resume(arrival, Arc::clone(&self.server)));
    }
}

/// Accepts on one thread.
struct Acceptor<S> {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    thread: usize,
    server: Arc<Shared<S>>,
    open: mpsc::Sender<()>,
    closed: mpsc::Receiver<()>,
}

impl<S: Service> Acceptor<S> {
    fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        thread: usize,
        server: Arc<Shared<S>>,
    ) -> Self {
        // Nothing is ever sent.
        let (open, closed) = mpsc::channel(1);
        Self { listener, tls, thread, server, open, closed }
    }

    async fn run(self) {
        let draining = self.server.shutdown.clone().draining().shared();
        loop {
            let accepted = tokio::select! {
                biased;
                () = draining.clone() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => tokio::select! {
                    biased;
                    () = draining.clone() => break,
                    permit = self.permit() => self.serve(stream, peer, permit),
                },
                Err(error) => self.pause(error).await,
            }
        }
        // Closing the listener resets the connections in its queue: they came before the drain.
        while let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() {
            let Some(permit) = self.permit().now_or_never() else {
                break;
            };
            self.serve(stream, peer, permit);
        }
        let Self { listener, server, open, mut closed, .. } = self;
        drop((listener, open));
        if timeout(server.limits.drain_timeout, closed.recv()).await.is_err() {
            tracing::warn!("connections are cut because the drain takes too long");
        }
    }

    /// Waits until another connection may be open.
    async fn permit(&self) -> Permit {
        let counts = self.server.metrics.counts();
        let permits = Arc::clone(&self.server.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                counts.delayed.add(1);
                let permit = permits.acquire_owned().await;
                permit.expect("nobody closes the semaphore")
            }
        };
        counts.connections.inc();
        counts.accepted.add(1);
        Permit { metrics: self.server.metrics.clone(), _permit: permit, _open: self.open.clone() }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: Permit) {
        let (secure, thread) = (self.tls.is_some(), self.thread);
        let (tls, server) = (self.tls.clone(), Arc::clone(&self.server));
        let (received, can_move) = (Instant::now(), server.service.moves());
        let service = stream.local_addr().unwrap_or(peer);
        // Higher than that of any earlier connection of the same addresses.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = now.as_micros() as u64;
        let (is_known, is_fixed) = (false, false);
        let (number, origin, moves) = (epoch, HERE, 0);
        let flow = Flow { epoch, origin, number, moves, is_known, is_fixed, service };
        let info = ConnectionInfo { peer, secure, thread, received, can_move, flow };
        tokio::spawn(connection::serve(stream, tls, info, server, permit));
    }

    /// Some failures of accept concern one connection that is gone; others would repeat at once.
    async fn pause(&self, error: io::Error) {
        let gone = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if !gone.contains(&error.kind()) {
            tracing::warn!(%error, "cannot accept connections");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}
