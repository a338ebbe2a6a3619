//! The HTTP client of the commands: one endpoint, connections that are kept, bounded waiting.
//!
//! - [`endpoint`] says where the store is and whom to believe,
//! - [`body`] is what a request carries,
//! - [`reply`] is what comes back.
//!
//! A request is repeated only where that cannot do harm: a read on a kept connection that turned
//! out to be closed, and whatever the store answered with 503, which says that nothing was done.

mod body;
mod endpoint;
mod reply;

pub(crate) use body::RequestBody;
pub(crate) use endpoint::{ConnectArgs, Endpoint};
pub(crate) use reply::Reply;

use anyhow::{Context, anyhow, bail};
use body::Progress;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::AbortHandle,
    time::{sleep, timeout},
};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may go on without a byte in either direction. The store gives up earlier.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request that the store did not carry out is repeated.
const RETRIES_MAX: u32 = 10;
/// The longest pause that the store may ask for.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// The most requests at the same time, and thus the most connections that are kept.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// A client of one endpoint. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    /// Connections that wait for their next request.
    idle: Mutex<Vec<Connection>>,
}

/// A connection to the endpoint; dropping it closes it.
struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// Whether it has carried a request: the server may have closed it since.
    reused: bool,
    task: AbortHandle,
}

/// A request without its body.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// Path and query, percent-encoded.
    pub(crate) target: String,
    /// Fields besides those of the connection.
    pub(crate) headers: HeaderMap,
}

/// How many more times a request may be repeated.
pub(crate) struct Retries {
    left: u32,
}

impl Client {
    /// A client that connects when it is first used.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { shared: Arc::new(Shared { endpoint, idle: Mutex::default() }) }
    }

    /// Sends a request that has no body; repeats it as [`Retries`] allow.
    ///
    /// # Errors
    /// When there was no answer. An answer of any status is none.
    pub(crate) async fn send(&self, call: &Call) -> anyhow::Result<Reply> {
        let mut retries = Retries::new();
        loop {
            let reply = self.send_once(call, RequestBody::empty()).await?;
            match retries.pause_after(&reply) {
                Some(pause) => sleep(pause).await,
                None => return Ok(reply),
            }
        }
    }

    /// Sends a request once. The caller may repeat it with another body as [`Retries`] allow.
    ///
    /// # Errors
    /// When there was no answer. An answer of any status is none.
    pub(crate) async fn send_once(&self, call: &Call, body: RequestBody) -> anyhow::Result<Reply> {
        let mut body = body;
        loop {
            let mut connection = self.connection().await?;
            let progress = body.progress();
            let request = self.request(call, body)?;
            let failed = match answer(&mut connection, request, &progress).await? {
                Ok(response) => {
                    let lease = Lease { client: self.clone(), connection, progress };
                    return Ok(Reply::new(response, lease));
                }
                Err(failed) => failed,
            };
            body = match failed.unsent {
                Some(unsent) if connection.reused => unsent,
                None if connection.reused && call.method.is_safe() => RequestBody::empty(),
                _ if call.method.is_safe() || failed.is_ours => return Err(failed.error),
                _ => {
                    let unknown = "the connection broke before the answer came: the write may or \
                                   may not have taken effect";
                    return Err(failed.error.context(unknown));
                }
            };
        }
    }

    fn request(&self, call: &Call, body: RequestBody) -> anyhow::Result<Request<RequestBody>> {
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.target.parse().with_context(|| call.target.clone())?;
        *request.headers_mut() = call.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.shared.endpoint.authority());
        let agent = concat!("ashlar/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        Ok(request)
    }

    /// A connection that was kept and is still open, or else a new one.
    async fn connection(&self) -> anyhow::Result<Connection> {
        loop {
            let kept = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = kept else { break };
            if connection.sender.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let endpoint = &self.shared.endpoint;
        match timeout(CONNECT_TIMEOUT, Connection::open(endpoint)).await {
            Ok(connection) => connection.with_context(|| format!("cannot connect to {endpoint}")),
            Err(_) => bail!("cannot connect to {endpoint}: no answer in {CONNECT_TIMEOUT:?}"),
        }
    }

    fn keep(&self, mut connection: Connection) {
        connection.reused = true;
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < CONNECTIONS_MAX {
            idle.push(connection);
        }
    }
}

/// A request that got no answer.
struct Failed {
    /// The body, if nothing of the request was sent.
    unsent: Option<RequestBody>,
    /// The body could not be read: the store got part of it and drops that.
    is_ours: bool,
    error: anyhow::Error,
}

impl Failed {
    fn new(mut failed: TrySendError<Request<RequestBody>>) -> Self {
        let unsent = failed.take_message().map(Request::into_body);
        let error = failed.into_error();
        let is_ours = error.is_user();
        let error = match std::error::Error::source(&error) {
            Some(reason) if is_ours => anyhow!("{reason}"),
            _ => anyhow!(error),
        };
        Self { unsent, is_ours, error }
    }
}

/// Sends `request` and waits for the head of its answer as long as bytes of its body move.
async fn answer(
    connection: &mut Connection,
    request: Request<RequestBody>,
    progress: &Progress,
) -> anyhow::Result<Result<http::Response<Incoming>, Failed>> {
    let answer = connection.sender.try_send_request(request);
    let mut answer = std::pin::pin!(answer);
    let mut moved_bytes = progress.bytes();
    loop {
        match timeout(STALL_TIMEOUT, answer.as_mut()).await {
            Ok(Ok(response)) => return Ok(Ok(response)),
            Ok(Err(failed)) => return Ok(Err(Failed::new(failed))),
            Err(_) if progress.bytes() == moved_bytes => {
                bail!("no answer in {STALL_TIMEOUT:?}; a write may or may not take effect");
            }
            Err(_) => moved_bytes = progress.bytes(),
        }
    }
}

impl Connection {
    async fn open(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(endpoint.address()).await?;
        stream.set_nodelay(true)?;
        match endpoint.tls() {
            None => Self::speak(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                Self::speak(TokioIo::new(connector.connect(name, stream).await?)).await
            }
        }
    }

    async fn speak<T>(io: T) -> anyhow::Result<Self>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await?;
        // Its errors reach the sender of the request under way.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, reused: false, task: task.abort_handle() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that carries an answer.
struct Lease {
    client: Client,
    connection: Connection,
    progress: Arc<Progress>,
}

impl Lease {
    /// Keeps the connection for another request; the answer has been read to its end.
    fn end(self) {
        // A server may refuse a body that is still on its way: that connection is of no more use.
        if self.progress.is_done() {
            self.client.keep(self.connection);
        }
    }
}

impl Retries {
    /// As many as a command may make for one request.
    pub(crate) fn new() -> Self {
        Self { left: RETRIES_MAX }
    }

    /// How long to wait before the request is sent again; none if it must not be, because it was
    /// carried out, may have been, or has been sent often enough.
    pub(crate) fn pause_after(&mut self, reply: &Reply) -> Option<Duration> {
        if reply.status() != StatusCode::SERVICE_UNAVAILABLE || self.left == 0 {
            return None;
        }
        let seconds = reply.header(header::RETRY_AFTER)?.parse().ok()?;
        self.left -= 1;
        Some(Duration::from_secs(seconds).min(RETRY_PAUSE_MAX))
    }
}
