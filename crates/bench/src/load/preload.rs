//! Runs without a measured window: putting objects in place, and holding idle connections open.

use super::connection::Connection;
use super::failure::Failure;
use super::keys::Population;
use super::limits::allow_connections;
use super::worker::{connect_all, join_all, runtime};
use super::workload::{Operation, Workload};
use super::{LoadError, LoadSpec};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Puts every object of a keyed workload in place. Any failure ends it: the run would measure
/// missing objects.
pub(super) fn preload(spec: &LoadSpec, population: &Population) -> Result<(), LoadError> {
    let Workload::Keyed(keyed) = &spec.workload else {
        return Ok(());
    };
    let (keys, bytes) = (keyed.keys, keyed.size.bytes());
    let context = Rc::new(spec.thread_context(population, 0));
    let connections = spec.connections.min(usize::try_from(keys).unwrap_or(usize::MAX));
    runtime()?.block_on(async {
        let next = Rc::new(Cell::new(0));
        let tasks = (0..connections).map(|number| {
            let mut connection = Connection::new(Rc::clone(&context), number);
            let next = Rc::clone(&next);
            tokio::task::spawn_local(async move {
                while next.get() < keys {
                    let key = next.replace(next.get() + 1);
                    let insert = false;
                    let put = Operation::Write { key, bytes, insert };
                    if connection.perform(put, Instant::now(), None).await.is_err() {
                        // The others see it and stop as well.
                        next.set(keys);
                    }
                }
            })
        });
        join_all(tasks.collect()).await
    })?;
    let failures = context.recorder.totals().failures;
    if failures.total() > 0 {
        return Err(LoadError::Preload(failures.summary()));
    }
    Ok(())
}

/// How long the connections that a server has already broken may take to show it.
const BREAKAGE_TIME: Duration = Duration::from_millis(100);
/// How often [`wait_until_answering`] tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The result of [`hold`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct HoldReport {
    /// Connections that were open, and had been answered once, when holding began.
    pub connections: usize,
    /// Connections that the server had broken when it ended.
    pub broken: usize,
}

/// Opens all connections, makes one request on each, and keeps them open and idle until
/// `while_held` returns.
///
/// # Errors
/// See [`LoadError`]; a request that fails is an error here.
pub fn hold(spec: &LoadSpec, while_held: impl FnOnce()) -> Result<HoldReport, LoadError> {
    spec.check()?;
    allow_connections(spec.connections);
    let population = Population::new(spec.keys());
    preload(spec, &population)?;
    let context = Rc::new(spec.thread_context(&population, 0));
    runtime()?.block_on(async {
        let connected = connect_all(0..spec.connections, &context).await;
        let (connections, _) =
            connected.map_err(|failure| LoadError::Connect(failure.to_string()))?;
        let first = connections.into_iter().map(|mut connection| {
            tokio::task::spawn_local(async move {
                connection.perform_next(Instant::now(), None).await?;
                Ok::<_, Failure>(connection)
            })
        });
        let answered = join_all(first.collect()).await?;
        let answered: Vec<Connection> = answered.into_iter().filter_map(Result::ok).collect();
        let failures = context.recorder.totals().failures;
        if failures.total() > 0 {
            return Err(LoadError::NoAnswer(failures.summary()));
        }
        // Nothing else is to happen meanwhile: it may block the runtime.
        while_held();
        let connections = answered.len();
        let watches =
            answered.into_iter().map(|connection| tokio::task::spawn_local(is_broken(connection)));
        let broken = join_all(watches.collect()).await?;
        Ok(HoldReport { connections, broken: broken.into_iter().filter(|broken| *broken).count() })
    })
}

/// Waits until the target answers one request of the workload well, at each of its addresses, at
/// most `patience`.
///
/// # Errors
/// What the last request met.
pub fn wait_until_answering(spec: &LoadSpec, patience: Duration) -> Result<(), LoadError> {
    spec.check()?;
    if matches!(spec.workload, Workload::Keyed(_)) {
        // Its objects are not there before the preload, which is a trial of its own.
        return Ok(());
    }
    let context = Rc::new(spec.thread_context(&Population::new(spec.keys()), 0));
    runtime()?.block_on(async {
        let deadline = Instant::now() + patience;
        for number in 0..spec.target.addresses.len() {
            let mut connection = Connection::new(Rc::clone(&context), number);
            while let Err(failure) = connection.perform_next(Instant::now(), None).await {
                if Instant::now() >= deadline {
                    return Err(LoadError::Connect(failure.to_string()));
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        Ok(())
    })
}

/// Whether the server has broken an idle connection, or sent something unasked.
async fn is_broken(connection: Connection) -> bool {
    tokio::time::timeout(BREAKAGE_TIME, connection.broken()).await.is_ok()
}
