//! Asking steering, on another host, to point a flow at its owner.
//!
//! Limits first:
//! - A reply may be lost although the request was carried out: after a [`SteeringClientError`], nobody knows what the table says.
//! - Counters come from the wall clock, in nanoseconds. If it is set back between two runs of a node, steering takes the node's
//!   requests for old ones and is silent, until the clock has caught up.
//! - A node has at most [`OUTSTANDING_MAX`] requests under way, over all its clients; others wait for their turn, within their
//!   deadlines.
//! - A client needs the runtime that it was made in to go on.
//!
//! A request is repeated with a new counter until a reply to any of its repetitions comes: operations are absolute and numbered, so
//! this changes nothing more. What is not a reply to a request under way, sealed with the cluster's key, is counted and ignored.

mod outstanding;
mod sender;
#[cfg(test)]
mod tests;

pub use sender::{OUTSTANDING_MAX, SteeringSender};

use ashlar_wire::steering::{CONTROL_FRAME_BYTES, ControlError, Operation, Reply, ResultCode};
use outstanding::{Attempts, Outstanding};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// So long a request waits for its first reply before it is repeated.
pub const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The pauses double up to here.
pub const PAUSE_MAX: Duration = Duration::from_millis(100);

/// So many steering hosts are remembered by the life of their table; with more, all are asked again.
const STEERING_HOSTS_MAX: usize = 1_024;

/// Replies to copies of one request that wait to be looked at.
const REPLIES_MAX: usize = 8;

/// After an error of the socket: so that a lasting one does not keep a processor busy.
const PAUSE_AFTER_RECEIVE_ERROR: Duration = Duration::from_millis(10);

/// Why an operation has no reply.
#[derive(Debug, thiserror::Error)]
pub enum SteeringClientError {
    /// No reply came in time.
    #[error("steering at {steering} gave no answer to {attempts} requests in {deadline:?}")]
    Silent {
        /// Where steering should be.
        steering: SocketAddr,
        /// How often it was asked.
        attempts: u32,
        /// How long.
        deadline: Duration,
    },
    /// The system did not send the request, and did not until the deadline.
    #[error("cannot send to steering at {steering}: {source}")]
    Send {
        /// Where steering should be.
        steering: SocketAddr,
        /// The system's last reason.
        source: io::Error,
    },
}

/// Whether a request is sent again that has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// Again and again.
    UntilAnswered,
    /// There is one copy that could be carried out: when its reply has come, none is under way that could be carried out later.
    Never,
}

/// What a client has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringCounts {
    /// Requests sent, repetitions included.
    pub requests: u64,
    /// Replies that somebody waited for.
    pub replies: u64,
    /// Datagrams with a tag that does not fit the key: made or changed by somebody else.
    pub forged: u64,
    /// Datagrams that are no replies of this version.
    pub malformed: u64,
    /// Replies that nobody waited for (any more): late ones, repeated ones.
    pub unexpected: u64,
}

/// [`SteeringCounts`], as they are counted.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    replies: AtomicU64,
    forged: AtomicU64,
    malformed: AtomicU64,
    unexpected: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One event loop's client of any number of steering hosts. Dropping it ends what it does in the background.
#[derive(Debug)]
pub struct SteeringClient {
    shared: Arc<Shared>,
    receiver: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    /// The node, with its key and its counters.
    sender: Arc<SteeringSender>,
    outstanding: Outstanding,
    /// The life of the table at each steering host, once it was told.
    incarnations: Mutex<HashMap<SocketAddr, u64>>,
    counters: Counters,
}

impl Drop for SteeringClient {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl SteeringClient {
    /// Opens a socket at `local`, whose address family is that of the steering hosts; port 0 lets the system choose. All clients of a
    /// process share the `sender`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn bind(local: SocketAddr, sender: Arc<SteeringSender>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            socket: UdpSocket::bind(local).await?,
            sender,
            outstanding: Outstanding::default(),
            incarnations: Mutex::default(),
            counters: Counters::default(),
        });
        let receiver = tokio::spawn(receive(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, receiver })
    }

    /// Has `operation` carried out by the steering host with this control address. The reply tells the result: it may be a refusal.
    /// `Busy` and `WrongIncarnation` are dealt with here and never returned.
    ///
    /// # Errors
    /// When no reply came before the deadline. The operation may have been carried out, or may be still.
    ///
    /// # Panics
    /// If the operation's epoch is 0, or its owner's address is not one of a single host.
    pub async fn execute(
        &self,
        steering: SocketAddr,
        operation: Operation,
        deadline: Duration,
        repetition: Repetition,
    ) -> Result<Reply, SteeringClientError> {
        let end = Instant::now() + deadline;
        let silent = |attempts| SteeringClientError::Silent { steering, attempts, deadline };
        let Ok(_turn) = timeout_at(end, self.shared.sender.turn()).await else {
            return Err(silent(0));
        };
        let (reply_to, mut replies) = mpsc::channel(REPLIES_MAX);
        let mut attempts = Attempts::new(&self.shared.outstanding, operation, reply_to);
        let mut pause = FIRST_PAUSE;
        loop {
            // A request about no known table does nothing but ask for it.
            let acts = self.shared.incarnation_at(steering) != 0;
            let sent = self.shared.send(steering, operation, &mut attempts).await;
            let pause_end = (Instant::now() + pause).min(end);
            let is_last = acts && repetition == Repetition::Never;
            let reply_end = if is_last { end } else { pause_end };
            let reply = async {
                loop {
                    let reply = replies.recv().await?;
                    // What an earlier copy was told says nothing about one that may be carried out.
                    if !is_last || attempts.is_latest(&reply) {
                        return Some(reply);
                    }
                }
            };
            if let Ok(Some(reply)) = timeout_at(reply_end, reply).await {
                match reply.result {
                    // Asked again at once.
                    ResultCode::WrongIncarnation if self.shared.learn(steering, reply) => {}
                    ResultCode::WrongIncarnation | ResultCode::Busy => {
                        sleep(pause_end.saturating_duration_since(Instant::now())).await;
                    }
                    _ => return Ok(reply),
                }
            }
            if Instant::now() >= end {
                return Err(match sent {
                    Ok(()) => silent(attempts.made()),
                    Err(source) => SteeringClientError::Send { steering, source },
                });
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// What was seen so far.
    pub fn counts(&self) -> SteeringCounts {
        let Counters { requests, replies, forged, malformed, unexpected } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SteeringCounts {
            requests: read(requests),
            replies: read(replies),
            forged: read(forged),
            malformed: read(malformed),
            unexpected: read(unexpected),
        }
    }
}

impl Shared {
    /// Sends one repetition of the request.
    async fn send(
        &self,
        steering: SocketAddr,
        operation: Operation,
        attempts: &mut Attempts<'_>,
    ) -> io::Result<()> {
        let request = self.sender.request(self.incarnation_at(steering), operation);
        attempts.add(request.counter);
        count(&self.counters.requests);
        let frame = request.seal(self.sender.key());
        self.socket.send_to(frame.bytes(), steering).await.map(drop)
    }

    /// The life of the table there; 0, which asks for it and does nothing else, if it is not known.
    fn incarnation_at(&self, steering: SocketAddr) -> u64 {
        let known = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&steering).copied().unwrap_or(0)
    }

    /// Whether the reply tells another life of the table than was known.
    fn learn(&self, steering: SocketAddr, reply: Reply) -> bool {
        let mut known = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= STEERING_HOSTS_MAX && !known.contains_key(&steering) {
            known.clear();
        }
        known.insert(steering, reply.incarnation) != Some(reply.incarnation)
    }

    fn take(&self, datagram: &[u8]) {
        let counter = match Reply::open(datagram, self.sender.key()) {
            Ok(reply) if reply.sender != self.sender.id() => &self.counters.unexpected,
            Ok(reply) if self.outstanding.answer(reply) => &self.counters.replies,
            Ok(_) => &self.counters.unexpected,
            Err(ControlError::Forged) => &self.counters.forged,
            Err(ControlError::Malformed) => &self.counters.malformed,
        };
        count(counter);
    }
}

async fn receive(shared: Arc<Shared>) {
    // One byte more than a reply has: a longer datagram must not look like one.
    let mut buffer = [0; CONTROL_FRAME_BYTES + 1];
    loop {
        match shared.socket.recv_from(&mut buffer).await {
            Ok((bytes, _)) => shared.take(&buffer[..bytes]),
            Err(_) => sleep(PAUSE_AFTER_RECEIVE_ERROR).await,
        }
    }
}
