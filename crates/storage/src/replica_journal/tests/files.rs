//! On real files.

use super::{Contents, ReplicaJournal, model::Workload};
use crate::StorageError;
use ashlar_vr::{Start, Write};
use std::{fs, path::Path};

fn write(dir: &Path, workload: &mut Workload, writes: usize) {
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
fn a_journal_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, contents) = ReplicaJournal::open(dir.path()).unwrap();
    assert!(matches!(contents, Contents::New));
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
