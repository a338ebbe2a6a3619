//! Whenever the power goes, what was acknowledged is there, and of what was not all or nothing.

use super::model::{Model, Workload, receive_all};
use crate::{
    DiskEngine, DiskOptions, Engine as _, StorageError,
    directory::Directory,
    disk::Files,
    scrub,
    simulation::file::{Power, SimulatedFile},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::path::Path;

/// Power losses in each run.
const LOSSES: u32 = 12;
/// The most operations between two.
const OPERATIONS_MAX: i64 = 400;

const OPTIONS: DiskOptions =
    DiskOptions { cache_bytes: 1 << 20, journal_bytes: 48 << 10, reserve_bytes: 0 };

/// One data directory whose metadata is on a simulated disk. Its large bodies are on a real one.
struct Machine<'a> {
    dir: &'a Path,
    metadata: SimulatedFile,
    journal: SimulatedFile,
}

impl Machine<'_> {
    fn start(&self) -> Result<DiskEngine, StorageError> {
        let directory = Directory::open(self.dir, OPTIONS.reserve_bytes)?;
        let files = Files { metadata: self.metadata.clone(), journal: self.journal.clone() };
        let engine = DiskEngine::start(directory, files, OPTIONS, false)?;
        engine.clean_up()?;
        Ok(engine)
    }

    fn lose_power(&mut self, random: &mut Pcg64, next: &Power) {
        self.metadata = self.metadata.after_power_loss(random, next.clone());
        self.journal = self.journal.after_power_loss(random, next.clone());
    }
}

/// Applies batches until the power goes. Returns what the store held without the last batch, which
/// was not acknowledged.
fn write_until_power_loss(engine: &DiskEngine, workload: &mut Workload) -> Model {
    loop {
        let before = workload.model.clone();
        let batch = workload.next_batch();
        receive_all(engine, &batch);
        if engine.apply(&batch).is_err() {
            return before;
        }
    }
}

fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Pcg64::seed_from_u64(seed);
    // Making the store is not what is tested: a new one is renamed into place.
    let mut power = Power::for_operations(i64::MAX);
    let mut machine = Machine {
        dir: dir.path(),
        metadata: SimulatedFile::new(power.clone()),
        journal: SimulatedFile::new(power.clone()),
    };
    drop(machine.start().unwrap());
    let mut workload = Workload::new(seed);
    let mut unacknowledged: Option<Model> = None;
    for _ in 0..LOSSES {
        let next = Power::for_operations(random.random_range(1..OPERATIONS_MAX));
        machine.lose_power(&mut random, &next);
        power = next;
        // The power may go again while the engine starts.
        let Ok(engine) = machine.start() else {
            assert!(power.is_lost());
            continue;
        };
        check(&engine, &mut workload, unacknowledged.as_ref());
        unacknowledged = Some(write_until_power_loss(&engine, &mut workload));
    }
    machine.lose_power(&mut random, &Power::for_operations(i64::MAX));
    check(&machine.start().unwrap(), &mut workload, unacknowledged.as_ref());
}

/// The engine shows all batches that were acknowledged, and the one that was not wholly or not at
/// all. The workload goes on from what it shows.
fn check(engine: &DiskEngine, workload: &mut Workload, unacknowledged: Option<&Model>) {
    let shown = Model::shown_by(engine).unwrap();
    if Some(&shown) == unacknowledged {
        workload.model = shown;
    }
    workload.model.assert_shown_by(engine);
    let report = scrub(engine, &mut |_| {}).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.orphans_count, 0);
}

#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 0..12 {
        run(seed);
    }
}

#[test]
fn a_journal_that_finds_no_space_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let power = Power::for_operations(i64::MAX);
    let machine = Machine {
        dir: dir.path(),
        metadata: SimulatedFile::new(power.clone()),
        journal: SimulatedFile::new(power),
    };
    let engine = machine.start().unwrap();
    let mut workload = Workload::new(3);
    for full in [false, true, false, true] {
        let before = workload.model.clone();
        let batch = workload.next_batch();
        receive_all(&engine, &batch);
        machine.journal.set_full(full);
        if full {
            let error = engine.apply(&batch).unwrap_err();
            assert!(error.is_transient(), "{error}");
            before.assert_shown_by(&engine);
        }
        machine.journal.set_full(false);
        engine.apply(&batch).unwrap();
        workload.model.assert_shown_by(&engine);
    }
}

#[test]
fn a_failed_sync_ends_the_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Pcg64::seed_from_u64(0);
    let power = Power::for_operations(i64::MAX);
    let mut machine = Machine {
        dir: dir.path(),
        metadata: SimulatedFile::new(power.clone()),
        journal: SimulatedFile::new(power.clone()),
    };
    let engine = machine.start().unwrap();
    let mut workload = Workload::new(5);
    let batch = workload.next_batch();
    receive_all(&engine, &batch);
    // The journal's write has the last of the power.
    power.leave(1);
    assert!(!engine.apply(&batch).unwrap_err().is_transient());
    power.leave(i64::MAX);
    assert!(engine.apply(&batch).is_err(), "nobody knows what the disk holds");
    Model::default().assert_shown_by(&engine);
    drop(engine);
    machine.lose_power(&mut random, &power);
    check(&machine.start().unwrap(), &mut workload, Some(&Model::default()));
}
