//! On real files.

use super::{Contents, OWNER, Purpose, ReplicaJournal, model::Workload};
use crate::StorageError;
use ashlar_vr::{Start, Write};
use std::{fs, path::Path};

fn write(dir: &Path, workload: &mut Workload, writes: usize) {
    ReplicaJournal::create(dir, Purpose::New, OWNER).unwrap();
    let (mut journal, _) = ReplicaJournal::open(dir).unwrap();
    for _ in 0..writes {
        let write = workload.next_write();
        workload.model.apply(&write);
        journal.append(&write).unwrap();
        journal.sync().unwrap();
    }
    journal.seal().unwrap();
}

#[test]
fn what_was_written_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("replica");
    let mut workload = Workload::new(11);
    for _ in 0..5 {
        write(&dir, &mut workload, 30);
        let (_, contents) = ReplicaJournal::open(&dir).unwrap();
        assert!(workload.model.is_found(&contents));
    }
    let names = fs::read_dir(&dir).unwrap().count();
    assert_eq!(names, 3, "the lock, a segment and a checkpoint");
}

#[test]
fn a_journal_is_created_once_and_nothing_begins_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data/replication/7");
    let is_missing = |result: Result<_, StorageError>| {
        let error = result.map(|(_, contents): (ReplicaJournal, Contents)| contents).unwrap_err();
        matches!(error, StorageError::NoJournal { path } if path == dir)
    };
    assert!(is_missing(ReplicaJournal::open(&dir)));
    assert!(!dir.exists(), "looking for a journal makes none");
    assert!(ReplicaJournal::create(&dir, Purpose::Join, OWNER).unwrap());
    assert!(!ReplicaJournal::create(&dir, Purpose::New, OWNER).unwrap());
    let (journal, contents) = ReplicaJournal::open(&dir).unwrap();
    assert!(matches!(contents, Contents::Created(Purpose::Join)), "as it was created first");
    assert!(!ReplicaJournal::create(&dir, Purpose::New, OWNER).unwrap(), "it is in use, and there");
    drop(journal);
    let mut workload = Workload::new(3);
    write(&dir, &mut workload, 1);
    assert!(!ReplicaJournal::create(&dir, Purpose::New, OWNER).unwrap());
    let (journal, contents) = ReplicaJournal::open(&dir).unwrap();
    assert!(workload.model.is_found(&contents));
    drop(journal);
    fs::remove_dir_all(&dir).unwrap();
    assert!(is_missing(ReplicaJournal::open(&dir)));
    fs::create_dir(&dir).unwrap();
    assert!(is_missing(ReplicaJournal::open(&dir)), "an empty directory is no journal");
}

#[test]
fn a_journal_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    ReplicaJournal::create(dir.path(), Purpose::New, OWNER).unwrap();
    let (journal, _) = ReplicaJournal::open(dir.path()).unwrap();
    let refused = ReplicaJournal::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    drop(journal);
    ReplicaJournal::open(dir.path()).unwrap();
}

#[test]
fn a_damaged_file_makes_holes_and_files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut workload = Workload::new(2);
    write(dir.path(), &mut workload, 1);
    let (mut journal, _) = ReplicaJournal::open(dir.path()).unwrap();
    let appended = Write::Append(workload.entries((0, 0), 20, 1000));
    workload.model.apply(&appended);
    journal.append(&appended).unwrap();
    journal.sync().unwrap();
    journal.seal().unwrap();
    drop(journal);
    fs::write(dir.path().join("notes"), "x").unwrap();
    fs::write(dir.path().join("segment-1"), "x").unwrap();
    let is_segment = |path: &std::path::PathBuf| path.to_string_lossy().ends_with("-00000000");
    let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = files.into_iter().find(is_segment).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (_, contents) = ReplicaJournal::open(dir.path()).unwrap();
    let Contents::Kept(found) = contents else { panic!("new") };
    assert_eq!(workload.model.assert_found_with_losses(&found, 0), [1, 0]);
    assert!(dir.path().join("notes").exists() && dir.path().join("segment-1").exists());
    // It is what a replica begins with.
    assert!(matches!(Start::Restored(found), Start::Restored(_)));
}
