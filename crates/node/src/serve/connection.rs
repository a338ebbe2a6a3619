//! One client's connection, from its first byte to its last.

use super::{
    Arrival, ConnectionInfo, Departure, Flow, Service, Target,
    accept::{Permit, Shared},
    afterword::Afterword,
    client::{ClientIo, ClientStream, Progress},
    exchange::Exchange,
    handshake,
    metrics::Kind,
    one_request::{Agreement, OneRequest, REST_BYTES_MAX},
    short::{self, Next},
};
use crate::{config::Limits, threads::Shutdown, timer::LazyTimer, tls::ServerTls};
use ashlar_net::repair::unacknowledged_bytes;
use http::{HeaderValue, Request, header::CONNECTION};
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
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// How long a connection that the server ends may keep sending before it is closed: closing it
/// while bytes arrive would reset it, and the reset may overtake the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes that are thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 8 << 20;
/// Bytes thrown away in one go.
const LINGER_CHUNK_BYTES: usize = 16 * 1024;
/// How often a connection that must leave a draining process may fail to move.
const ATTEMPTS_MAX: usize = 5;
/// Between two of these attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at whether a client has acknowledged everything.
const ACKNOWLEDGEMENT_PAUSE: Duration = Duration::from_millis(5);
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

/// Serves a connection that has moved here.
pub(super) async fn resume<S: Service>(arrival: Arrival, server: Arc<Shared<S>>) {
    let Arrival { stream, received, finished, connection, afterword, shutdown, permit, guard } =
        arrival;
    let orders = Orders { afterword: Some(&afterword), shutdown: &shutdown };
    converse(stream, (received, finished), connection, orders, &server).await;
    drop((permit, guard));
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
        let orders = Orders { afterword: None, shutdown: &server.shutdown };
        converse(stream, (Vec::new(), false), connection, orders, &server).await;
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
    let handshake = async {
        if server.service.moves() {
            return handshake::accept(stream, tls.config()).await;
        }
        let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
        Ok(ClientStream::Tls(Box::new(stream)))
    };
    let problem = match timeout(server.limits.header_timeout, handshake).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".into(),
    };
    tracing::debug!(problem, "a TLS handshake failed");
    server.metrics.counts().handshakes_failed.add(1);
    None
}

/// Answers requests until either side ends the connection, or it moves to another node.
///
/// `before` is what was read of it elsewhere, and whether that is all.
async fn converse<S: Service>(
    stream: ClientStream,
    before: (Vec<u8>, bool),
    info: ConnectionInfo,
    orders: Orders<'_>,
    server: &Shared<S>,
) {
    let progress = Arc::new(Progress::default());
    let mut io = ClientIo::new(stream, Arc::clone(&progress), server.metrics.clone());
    io.listen_to(orders.afterword);
    io.unread(before.0);
    io.finish_if(before.1);
    let mut talk = Talk {
        watch: Watch::new(&progress, server.limits),
        orders,
        draining: pin!(orders.shutdown.clone().draining()),
    };
    let mut info = ConnectionInfo { can_move: info.can_move && io.can_move(), ..info };
    // Moves that failed.
    let mut failures = 0;
    let end = loop {
        let next = {
            let mut short = pin!(short::serve(&mut io, info, &progress, orders.shutdown, server));
            talk.attend(|context| short.as_mut().poll(context)).await
        };
        match next {
            Some(Ok(Next::Hyper)) => match general(io, info, &progress, &mut talk, server).await {
                Some(Ok(Some(kept))) => {
                    io = kept;
                    info.can_move = io.can_move();
                }
                end => break end.map(|result| result.map(drop)),
            },
            Some(Ok(Next::Move(target))) => {
                // The record layer may have had something to say that was no response.
                match talk.attend(|context| Pin::new(&mut io).poll_flush(context)).await {
                    Some(Ok(())) => {}
                    end => {
                        drop(io);
                        break end.map(|result| result.map_err(Into::into));
                    }
                }
                match travel(io, target, info, (&progress, orders.afterword), server).await {
                    Some((kept, flow)) => (io, info.flow) = (kept, flow),
                    None => return,
                }
                // The request that could not be taken elsewhere is answered here; but where nothing will be
                // answered for long, what was in the way of the move may be gone in a moment.
                failures += 1;
                let tries_again = failures < ATTEMPTS_MAX && orders.shutdown.is_draining();
                info.can_move = tries_again && io.can_move();
                if info.can_move {
                    sleep(ATTEMPT_PAUSE).await;
                }
            }
            Some(end) => {
                drop(io);
                break Some(end.map(drop).map_err(Into::into));
            }
            None => {
                drop(io);
                break None;
            }
        }
    };
    server.service.ended(info);
    conclude(end, info, orders, &progress, server).await;
}

/// Moves a connection to another node. Gives it back if it stays.
async fn travel<S: Service>(
    mut io: ClientIo,
    target: Target,
    info: ConnectionInfo,
    (progress, afterword): (&Arc<Progress>, Option<&Arc<Afterword>>),
    server: &Shared<S>,
) -> Option<(ClientIo, Flow)> {
    // The image shall have them. If they cannot be had, the connection is cut, and does not move.
    let _ = io.receive_late();
    // The kernel of an earlier owner saw the end; nobody here may have read up to it.
    let finished = io.is_finished() || progress.end_of_stream.load(Relaxed);
    let received = io.take_unread();
    let (stream, flow) = (io.into_stream(), info.flow);
    let heard = afterword.cloned();
    let departure = Departure { target, stream, received, finished, flow, afterword: heard };
    let back = server.service.depart(departure, info).await.err()?;
    let mut io = ClientIo::new(back.stream, Arc::clone(progress), server.metrics.clone());
    io.listen_to(afterword);
    io.unread(back.received);
    io.finish_if(back.finished);
    if back.flow.is_fixed {
        io.fix();
    }
    Some((io, back.flow))
}

/// Ends a connection that ended by itself, well or not, or was cut (none).
async fn conclude<S: Service>(
    end: Option<Result<(), BoxError>>,
    info: ConnectionInfo,
    orders: Orders<'_>,
    progress: &Progress,
    server: &Shared<S>,
) {
    match end {
        Some(result) => {
            if let Err(error) = &result {
                tracing::debug!(%error, peer = %info.peer, "a connection broke");
            }
            let unread = result.is_err() || progress.has_body.load(Relaxed);
            let gone = progress.end_of_stream.load(Relaxed);
            if let Some(mut stream) = progress.take_parked() {
                part(&mut stream, unread && !gone).await;
                if orders.shutdown.is_draining() {
                    acknowledged(&stream).await;
                }
            }
        }
        None if orders.afterword.is_some_and(|it| it.is_cut()) => {
            tracing::info!(peer = %info.peer, "a connection is reset that lost bytes on its move");
            if let Some(stream) = progress.take_parked() {
                stream.reset();
            }
        }
        None => {
            tracing::debug!(peer = %info.peer, "a slow client is cut");
            server.metrics.counts().timed_out.add(1);
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Answers requests with hyper: one, if the connection can move after it and is given back then,
/// else all that come. None when the client is too slow.
async fn general<S: Service>(
    io: ClientIo,
    info: ConnectionInfo,
    progress: &Arc<Progress>,
    talk: &mut Talk<'_, impl Future<Output = ()>>,
    server: &Shared<S>,
) -> Option<Result<Option<ClientIo>, BoxError>> {
    let agreement = io.head_bytes(&server.limits).filter(|_| io.can_move()).map(Agreement::new);
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let body = request.body();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        if let Some(agreement) = &agreement {
            // Hyper calls this before it reads on behind the head.
            agreement.parsed(length);
        }
        let is_short = length.is_some_and(|length| length <= REST_BYTES_MAX);
        let kind = Kind::of(request.method(), request.uri());
        let (has_body, received) = (!request.body().is_end_stream(), Instant::now());
        let exchange = Exchange::start(kind, has_body, received, progress, &server.metrics);
        let response = server.service.call(request, ConnectionInfo { received, ..info });
        let agreement = agreement.clone();
        async move {
            let mut response = response.await;
            let status = response.status();
            let is_refused = status.is_client_error() || status.is_server_error();
            let is_short = agreement.map_or(is_short, |agreement| agreement.is_nearly_read());
            if has_body && is_refused && !is_short {
                // What follows a body that nobody reads cannot be found.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(exchange.answer(response))
        }
    });
    // Hyper ends a connection on which it has not read a request: what came already must be read first.
    let (begun, requests) = (io.has_unread(), progress.requests.load(Relaxed));
    let (mut drains, shutdown) = (false, talk.orders.shutdown);
    let mut starts_drain = || {
        let is_read = !begun || progress.requests.load(Relaxed) > requests;
        let starts = !drains && is_read && shutdown.is_draining();
        drains |= starts;
        starts
    };
    let Some(agreement) = &agreement else {
        let mut http = pin!(server.protocol.serve_connection(TokioIo::new(io), service));
        let end = talk.attend(|context| {
            loop {
                let polled = http.as_mut().poll(context);
                if polled.is_ready() || !starts_drain() {
                    return polled;
                }
                // Ends the connection at once if it is idle, else after the response under way.
                http.as_mut().graceful_shutdown();
            }
        });
        return end.await.map(|result| result.map(|()| None).map_err(Into::into));
    };
    let io = OneRequest { io, agreement: agreement.clone() };
    let mut http = server.protocol.serve_connection(TokioIo::new(io), service);
    let end = talk.attend(|context| {
        loop {
            match Pin::new(&mut http).poll(context) {
                Poll::Pending if agreement.take_flushed() => {}
                // A connection that can go on elsewhere does after this request.
                Poll::Pending
                    if short::refuge(info, shutdown, server).is_none() && starts_drain() =>
                {
                    Pin::new(&mut http).graceful_shutdown();
                }
                polled => return polled,
            }
        }
    });
    let result = match end.await? {
        Ok(()) => {
            let parts = http.into_parts();
            let kept = agreement.is_settled() && parts.read_buf.is_empty();
            Ok(Some(parts.io.into_inner().io).filter(|_| kept))
        }
        Err(error) => Err(error.into()),
    };
    Some(result)
}

/// What runs beside the work on a connection.
struct Talk<'a, D> {
    /// The client's time-outs.
    watch: Watch<'a>,
    orders: Orders<'a>,
    /// Wakes the connection when the drain starts.
    draining: Pin<&'a mut D>,
}

/// What others have to say about a connection.
#[derive(Clone, Copy)]
struct Orders<'a> {
    /// At once, or goes on with bytes that came late.
    afterword: Option<&'a Arc<Afterword>>,
    /// After the present response.
    shutdown: &'a Shutdown,
}

impl<D: Future<Output = ()>> Talk<'_, D> {
    /// Works until that is done, or the client is too slow or the connection is cut (none). The work is polled when the drain
    /// starts.
    async fn attend<T>(&mut self, mut work: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        let mut expects_drain = false;
        poll_fn(|context| {
            // Polled once, the signal wakes this task when it comes; asking it takes a lock.
            if !expects_drain && !self.orders.shutdown.is_draining() {
                expects_drain = true;
                let _ = self.draining.as_mut().poll(context);
            }
            if self.orders.afterword.is_some_and(|it| it.poll(context)) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(done) = work(context) {
                return Poll::Ready(Some(done));
            }
            self.watch.poll(context).map(|()| None)
        })
        .await
    }
}

/// Ends a connection such that what was sent arrives.
async fn part(stream: &mut ClientStream, linger: bool) {
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

/// Waits until the client has acknowledged everything. A front end that drains takes its steering along,
/// and what the client lacks then would never reach it.
async fn acknowledged(stream: &ClientStream) {
    let acknowledged = async {
        // Of a socket that cannot be asked there is nothing to wait for.
        while unacknowledged_bytes(stream.socket()).unwrap_or(0) > 0 {
            sleep(ACKNOWLEDGEMENT_PAUSE).await;
        }
    };
    // A client that is gone acknowledges nothing.
    let _ = timeout(LINGER_TIMEOUT, acknowledged).await;
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
