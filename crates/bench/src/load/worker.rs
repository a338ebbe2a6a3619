//! One generator thread: a runtime of its own and a share of the connections.

use super::connection::{Connection, ThreadContext};
use super::failure::Failure;
use super::pacer::Pacer;
use super::recorder::{Phase, Totals};
use super::schedule::Schedule;
use super::target::TlsFacts;
use super::{Arrival, Event, LoadError, LoadSpec};
use std::io;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

/// The pause of a connection after a failure: a target that refuses at once is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// How the threads of a run agree on when it starts.
pub(super) struct Start {
    /// Passed when every thread has connected, or failed to.
    connected: Barrier,
    /// Why some thread could not connect.
    failure: OnceLock<String>,
    /// When the first thread passed the barrier.
    instant: OnceLock<Instant>,
}

impl Start {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            connected: Barrier::new(threads),
            failure: OnceLock::new(),
            instant: OnceLock::new(),
        }
    }
}

/// The thread's place among the threads, and what it owns.
pub(super) struct Worker<'a> {
    pub(super) spec: &'a LoadSpec,
    /// Counted from 0.
    pub(super) thread: usize,
    pub(super) start: &'a Start,
    /// Thread 0 tells of the window.
    pub(super) events: Option<Sender<Event>>,
}

impl Worker<'_> {
    /// Connects, waits for the other threads, warms up, measures, and returns the counts.
    pub(super) fn run(
        self,
        context: ThreadContext,
    ) -> Result<(Totals, Option<TlsFacts>), LoadError> {
        let context = Rc::new(context);
        let runtime = runtime()?;
        let connected = runtime.block_on(connect_all(self.connections(), &context));
        if let Err(error) = &connected {
            // Another thread's failure is as good as this one's.
            let _ = self.start.failure.set(error.to_string());
        }
        self.start.connected.wait();
        if let Some(failure) = self.start.failure.get() {
            return Err(LoadError::Connect(failure.clone()));
        }
        let (connections, tls) =
            connected.map_err(|error| LoadError::Connect(error.to_string()))?;
        let started = *self.start.instant.get_or_init(Instant::now);
        let unsent = runtime.block_on(self.drive(&context, connections, started))?;
        let mut totals = context.recorder.totals();
        totals.unsent = unsent;
        Ok((totals, tls))
    }

    /// This thread's share of the connections, by their numbers.
    fn connections(&self) -> impl Iterator<Item = usize> + use<> {
        (self.thread..self.spec.connections).step_by(self.spec.threads)
    }

    /// Lets all connections work until the window is over; how many requests were left unsent.
    async fn drive(
        self,
        context: &Rc<ThreadContext>,
        connections: Vec<Connection>,
        started: Instant,
    ) -> Result<u64, LoadError> {
        let window_start = started + self.spec.warm_up;
        let window_end = window_start + self.spec.window;
        let window = tokio::task::spawn_local(keep_window(
            Rc::clone(context),
            self.events,
            window_start,
            self.spec.window,
        ));
        let mut unsent = 0;
        match self.spec.arrival {
            Arrival::Closed => {
                let tasks = connections
                    .into_iter()
                    .map(|connection| spawn_closed(Rc::clone(context), connection));
                join_all(tasks.collect()).await?;
            }
            Arrival::Open { rate_per_second } => {
                let schedule = Schedule::new(rate_per_second, self.thread, self.spec.threads);
                let pacer =
                    Pacer::new(schedule, started, window_end).map_err(LoadError::Runtime)?;
                let pacer = Rc::new(Mutex::new(pacer));
                let tasks = connections.into_iter().map(|connection| {
                    let arrivals = Arrivals { pacer: Rc::clone(&pacer), window_start };
                    spawn_open(Rc::clone(context), connection, arrivals)
                });
                join_all(tasks.collect()).await?;
                unsent = pacer.lock().await.remaining();
            }
        }
        join_all(vec![window]).await?;
        Ok(unsent)
    }
}

/// A runtime for one thread, whose tasks may share what is not thread-safe.
pub(super) fn runtime() -> Result<LocalRuntime, LoadError> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(LoadError::Runtime)
}

/// Opens the connections of these numbers at once; over HTTPS also what the first negotiated.
pub(super) async fn connect_all(
    numbers: impl Iterator<Item = usize>,
    context: &Rc<ThreadContext>,
) -> Result<(Vec<Connection>, Option<TlsFacts>), Failure> {
    let tasks: Vec<_> = numbers
        .map(|number| {
            let mut connection = Connection::new(Rc::clone(context), number);
            tokio::task::spawn_local(async move {
                let tls = connection.connect().await?;
                Ok::<_, Failure>((connection, tls))
            })
        })
        .collect();
    let mut connections = Vec::with_capacity(tasks.len());
    let mut facts = None;
    for task in tasks {
        let (connection, tls) =
            task.await.map_err(|error| Failure::Io(io::Error::other(error)))??;
        connections.push(connection);
        facts = facts.or(tls);
    }
    Ok((connections, facts))
}

/// Waits for tasks; a panic in one is an error of the run.
pub(super) async fn join_all<T>(tasks: Vec<JoinHandle<T>>) -> Result<Vec<T>, LoadError> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        let result = task.await.map_err(|error| LoadError::Runtime(io::Error::other(error)))?;
        results.push(result);
    }
    Ok(results)
}

/// Opens the measured window on time and closes it when it is as long as asked for, even if it
/// was opened late.
async fn keep_window(
    context: Rc<ThreadContext>,
    events: Option<Sender<Event>>,
    window_start: Instant,
    window: Duration,
) {
    let tell = |event| {
        if let Some(events) = &events {
            // Nobody needs to listen.
            let _ = events.send(event);
        }
    };
    sleep_until(window_start.into()).await;
    context.recorder.start_window();
    tell(Event::WindowStarted);
    tokio::time::sleep(window).await;
    context.recorder.end_window();
    tell(Event::WindowEnded);
}

/// Works on one request after the other until the window is over.
fn spawn_closed(context: Rc<ThreadContext>, mut connection: Connection) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        while context.recorder.phase() != Phase::Over {
            if connection.perform_next(Instant::now(), None).await.is_err() {
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    })
}

/// Where the connections of an open loop get their work.
struct Arrivals {
    /// Connections that are free wait here in line.
    pacer: Rc<Mutex<Pacer>>,
    /// Requests due from here on are measured.
    window_start: Instant,
}

/// Works on requests as they become due until the window is over.
fn spawn_open(
    context: Rc<ThreadContext>,
    mut connection: Connection,
    arrivals: Arrivals,
) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        loop {
            let mut pacer = arrivals.pacer.lock().await;
            if context.recorder.phase() == Phase::Over {
                return;
            }
            let Ok(Some(due)) = pacer.next().await else {
                return;
            };
            drop(pacer);
            let due_in_window = due >= arrivals.window_start;
            if connection.perform_next(due, Some(due_in_window)).await.is_err() {
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    })
}
