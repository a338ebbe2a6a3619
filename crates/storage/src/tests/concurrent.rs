//! Readers and a scrub see sound data while batches are applied.

use super::model::{Workload, large_body, receive_all};
use crate::{
    Bound, DiskEngine, DiskOptions, Engine as _, Place, ScanStep, StorageError, Stored,
    StoredChange, open_disk, scrub,
};
use ashlar_object::Key;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

const BATCHES: u32 = 150;

/// Reads all that a snapshot shows; returns how many bodies that was.
fn read_all(engine: &DiskEngine) -> u64 {
    let snapshot = engine.snapshot().unwrap();
    let mut rows: Vec<(Key, Vec<Stored>)> = Vec::new();
    let mut visit = |key: &Key, versions: &[Stored]| {
        rows.push((key.clone(), versions.to_vec()));
        ScanStep::Next
    };
    snapshot.scan(&Bound::default(), &mut visit).unwrap();
    let mut bodies = 0;
    for (key, versions) in rows {
        assert!(versions.is_sorted_by_key(|stored| stored.version));
        for stored in versions {
            let StoredChange::Put { place, .. } = stored.change else {
                continue;
            };
            bodies += 1;
            match place {
                Place::Inline => drop(snapshot.inline_body(&key, &stored).unwrap()),
                Place::Staged(id) => match engine.open_stage(id) {
                    Ok(blob) => {
                        let start = blob.read_at(0, 100).unwrap();
                        assert_eq!(start, large_body(id)[..start.len()]);
                    }
                    // It was released since; the next snapshot does not show it.
                    Err(StorageError::Gone) => {
                        let now = engine.snapshot().unwrap().versions(&key).unwrap();
                        assert!(now.iter().all(|other| other.version != stored.version));
                    }
                    Err(error) => panic!("{key}: {error}"),
                },
            }
        }
    }
    bodies
}

#[test]
fn readers_see_sound_data_while_batches_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { cache_bytes: 1 << 20, journal_bytes: 48 << 10, reserve_bytes: 0 };
    let engine = open_disk(dir.path(), options).unwrap();
    let (done, bodies) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    bodies.fetch_add(read_all(&engine), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(scrub(&engine, &mut |_| {}).unwrap().findings, []);
            }
        });
        let mut workload = Workload::new(11);
        for _ in 0..BATCHES {
            let batch = workload.next_batch();
            receive_all(&engine, &batch);
            engine.apply(&batch).unwrap();
        }
        workload.model.assert_shown_by(&engine);
        done.store(true, Ordering::Relaxed);
    });
    assert!(bodies.into_inner() > 0);
}
