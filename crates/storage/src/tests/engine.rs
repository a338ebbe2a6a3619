//! The engine, step by step.

use super::model::{entry, large_body, put_inline, put_large, read_large, receive};
use crate::{
    Batch, Bound, DiskEngine, DiskOptions, Engine, Item, Place, ScanStep, StorageError,
    StoredChange, open_disk, scrub, scrub_dir,
};
use ashlar_object::{Change, Entry, Key, PartitionIndex, StageId, Version};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

const PARTITION: PartitionIndex = PartitionIndex(3);

fn options() -> DiskOptions {
    DiskOptions { cache_bytes: 4 << 20, journal_bytes: 64 << 10, reserve_bytes: 0 }
}

fn open(dir: &Path) -> DiskEngine {
    open_disk(dir, options()).unwrap()
}

fn persist(engine: &DiskEngine, entry: &Entry) {
    let (partition, entry) = (PARTITION, entry.clone());
    let items = vec![Item::Entry { partition, entry }];
    engine.apply(&Batch { items }).unwrap();
}

fn release(engine: &DiskEngine, entry: &Entry) {
    let (partition, entry) = (PARTITION, entry.clone());
    let items = vec![Item::Release { partition, entry }];
    engine.apply(&Batch { items }).unwrap();
}

fn versions(engine: &DiskEngine, key: &str) -> Vec<u64> {
    let key = Key::new(key).unwrap();
    let versions = engine.snapshot().unwrap().versions(&key).unwrap();
    versions.iter().map(|stored| stored.version.0).collect()
}

#[test]
fn an_object_goes_through_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let key = Key::new("a").unwrap();
    assert_eq!(engine.newest(&key).unwrap(), None);

    let first = entry(1, "a", put_inline(b"one"));
    let second = entry(2, "a", put_inline(b"two"));
    persist(&engine, &first);
    persist(&engine, &second);
    assert_eq!(versions(&engine, "a"), [1, 2]);
    release(&engine, &first);
    assert_eq!(versions(&engine, "a"), [1, 2]);
    release(&engine, &second);
    assert_eq!(versions(&engine, "a"), [2]);

    let deletion = entry(3, "a", Change::Delete);
    persist(&engine, &deletion);
    assert_eq!(versions(&engine, "a"), [2, 3]);
    assert_eq!(engine.newest(&key).unwrap().unwrap().meta, None);
    release(&engine, &deletion);
    assert_eq!(versions(&engine, "a"), []);
    assert_eq!(engine.newest(&key).unwrap(), None);
    assert_eq!(engine.recover(PARTITION).unwrap().committed, Version(3));
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let first = entry(1, "a", put_inline(b"one"));
    persist(&engine, &first);
    let snapshot = engine.snapshot().unwrap();
    let second = entry(2, "a", put_inline(b"two"));
    persist(&engine, &second);
    release(&engine, &first);
    release(&engine, &second);

    let key = Key::new("a").unwrap();
    let stored = snapshot.versions(&key).unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(snapshot.inline_body(&key, &stored[0]).unwrap(), "one");
}

#[test]
fn a_scan_seeks_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for (index, key) in ["b", "d/1", "d/2", "d/3", "e", "f"].iter().enumerate() {
        persist(&engine, &entry(index as u64 + 1, key, put_inline(b"x")));
    }
    persist(&engine, &entry(7, "e", put_inline(b"y")));
    let mut seen = Vec::new();
    let snapshot = engine.snapshot().unwrap();
    let mut visit = |key: &Key, versions: &[crate::Stored]| {
        seen.push((key.to_string(), versions.len()));
        match key.as_str() {
            "d/1" => ScanStep::Seek(Bound::after_prefix("d/")),
            "e" => ScanStep::Stop,
            _ => ScanStep::Next,
        }
    };
    snapshot.scan(&Bound::at("c"), &mut visit).unwrap();
    assert_eq!(seen, [("d/1".into(), 1), ("e".into(), 2)]);
}

#[test]
fn a_large_body_lives_as_long_as_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let id = StageId(77);
    assert!(!engine.has_stage(id).unwrap());
    receive(&engine, id);
    assert!(engine.has_stage(id).unwrap());
    let first = entry(1, "a", put_large(id));
    persist(&engine, &first);
    engine.discard_stage(id).unwrap();
    assert_eq!(read_large(&engine, id).unwrap(), large_body(id));

    let stored = &engine.snapshot().unwrap().versions(&Key::new("a").unwrap()).unwrap()[0];
    assert!(matches!(
        stored.change,
        StoredChange::Put { place: Place::Staged(named), .. } if named == id
    ));

    let open_body = engine.open_stage(id).unwrap();
    let second = entry(2, "a", put_inline(b"small"));
    persist(&engine, &second);
    release(&engine, &first);
    assert!(engine.has_stage(id).unwrap());
    release(&engine, &second);
    assert!(!engine.has_stage(id).unwrap());
    assert!(matches!(engine.open_stage(id).map(|_| ()), Err(StorageError::Gone)));
    assert_eq!(open_body.read_at(0, 10).unwrap(), large_body(id)[..10]);
}

#[test]
fn a_body_without_a_write_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    receive(&engine, StageId(1));
    engine.discard_stage(StageId(1)).unwrap();
    engine.discard_stage(StageId(1)).unwrap();
    assert!(!engine.has_stage(StageId(1)).unwrap());

    let mut writer = engine.stage(StageId(2)).unwrap();
    writer.write(b"half of it").unwrap();
    drop(writer);
    assert!(!engine.has_stage(StageId(2)).unwrap());
    assert_eq!(files_in(&dir.path().join("staging")), 0);
}

#[test]
fn a_body_may_arrive_twice_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let id = StageId(5);
    let mut slow = engine.stage(id).unwrap();
    slow.write(&large_body(id)[..100]).unwrap();
    receive(&engine, id);
    slow.write(&large_body(id)[100..]).unwrap();
    slow.finish().unwrap();
    assert_eq!(read_large(&engine, id).unwrap(), large_body(id));
    assert_eq!(files_in(&dir.path().join("staging")), 0);
}

#[test]
fn a_start_removes_what_nothing_names() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    receive(&engine, StageId(1));
    receive(&engine, StageId(2));
    persist(&engine, &entry(1, "a", put_large(StageId(1))));
    drop(engine);
    std::fs::write(dir.path().join("staging/half"), "received").unwrap();

    let found = scrub_dir(dir.path(), options(), &mut |_| {}).unwrap();
    assert_eq!((found.findings_count, found.orphans_count), (0, 1));

    let engine = open(dir.path());
    assert!(engine.has_stage(StageId(1)).unwrap());
    assert!(!engine.has_stage(StageId(2)).unwrap());
    assert_eq!(files_in(&dir.path().join("staging")), 0);
    assert_eq!(scrub(&engine, &mut |_| {}).unwrap().orphans_count, 0);
}

#[test]
fn a_write_without_its_large_body_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (partition, entry) = (PARTITION, entry(1, "a", put_large(StageId(9))));
    let items = vec![Item::Entry { partition, entry }];
    assert!(engine.apply(&Batch { items }).unwrap_err().is_corruption());
    assert_eq!(versions(&engine, "a"), []);
}

#[test]
fn old_bodies_that_nothing_names_are_found() {
    const HOUR: Duration = Duration::from_secs(3600);
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    // Identifiers of one slice, and one of another.
    let [named, old, older, young] = [1, 2, 3, 4].map(|number| StageId(number << 8 | 7));
    let elsewhere = StageId(8);
    for id in [named, old, older, young, elsewhere] {
        receive(&engine, id);
    }
    persist(&engine, &entry(1, "a", put_large(named)));
    for id in [named, old, older, elsewhere] {
        let file = std::fs::File::options().write(true).open(engine.directory().blob_path(id));
        file.unwrap().set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }
    let mut found = engine.unnamed_stages(7, HOUR, 10).unwrap();
    found.sort_unstable();
    assert_eq!(found, [old, older]);
    assert_eq!(engine.unnamed_stages(7, HOUR, 1).unwrap().len(), 1);
    assert_eq!(engine.unnamed_stages(8, HOUR, 10).unwrap(), [elsewhere]);
    assert_eq!(engine.unnamed_stages(9, HOUR, 10).unwrap(), []);
}

#[test]
fn a_full_disk_takes_deletions_only() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let full = DiskOptions { reserve_bytes: u64::MAX, ..options() };
    let engine = open_disk(dir.path(), full).unwrap();
    let put = entry(1, "a", put_inline(b"x"));
    let items = vec![Item::Entry { partition: PARTITION, entry: put }];
    let error = engine.apply(&Batch { items }).unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }));
    assert!(engine.stage(StageId(1)).is_err());
    assert!(!engine.has_space().unwrap());
    persist(&engine, &entry(1, "a", Change::Delete));
}

#[test]
#[should_panic(expected = "a batch breaks its rules")]
fn a_gap_in_the_versions_is_a_bug() {
    let dir = tempfile::tempdir().unwrap();
    persist(&open(dir.path()), &entry(2, "a", put_inline(b"x")));
}

#[test]
fn a_release_that_was_left_undone_is_repeated_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    receive(&engine, StageId(1));
    persist(&engine, &entry(1, "a", put_large(StageId(1))));
    let second = entry(2, "a", put_inline(b"x"));
    persist(&engine, &second);
    let third = entry(3, "b", Change::Delete);
    persist(&engine, &third);
    // The release of the last one alone says that all are committed.
    release(&engine, &third);
    assert_eq!(versions(&engine, "a"), [1, 2]);
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(versions(&engine, "a"), [2]);
    assert!(!engine.has_stage(StageId(1)).unwrap());
}

#[test]
fn lost_metadata_does_not_cost_the_large_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    receive(&engine, StageId(1));
    persist(&engine, &entry(1, "a", put_large(StageId(1))));
    drop(engine);
    std::fs::rename(dir.path().join("metadata.redb"), dir.path().join("saved")).unwrap();
    assert!(open_disk(dir.path(), options()).unwrap_err().is_corruption());
    std::fs::rename(dir.path().join("saved"), dir.path().join("metadata.redb")).unwrap();
    assert!(open(dir.path()).has_stage(StageId(1)).unwrap());
}

#[test]
fn a_lost_journal_is_told() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::remove_file(dir.path().join("journal")).unwrap();
    assert!(open_disk(dir.path(), options()).unwrap_err().is_corruption());
}

fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}
