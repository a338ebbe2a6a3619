//! A journal has one beginning, whenever the power goes.

use super::{Contents, OWNER, Purpose, ReplicaJournal, SEGMENT_BYTES, model::Workload};
use crate::{
    StorageError,
    replica_journal::ids::Ids,
    simulation::{file::Power, folder::SimulatedFolder},
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64;

fn unlimited() -> Power {
    Power::for_operations(i64::MAX)
}

fn open(folder: &SimulatedFolder) -> Result<(ReplicaJournal, Contents), StorageError> {
    ReplicaJournal::open_in(Box::new(folder.clone()), SEGMENT_BYTES, Ids::Random)
}

#[test]
fn it_is_there_as_it_was_created_or_not_at_all() {
    let (mut created, mut missing) = (0, 0);
    for seed in 0..20 {
        for operations in 1.. {
            let power = Power::for_operations(operations);
            let folder = SimulatedFolder::new(power.clone());
            let result = ReplicaJournal::create_in(&folder, (Purpose::Join, OWNER), Ids::Random);
            let is_told = matches!(result, Ok(true));
            assert!(is_told || power.is_lost());
            let random = &mut Pcg64::seed_from_u64(seed);
            let folder = folder.after_power_loss(random, unlimited());
            match open(&folder) {
                Ok((_, Contents::Created(Purpose::Join))) => created += 1,
                Err(StorageError::NoJournal { .. }) => {
                    assert!(!is_told, "what was told to be created is there");
                    missing += 1;
                    // Once more, and nothing of the first attempt is in the way.
                    assert!(
                        ReplicaJournal::create_in(&folder, (Purpose::New, OWNER), Ids::Random)
                            .unwrap()
                    );
                    let (_, contents) = open(&folder).unwrap();
                    assert!(matches!(contents, Contents::Created(Purpose::New)));
                }
                other => panic!("{other:?}"),
            }
            if is_told {
                break;
            }
        }
    }
    assert!(created > 20 && missing > 20, "{created} created, {missing} missing");
}

#[test]
fn it_begins_again_until_a_promise_is_synced_and_never_after() {
    let mut begins = 0;
    for seed in 0..20 {
        for operations in 1.. {
            let folder = SimulatedFolder::new(unlimited());
            ReplicaJournal::create_in(&folder, (Purpose::Join, OWNER), Ids::Random).unwrap();
            let random = &mut Pcg64::seed_from_u64(seed);
            let power = Power::for_operations(operations);
            let folder = folder.after_power_loss(random, power.clone());
            let mut workload = Workload::new(seed);
            let mut promise = || {
                let (mut journal, _) = open(&folder)?;
                journal.append(&workload.next_write())?;
                journal.sync()
            };
            let is_synced = promise().is_ok();
            assert!(is_synced || power.is_lost());
            let folder = folder.after_power_loss(random, unlimited());
            assert!(
                !ReplicaJournal::create_in(&folder, (Purpose::New, OWNER), Ids::Random).unwrap()
            );
            match open(&folder).unwrap() {
                (_, Contents::Kept(_)) => {}
                (_, Contents::Created(purpose)) => {
                    assert!(!is_synced, "a promise was made");
                    assert_eq!(purpose, Purpose::Join);
                    begins += 1;
                }
            }
            if is_synced {
                break;
            }
        }
    }
    assert!(begins > 20, "{begins}");
}
