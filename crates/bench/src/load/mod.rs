//! The load generator.
//!
//! A *closed loop* keeps a number of connections busy, each with one request at a time: it
//! measures what the target can do, and its latencies flatter a target that stalls (while it
//! stalls, nothing is asked of it). An *open loop* has requests due at a fixed rate, whatever the
//! answers do, and counts latency from when a request was due: a stall shows in every request
//! that became due in it.
//!
//! Each thread owns a runtime, a share of the connections and its counters; counters meet when
//! the run is over. Only requests of the measured window count: in the closed loop those answered
//! in it, in the open loop those due in it. Every answer's status and length are checked; its
//! bytes are compared on request.

mod chunked;
mod connection;
mod content;
mod deadline;
mod failure;
mod keys;
mod limits;
mod pacer;
mod preload;
mod recorder;
mod report;
mod response;
mod schedule;
mod target;
mod transport;
mod trust;
mod worker;
mod workload;

pub use failure::{Failure, Failures, FailuresOfKind};
pub use keys::{KeyChoice, ZIPF_EXPONENT};
pub use preload::{HoldReport, hold, wait_until_answering};
pub use report::{LoadReport, Mode};
pub use response::{HEAD_BYTES_MAX, HEADERS_MAX, Malformed, Response, ResponseParser};
pub use schedule::Schedule;
pub use target::{Target, TargetError, TlsFacts};
pub use trust::{Trust, TrustError};
pub use workload::{Keyed, Mix, Named, NotAMix, Workload};

use connection::ThreadContext;
use content::Content;
use keys::Population;
use recorder::{Recorder, Totals};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use worker::{Start, Worker};
use workload::OperationSource;

/// The most connections of a run.
pub const CONNECTIONS_MAX: usize = 20_000;
/// The most threads of a run.
pub const THREADS_MAX: usize = 64;
/// The highest arrival rate of an open loop, in requests a second.
pub const RATE_PER_SECOND_MAX: f64 = 10_000_000.0;

/// A run of the generator.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// Where the load goes.
    pub target: Target,
    /// What is asked for.
    pub workload: Workload,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Connections over all threads: 1 to [`CONNECTIONS_MAX`], at least one for each thread.
    pub connections: usize,
    /// Threads: 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Time under load before the measured window.
    pub warm_up: Duration,
    /// Length of the measured window.
    pub window: Duration,
    /// The longest that a request, or connecting, may take.
    pub timeout: Duration,
    /// Whether received bytes are compared with the object's, not only counted.
    pub verify_content: bool,
    /// Decides which operations are drawn.
    pub seed: u64,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// When the connection's last one is answered.
    Closed,
    /// At a fixed rate over all threads: above 0, at most [`RATE_PER_SECOND_MAX`].
    Open {
        /// Requests a second.
        rate_per_second: f64,
    },
}

/// What happens during a run, for whoever reads other meters at the same moments.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The measured window begins.
    WindowStarted,
    /// The measured window is over.
    WindowEnded,
    /// [`hold`] has all its connections open.
    Holding,
}

/// A line that a generator in another process writes, as JSON.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// The end of [`run`].
    Load(Box<LoadReport>),
    /// The end of [`hold`].
    Hold(HoldReport),
}

/// Why a run has no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A field of the specification is out of its bounds.
    #[error("{field}: {reason}")]
    Spec {
        /// Its name.
        field: &'static str,
        /// Its bounds.
        reason: String,
    },
    /// The target cannot be reached.
    #[error("the target cannot be reached: {0}")]
    Connect(String),
    /// Objects could not be put in place before the run.
    #[error("objects could not be put in place: {0}")]
    Preload(String),
    /// The machine refused a thread, a timer or a runtime.
    #[error("the generator cannot run: {0}")]
    Runtime(#[source] io::Error),
    /// Not one request was answered.
    #[error("no request was answered: {0}")]
    NoAnswer(String),
}

/// Puts objects in place if the workload needs them, warms up, measures, and returns what came
/// out. `on_event` is called as the window opens and closes.
///
/// # Errors
/// See [`LoadError`]. Failed requests are no error but part of the report, unless none succeeded.
pub fn run(spec: &LoadSpec, mut on_event: impl FnMut(Event)) -> Result<LoadReport, LoadError> {
    spec.check()?;
    limits::allow_connections(spec.connections);
    let population = Population::new(spec.keys());
    preload::preload(spec, &population)?;
    let start = Start::new(spec.threads);
    let (sender, events) = mpsc::channel();
    let results = thread::scope(|scope| {
        let mut threads = Vec::with_capacity(spec.threads);
        for thread in 0..spec.threads {
            let worker = Worker {
                spec,
                thread,
                start: &start,
                events: (thread == 0).then(|| sender.clone()),
            };
            let population = &population;
            threads.push(
                scope.spawn(move || worker.run(spec.thread_context(population, thread as u64))),
            );
        }
        drop(sender);
        // Ends when thread 0 has dropped its sender.
        events.iter().for_each(&mut on_event);
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<_>, LoadError>>()
    })?;
    let tls = results.iter().find_map(|(_, tls)| tls.clone());
    let totals = results
        .into_iter()
        .map(|(totals, _)| totals)
        .reduce(|mut all: Totals, other| {
            all.merge(&other);
            all
        })
        .expect("there is at least one thread");
    if totals.requests_in_all == 0 {
        return Err(LoadError::NoAnswer(totals.failures.summary()));
    }
    let mode = match spec.arrival {
        Arrival::Closed => Mode::Closed,
        Arrival::Open { .. } => Mode::Open,
    };
    Ok(LoadReport::new(mode, spec.connections, spec.threads, tls, totals))
}

impl LoadSpec {
    /// Objects that exist before the run.
    fn keys(&self) -> u64 {
        match &self.workload {
            Workload::Keyed(keyed) => keyed.keys,
            Workload::Path(_) | Workload::Synthetic(_) | Workload::Named(_) => 1,
        }
    }

    /// What the connections of a thread share.
    fn thread_context(&self, population: &Population, thread: u64) -> ThreadContext {
        let workload = self.workload.clone();
        let seed = self.seed.wrapping_add(thread);
        let source = OperationSource::new(workload, population, &self.target.authority, seed);
        ThreadContext {
            target: self.target.clone(),
            source: RefCell::new(source),
            content: Content::new(),
            verify_content: self.verify_content,
            timeout: self.timeout,
            recorder: Recorder::new(),
        }
    }

    fn check(&self) -> Result<(), LoadError> {
        let require = |holds: bool, field: &'static str, reason: String| {
            if holds { Ok(()) } else { Err(LoadError::Spec { field, reason }) }
        };
        require(
            (1..=THREADS_MAX).contains(&self.threads),
            "threads",
            format!("must be 1 to {THREADS_MAX}"),
        )?;
        require(
            (self.threads..=CONNECTIONS_MAX).contains(&self.connections),
            "connections",
            format!("must be one for each thread at least, {CONNECTIONS_MAX} at most"),
        )?;
        require(
            !self.window.is_zero(),
            "seconds",
            "the measured window must not be empty".to_owned(),
        )?;
        if let Arrival::Open { rate_per_second } = self.arrival {
            require(
                rate_per_second > 0.0 && rate_per_second <= RATE_PER_SECOND_MAX,
                "rate",
                format!("must be above 0 and at most {RATE_PER_SECOND_MAX} a second"),
            )?;
        }
        match &self.workload {
            Workload::Synthetic(sizes) => {
                require(!sizes.is_empty(), "size", "there must be at least one".to_owned())
            }
            Workload::Named(named) => require(
                !named.names.is_empty() && named.names.iter().all(|name| is_visible(name)),
                "names",
                "must be one at least, of visible ASCII characters".to_owned(),
            ),
            Workload::Keyed(keyed) => {
                require(keyed.keys > 0, "keys", "there must be at least one".to_owned())
            }
            Workload::Path(_) => Ok(()),
        }
    }
}

/// Whether a name can stand in a request's head as it is.
fn is_visible(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}
