//! Whenever the power goes, what was synced is there, what was not is there up to some write, and nothing
//! has become a hole.

use super::{
    model::{Model, Workload},
    open,
};
use crate::{
    replica_journal::Contents,
    simulation::{file::Power, folder::SimulatedFolder},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

/// A replica's memory, and what it may find of it.
struct Machine {
    folder: SimulatedFolder,
    workload: Workload,
    /// What may be found, the oldest first.
    possible: Vec<Model>,
    random: Pcg64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self {
            folder: SimulatedFolder::new(Power::for_operations(i64::MAX)),
            workload: Workload::new(seed),
            possible: vec![Model::default()],
            random: Pcg64::seed_from_u64(seed),
        }
    }

    fn lose_power(&mut self, next: Power) {
        self.folder = self.folder.after_power_loss(&mut self.random, next);
    }

    /// Opens the journal; writes at most `writes` times, and until the power goes.
    fn run(&mut self, writes: usize) -> Result<(), crate::StorageError> {
        let (mut journal, contents) = open(&self.folder)?;
        self.take(&contents);
        for _ in 0..writes {
            let write = self.workload.next_write();
            self.possible.extend(self.workload.model.apply(&write));
            journal.append(&write)?;
            match self.random.random_range(0..6) {
                0..3 => {
                    journal.sync()?;
                    self.possible.drain(..self.possible.len() - 1);
                }
                3 => journal.seal()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The workload goes on from what was found.
    fn take(&mut self, contents: &Contents) {
        let found = self.possible.iter().rev().find(|model| model.is_found(contents));
        let Some(found) = found.cloned() else {
            panic!("none of {} but {contents:#?}", self.possible.len());
        };
        self.workload.model = found.clone();
        self.possible = vec![found];
    }

    fn check(&mut self) {
        self.lose_power(Power::for_operations(i64::MAX));
        let (_, contents) = open(&self.folder).unwrap();
        self.take(&contents);
    }
}

#[test]
fn at_any_operation_of_a_short_life() {
    for seed in 0..3 {
        for operations in 1.. {
            let mut is_over = false;
            for losses in 0..4 {
                let mut machine = Machine::new(seed);
                let power = Power::for_operations(operations);
                machine.lose_power(power.clone());
                is_over = machine.run(60).is_ok();
                assert!(is_over || power.is_lost());
                machine.random = Pcg64::seed_from_u64(losses);
                machine.check();
            }
            if is_over {
                assert!(operations > 50, "{operations} operations");
                break;
            }
        }
    }
}

#[test]
fn again_and_again() {
    for seed in 0..40 {
        let mut machine = Machine::new(seed);
        for _ in 0..12 {
            let power = Power::for_operations(machine.random.random_range(1..120));
            machine.lose_power(power.clone());
            assert!(machine.run(200).is_ok() || power.is_lost());
        }
        machine.check();
    }
}

#[test]
fn without_power_losses_everything_is_found() {
    for seed in 0..10 {
        let mut machine = Machine::new(seed);
        for _ in 0..4 {
            machine.run(60).unwrap();
        }
        let (journal, contents) = open(&machine.folder).unwrap();
        machine.take(&contents);
        drop(journal);
        // What was found once stays.
        machine.check();
    }
}

#[test]
fn a_failed_sync_ends_the_writing() {
    let power = Power::for_operations(i64::MAX);
    let folder = SimulatedFolder::new(power.clone());
    let (mut journal, _) = open(&folder).unwrap();
    let mut workload = Workload::new(1);
    journal.append(&workload.next_write()).unwrap();
    // The write has the last of the power.
    power.leave(1);
    assert!(!journal.sync().unwrap_err().is_transient());
    power.leave(i64::MAX);
    let refused = [journal.sync(), journal.seal(), journal.append(&workload.next_write())];
    assert!(refused.iter().all(Result::is_err), "nobody knows what the disk holds");
}
