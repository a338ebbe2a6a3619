//! Many objects at once: a bounded number at a time, failures listed, a summary at the end.

use super::show;
use crate::client::CONNECTIONS_MAX;
use anyhow::bail;
use indicatif::ProgressBar;
use serde_json::json;
use std::future::Future;
use tokio::task::{JoinError, JoinSet};

/// After this many failures the rest is not tried: they have one cause.
const FAILURES_MAX: u64 = 100;

/// How many objects are worked on at a time.
#[derive(clap::Args)]
pub(super) struct Jobs {
    /// With --recursive: objects at a time
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u8).range(1..=CONNECTIONS_MAX as i64)
    )]
    jobs: u8,
}

/// How it went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    objects: u64,
    bytes: u64,
    failed: u64,
    /// Not everything was tried.
    gave_up: bool,
}

impl Jobs {
    /// Calls `work` for each of `items` until they end or too many failed. `work` gives the number
    /// of bytes that it moved.
    ///
    /// # Errors
    /// When an item cannot be had. The work that was begun has ended.
    pub(super) async fn run<T, F>(
        &self,
        mut items: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
        work: impl Fn(T) -> F,
    ) -> anyhow::Result<Summary>
    where
        F: Future<Output = anyhow::Result<u64>> + Send + 'static,
    {
        let bar = show::objects_bar();
        let mut summary = Summary::default();
        let mut running = JoinSet::new();
        let ended = loop {
            if running.len() == usize::from(self.jobs)
                && let Some(ended) = running.join_next().await
            {
                summary.note(ended, &bar);
            }
            if summary.failed >= FAILURES_MAX {
                summary.gave_up = true;
                break Ok(());
            }
            match items().await {
                Ok(Some(item)) => drop(running.spawn(work(item))),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        while let Some(ended) = running.join_next().await {
            summary.note(ended, &bar);
        }
        bar.finish_and_clear();
        ended.map(|()| summary)
    }
}

impl Summary {
    fn note(&mut self, ended: Result<anyhow::Result<u64>, JoinError>, bar: &ProgressBar) {
        match ended.map_err(anyhow::Error::from).flatten() {
            Ok(bytes) => {
                self.objects += 1;
                self.bytes += bytes;
            }
            Err(error) => {
                self.failed += 1;
                bar.suspend(|| eprintln!("ashlar: {error:#}"));
            }
        }
        bar.set_message(show::size(self.bytes));
        bar.inc(1);
    }

    /// Prints what was `done`.
    ///
    /// # Errors
    /// When something failed.
    pub(super) fn conclude(self, done: &str, json: bool) -> anyhow::Result<()> {
        let Self { objects, bytes, failed, gave_up } = self;
        if json {
            show::line(json!({"objects": objects, "bytes": bytes, "failed": failed}))?;
        } else if objects > 0 || failed == 0 {
            let objects = show::objects(objects);
            match bytes {
                0 => show::line(format_args!("{done} {objects}"))?,
                _ => show::line(format_args!("{done} {objects}, {}", show::size(bytes)))?,
            }
        }
        match failed {
            0 => Ok(()),
            _ if gave_up => bail!("gave up after {failed} failures"),
            _ => bail!("{failed} of {} failed", objects + failed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    static RUNNING: AtomicUsize = AtomicUsize::new(0);

    async fn run(count: u64, work: fn(u64) -> anyhow::Result<u64>) -> Summary {
        let mut numbers = 0..count;
        let work = |number| async move {
            assert!(RUNNING.fetch_add(1, SeqCst) < 3);
            tokio::task::yield_now().await;
            RUNNING.fetch_sub(1, SeqCst);
            work(number)
        };
        Jobs { jobs: 3 }.run(async || Ok(numbers.next()), work).await.unwrap()
    }

    #[tokio::test]
    async fn a_bounded_number_runs_at_a_time_and_failures_are_counted() {
        let summary = run(20, |n| if n == 7 { bail!("seven") } else { Ok(10) }).await;
        let expected = Summary { objects: 19, bytes: 190, failed: 1, gave_up: false };
        assert_eq!(summary, expected);
        let hopeless = run(10_000, |_| bail!("no store")).await;
        assert!(hopeless.gave_up && hopeless.failed < 2 * FAILURES_MAX);
    }
}
