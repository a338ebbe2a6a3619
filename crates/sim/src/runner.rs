//! Many seeds on all cores.

use std::{
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How many finished runs may wait to be looked at.
const RESULTS_MAX: usize = 1024;

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The first seed; the others follow.
    pub seed: u64,
    /// The most runs; without limit if none.
    pub runs_max: Option<u64>,
    /// No run begins later than this after the start.
    pub time_max: Option<Duration>,
    /// How many runs go on at once.
    pub threads: NonZeroUsize,
}

/// Runs `run` for each seed and hands each result to `observe`, in no particular order, until the
/// batch is done or `observe` answers false. Says how many results were observed.
///
/// # Panics
/// When a batch has neither a number of runs nor a time, and when `run` panics.
pub fn run_batch<R: Send>(
    batch: Batch,
    run: impl Fn(u64) -> R + Sync,
    mut observe: impl FnMut(u64, R) -> bool,
) -> u64 {
    assert!(batch.runs_max.is_some() || batch.time_max.is_some(), "a batch must end");
    let started = Instant::now();
    let (taken, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let take = || {
        let timely = batch.time_max.is_none_or(|max| started.elapsed() < max);
        if stop.load(Ordering::Relaxed) || !timely {
            return None;
        }
        let place = taken.fetch_add(1, Ordering::Relaxed);
        let within = batch.runs_max.is_none_or(|max| place < max);
        within.then(|| batch.seed.wrapping_add(place))
    };
    let mut observed = 0;
    thread::scope(|scope| {
        let (sender, results) = mpsc::sync_channel(RESULTS_MAX);
        for _ in 0..batch.threads.get() {
            let (sender, take, run) = (sender.clone(), &take, &run);
            scope.spawn(move || {
                while let Some(seed) = take() {
                    if sender.send((seed, run(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (seed, result) in results {
            if stop.load(Ordering::Relaxed) {
                continue;
            }
            observed += 1;
            if !observe(seed, result) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    observed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(runs_max: Option<u64>, time_max: Option<Duration>) -> Batch {
        let threads = NonZeroUsize::new(3).expect("three is not zero");
        Batch { seed: u64::MAX, runs_max, time_max, threads }
    }

    #[test]
    fn every_seed_is_run_once() {
        let mut seen = Vec::new();
        let count = run_batch(
            batch(Some(100), None),
            |seed| seed.wrapping_add(1),
            |seed, result| {
                assert_eq!(result, seed.wrapping_add(1));
                seen.push(result);
                true
            },
        );
        seen.sort_unstable();
        assert_eq!((count, seen), (100, (0..100).collect()));
    }

    #[test]
    fn a_batch_ends_with_its_time_or_when_told() {
        let no_time = batch(None, Some(Duration::ZERO));
        assert_eq!(run_batch(no_time, |seed| seed, |_, _| true), 0);
        let patient = batch(None, Some(Duration::MAX));
        assert_eq!(run_batch(patient, |seed| seed, |_, _| false), 1);
    }
}
