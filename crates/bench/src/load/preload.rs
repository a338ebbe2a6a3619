//! Runs without a measured window: putting objects in place, and holding idle connections open.

use super::connection::Connection;
use super::failure::{Failure, Failures};
use super::keys::Population;
use super::worker::{connect_all, join_all, runtime};
use super::workload::{Operation, Workload};
use super::{Event, LoadError, LoadSpec};
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
    let connections = spec
        .connections
        .min(usize::try_from(keys).unwrap_or(usize::MAX));
    runtime()?.block_on(async {
        let next = Rc::new(Cell::new(0));
        let tasks = (0..connections).map(|_| {
            let mut connection = Connection::new(Rc::clone(&context));
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

/// The result of [`hold`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct HoldReport {
    /// Connections that were open, and had been answered once, when holding began.
    pub connections: usize,
    /// Connections that the server had broken when it ended.
    pub broken: usize,
    /// Failures on the way there.
    pub failures: Failures,
}

/// Opens all connections, makes one request on each, and keeps them open and idle for the length
/// of the window. `on_event` is called when the holding begins.
///
/// # Errors
/// See [`LoadError`]; a request that fails is an error here.
pub fn hold(spec: &LoadSpec, mut on_event: impl FnMut(Event)) -> Result<HoldReport, LoadError> {
    spec.check()?;
    let population = Population::new(spec.keys());
    preload(spec, &population)?;
    let context = Rc::new(spec.thread_context(&population, 0));
    runtime()?.block_on(async {
        let connected = connect_all(spec.connections, &context).await;
        let (connections, _) =
            connected.map_err(|failure| LoadError::Connect(failure.to_string()))?;
        let first: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                tokio::task::spawn_local(async move {
                    connection.perform_next(Instant::now(), None).await?;
                    Ok::<_, Failure>(connection)
                })
            })
            .collect();
        let answered: Vec<Connection> = join_all(first)
            .await?
            .into_iter()
            .filter_map(Result::ok)
            .collect();
        let failures = context.recorder.totals().failures;
        if failures.total() > 0 {
            return Err(LoadError::NoAnswer(failures.summary()));
        }
        on_event(Event::Holding);
        let held = answered.len();
        let watches = answered
            .into_iter()
            .map(|connection| tokio::task::spawn_local(broke_within(connection, spec.window)));
        let broken = join_all(watches.collect()).await?;
        Ok(HoldReport {
            connections: held,
            broken: broken.into_iter().filter(|broke| *broke).count(),
            failures,
        })
    })
}

/// Whether the server breaks `connection` within `duration`.
async fn broke_within(connection: Connection, duration: Duration) -> bool {
    tokio::time::timeout(duration, connection.broken())
        .await
        .is_ok()
}
