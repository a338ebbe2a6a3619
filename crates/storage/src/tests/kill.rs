//! A process that is killed while it writes loses nothing that it acknowledged.

use super::model::{Model, Workload, receive_all};
use crate::{DiskOptions, Engine as _, open_disk, scrub};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Tells the child where to write and which batch to start with.
const CHILD_VARIABLE: &str = "ASHLAR_STORAGE_TEST_CHILD";
const KILLS: u32 = 12;
/// The longest time that a child goes on after what it has to do.
const DELAY_US_MAX: u64 = 40_000;
const SEED: u64 = 4;

const OPTIONS: DiskOptions =
    DiskOptions { cache_bytes: 1 << 20, journal_bytes: 128 << 10, reserve_bytes: 0 };

/// Not a test by itself: what the other one runs as a child.
#[test]
#[ignore = "run by the other test of this module"]
fn child() {
    let variable = env::var(CHILD_VARIABLE).unwrap();
    let (first, dir) = variable.split_once(':').unwrap();
    let engine = open_disk(Path::new(dir), OPTIONS).unwrap();
    let mut workload = Workload::new(SEED);
    let first: u64 = first.parse().unwrap();
    (0..first).for_each(|_| drop(workload.next_batch()));
    for number in first.. {
        let batch = workload.next_batch();
        receive_all(&engine, &batch);
        engine.apply(&batch).unwrap();
        println!("\nacknowledged {number}");
        std::io::stdout().flush().unwrap();
    }
}

/// Runs a child from batch `first` on, kills it some time after it acknowledged `least` batches,
/// and returns how many are acknowledged in all.
fn write_and_kill(dir: &Path, first: u64, least: u64, delay: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tests::kill::child", "--ignored", "--nocapture"])
        .env(CHILD_VARIABLE, format!("{first}:{}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = first;
    let mut lines = output.lines();
    let mut next = || -> Option<u64> {
        let line = lines.by_ref().map_while(Result::ok);
        line.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).next()
    };
    while acknowledged < first + least {
        acknowledged = next().expect("the child writes until it is killed") + 1;
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it was killed counts too.
    while let Some(number) = next() {
        acknowledged = number + 1;
    }
    acknowledged
}

#[test]
fn a_killed_process_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Pcg64::seed_from_u64(SEED);
    let mut batches = 0;
    for _ in 0..KILLS {
        // Without a least number the child is killed while it starts, or soon after.
        let least = random.random_range(0..4) * 4;
        let delay = Duration::from_micros(random.random_range(0..DELAY_US_MAX));
        let acknowledged = write_and_kill(dir.path(), batches, least, delay);
        let mut workload = Workload::new(SEED);
        (0..acknowledged).for_each(|_| drop(workload.next_batch()));
        let engine = open_disk(dir.path(), OPTIONS).unwrap();
        batches = acknowledged;
        if workload.model != Model::shown_by(&engine).unwrap() {
            // Written and not acknowledged: all of it then.
            workload.next_batch();
            batches += 1;
        }
        workload.model.assert_shown_by(&engine);
        let report = scrub(&engine, &mut |_| {}).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(report.orphans_count, 0);
        assert_eq!(report.large_bodies, workload.model.stages().len() as u64);
        let staged = std::fs::read_dir(dir.path().join("staging")).unwrap();
        assert_eq!(staged.count(), 0);
    }
}
