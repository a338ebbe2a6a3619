//! One client's connection, from its first byte to its last.

use super::{
    ConnectionInfo, Service,
    accept::{Permit, Shared},
    client::{ClientIo, ClientStream, Progress},
    exchange::Exchange,
    metrics::Kind,
    short::{self, Next},
};
use crate::{config::Limits, threads::Shutdown, timer::LazyTimer, tls::ServerTls};
use http::Request;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// How long a connection that the server ends may keep sending before it is closed: closing it
/// while bytes arrive would reset it, and the reset may overtake the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes that are thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 8 << 20;
/// Bytes thrown away in one go.
const LINGER_CHUNK_BYTES: usize = 16 * 1024;
/// The buffer of a connection's requests, for heads and bodies, and of its responses' heads.
const BUFFER_BYTES: usize = 64 * 1024;

/// How hyper speaks HTTP.
pub(super) fn protocol(limits: &Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        // A client that has sent its last request may close its side and wait for the answer.
        .half_close(true)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES))
        // Time-outs are this module's: one timer for a connection, not one for a request.
        .header_read_timeout(None)
        .writev(true);
    protocol
}

/// Serves a connection that has been accepted.
pub(super) async fn serve<S: Service>(
    stream: TcpStream,
    tls: Option<Arc<ServerTls>>,
    connection: ConnectionInfo,
    server: Arc<Shared<S>>,
    permit: Permit,
) {
    if let Some(stream) = greet(stream, tls, &server).await {
        converse(stream, connection, &server).await;
    }
    drop(permit);
}

/// Encrypts the stream, if it is to be.
async fn greet<S: Service>(
    stream: TcpStream,
    tls: Option<Arc<ServerTls>>,
    server: &Shared<S>,
) -> Option<ClientStream> {
    // Responses are written whole: waiting for more bytes never pays.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the client has gone");
        return None;
    }
    let Some(tls) = tls else {
        return Some(ClientStream::Plain(stream));
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let problem = match timeout(server.limits.header_timeout, handshake).await {
        Ok(Ok(stream)) => return Some(ClientStream::Tls(Box::new(stream))),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".into(),
    };
    tracing::debug!(problem, "a TLS handshake failed");
    server.metrics.counts().handshakes_failed.add(1);
    None
}

/// Answers requests until either side ends the connection.
async fn converse<S: Service>(stream: ClientStream, info: ConnectionInfo, server: &Shared<S>) {
    let progress = Arc::new(Progress::default());
    let mut io = ClientIo::new(stream, Arc::clone(&progress), server.metrics.clone());
    let mut watch = Watch::new(&progress, server.limits);
    let mut draining = pin!(server.shutdown.clone().draining());
    let end = {
        let mut short = pin!(short::serve(&mut io, info, &progress, server));
        let work = |context: &mut Context<'_>| short.as_mut().poll(context);
        attend(work, &mut watch, draining.as_mut(), &server.shutdown).await
    };
    let end = match end {
        Some(Ok(Next::Hyper)) => general(io, info, &progress, &mut watch, draining, server).await,
        Some(end) => {
            drop(io);
            Some(end.map(drop).map_err(Into::into))
        }
        None => None,
    };
    match end {
        Some(result) => {
            if let Err(error) = &result {
                tracing::debug!(%error, peer = %info.peer, "a connection broke");
            }
            let unread = result.is_err() || progress.has_body.load(Relaxed);
            let gone = progress.end_of_stream.load(Relaxed);
            if let Some(stream) = progress.take_parked() {
                part(stream, unread && !gone).await;
            }
        }
        None => {
            tracing::debug!(peer = %info.peer, "a slow client is cut");
            server.metrics.counts().timed_out.add(1);
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Answers requests with hyper. None when the client is too slow.
async fn general<S: Service>(
    io: ClientIo,
    info: ConnectionInfo,
    progress: &Arc<Progress>,
    watch: &mut Watch<'_>,
    draining: Pin<&mut impl Future<Output = ()>>,
    server: &Shared<S>,
) -> Option<Result<(), BoxError>> {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let kind = Kind::of(request.method(), request.uri());
        let (has_body, received) = (!request.body().is_end_stream(), Instant::now());
        let exchange = Exchange::start(kind, has_body, received, progress, &server.metrics);
        let response = server.service.call(request, ConnectionInfo { received, ..info });
        async move { Ok::<_, Infallible>(exchange.answer(response.await)) }
    });
    let mut http = pin!(server.protocol.serve_connection(TokioIo::new(io), service));
    let mut drains = false;
    let work = |context: &mut Context<'_>| {
        if !drains && server.shutdown.is_draining() {
            drains = true;
            // Ends the connection at once if it is idle, else after the response under way.
            http.as_mut().graceful_shutdown();
        }
        http.as_mut().poll(context)
    };
    let end = attend(work, watch, draining, &server.shutdown).await;
    end.map(|result| result.map_err(Into::into))
}

/// Works until that is done, or the client is too slow (none). The work is polled when the drain
/// starts.
async fn attend<T>(
    mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    watch: &mut Watch<'_>,
    mut draining: Pin<&mut impl Future<Output = ()>>,
    shutdown: &Shutdown,
) -> Option<T> {
    let mut expects_drain = false;
    poll_fn(|context| {
        // Polled once, the signal wakes this task when it comes; asking it takes a lock.
        if !expects_drain && !shutdown.is_draining() {
            expects_drain = true;
            let _ = draining.as_mut().poll(context);
        }
        if let Poll::Ready(done) = work(context) {
            return Poll::Ready(Some(done));
        }
        watch.poll(context).map(|()| None)
    })
    .await
}

/// Ends a connection such that what was sent arrives.
async fn part(mut stream: ClientStream, linger: bool) {
    let parting = async {
        if stream.shutdown().await.is_err() || !linger {
            return;
        }
        let mut discarded = 0;
        let mut chunk = vec![0; LINGER_CHUNK_BYTES];
        while discarded < LINGER_BYTES_MAX {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => discarded += bytes,
            }
        }
    };
    // Whether the client was done in time makes no difference.
    let _ = timeout(LINGER_TIMEOUT, parting).await;
}

/// Notices that a client is slower than its limits.
struct Watch<'a> {
    progress: &'a Progress,
    limits: Limits,
    waits_for: WaitsFor,
    timer: LazyTimer,
}

/// What a connection waits for. A new request or another byte taken makes a new wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// The first byte of the request after this many.
    Request(u64),
    /// The rest of the head of the request after this many.
    Head(u64),
    /// The service.
    Service,
    /// The client to take bytes after this many.
    Room(u64),
}

impl<'a> Watch<'a> {
    fn new(progress: &'a Progress, limits: Limits) -> Self {
        Self { progress, limits, waits_for: WaitsFor::Service, timer: LazyTimer::default() }
    }

    /// Ready when the client has been too slow.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let waits_for = WaitsFor::now(self.progress);
        if waits_for != self.waits_for {
            self.waits_for = waits_for;
            let timeout = match waits_for {
                WaitsFor::Request(_) => Some(self.limits.idle_timeout),
                WaitsFor::Head(_) => Some(self.limits.header_timeout),
                // The service has its own time-outs.
                WaitsFor::Service => None,
                WaitsFor::Room(_) => Some(self.limits.stall_timeout),
            };
            self.timer.set(timeout.map(|timeout| Instant::now() + timeout));
        }
        self.timer.poll(context)
    }
}

impl WaitsFor {
    fn now(progress: &Progress) -> Self {
        if progress.write_blocked.load(Relaxed) {
            return Self::Room(progress.written_bytes.load(Relaxed));
        }
        if progress.is_serving() {
            return Self::Service;
        }
        let requests = progress.requests.load(Relaxed);
        if progress.head_bytes.load(Relaxed) {
            Self::Head(requests)
        } else {
            Self::Request(requests)
        }
    }
}
