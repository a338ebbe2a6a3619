//! What the disk damages is found before anybody gets it.

use super::model::{
    Workload, entry, large_body, put_inline, put_large, read_large, receive, receive_all,
};
use crate::{Batch, DiskEngine, DiskOptions, Engine as _, Item, open_disk, scrub, scrub_dir};
use ashlar_object::{Body, Change, ETag, Key, PartitionIndex, StageId};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::{fs, path::Path};

/// How many bits are flipped in the key-value store, one at a time.
const FLIPS: u32 = 40;

const INLINE: &[u8] = b"the bytes of a small object, which stand nowhere else";
/// A body of several blocks.
const LARGE: StageId = StageId(0xcbcd);

fn options() -> DiskOptions {
    DiskOptions { cache_bytes: 1 << 20, journal_bytes: 64 << 10, reserve_bytes: 0 }
}

fn persist(engine: &DiskEngine, version: u64, key: &str, change: Change) {
    let partition = PartitionIndex(0);
    let entry = entry(version, key, change);
    let items = vec![Item::Entry { partition, entry }];
    engine.apply(&Batch { items }).unwrap();
}

/// A store with a small and a large object.
fn fill(dir: &Path) {
    let engine = open_disk(dir, options()).unwrap();
    persist(&engine, 1, "small", put_inline(INLINE));
    receive(&engine, LARGE);
    persist(&engine, 2, "large", put_large(LARGE));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn blob_path(dir: &Path) -> std::path::PathBuf {
    dir.join("blobs/cd").join(LARGE.to_string())
}

/// The keys that a scrub finds damaged.
fn damaged(engine: &DiskEngine) -> Vec<String> {
    let report = scrub(engine, &mut |_| {}).unwrap();
    assert_eq!(report.findings_count, report.findings.len() as u64);
    let keys = report.findings.into_iter();
    keys.map(|finding| finding.key.unwrap().to_string()).collect()
}

#[test]
fn a_flipped_bit_in_a_large_body_is_found() {
    let length = large_body(LARGE).len();
    // In the body's first and last block, in its checksums, in the footer.
    for at in [0, length - 1, length, length + 9, length + 12, length + 20] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        flip(&blob_path(dir.path()), at);
        let engine = open_disk(dir.path(), options()).unwrap();
        let error = read_large(&engine, LARGE).unwrap_err();
        assert!(error.is_corruption() && !error.is_transient(), "{error}");
        assert_eq!(damaged(&engine), ["large"]);
    }
}

#[test]
fn the_sound_blocks_of_a_damaged_body_are_served() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let body = large_body(LARGE);
    assert!(body.len() > 64 * 1024);
    flip(&blob_path(dir.path()), body.len() - 1);
    let engine = open_disk(dir.path(), options()).unwrap();
    let blob = engine.open_stage(LARGE).unwrap();
    assert_eq!(blob.read_at(10, 1000).unwrap(), body[10..1010]);
    assert!(blob.read_at(body.len() as u64 - 2, 1).is_err());
}

#[test]
fn a_large_body_cut_short_or_gone_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let engine = open_disk(dir.path(), options()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(blob_path(dir.path())).unwrap();
    for length in [large_body(LARGE).len() as u64, 3, 0] {
        file.set_len(length).unwrap();
        assert!(read_large(&engine, LARGE).unwrap_err().is_corruption());
        assert_eq!(damaged(&engine), ["large"]);
    }
    fs::remove_file(blob_path(dir.path())).unwrap();
    assert_eq!(damaged(&engine), ["large"]);
}

#[test]
fn a_large_body_under_another_name_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let engine = open_disk(dir.path(), options()).unwrap();
    receive(&engine, StageId(0xcd));
    fs::rename(dir.path().join("blobs/cd").join(StageId(0xcd).to_string()), blob_path(dir.path()))
        .unwrap();
    assert!(read_large(&engine, LARGE).unwrap_err().is_corruption());
}

#[test]
fn a_flipped_bit_in_a_small_body_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let path = dir.path().join("metadata.redb");
    let bytes = fs::read(&path).unwrap();
    let copies: Vec<usize> = bytes
        .windows(INLINE.len())
        .enumerate()
        .filter_map(|(at, window)| (window == INLINE).then_some(at))
        .collect();
    assert!(!copies.is_empty());
    // Pages that are not in use any more may hold copies.
    copies.iter().for_each(|at| flip(&path, at + 5));

    let offline = scrub_dir(dir.path(), options(), &mut |_| {}).unwrap();
    assert!(offline.findings_count > 0);
    // The journal still has the body: without it there is nothing to read the body from.
    fs::write(dir.path().join("journal"), "").unwrap();
    let engine = open_disk(dir.path(), options()).unwrap();
    let key = Key::new("small").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let stored = &snapshot.versions(&key).unwrap()[0];
    assert!(snapshot.inline_body(&key, stored).unwrap_err().is_corruption());
    assert!(engine.recover(PartitionIndex(0)).unwrap_err().is_corruption());
    let report = scrub(&engine, &mut |_| {}).unwrap();
    assert!(report.findings.iter().any(|f| f.key.as_ref() == Some(&key)));
}

#[test]
fn an_entity_tag_that_does_not_fit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open_disk(dir.path(), options()).unwrap();
    let Change::Put { mut meta, body } = put_inline(b"right") else {
        panic!("a put");
    };
    meta.etag = ETag([7; 16]);
    let sum_wrong = Change::Put { meta: meta.clone(), body };
    meta.size_bytes = 4;
    let body = Body::Inline("right".into());
    let length_wrong = Change::Put { meta, body };
    persist(&engine, 1, "sum", sum_wrong);
    persist(&engine, 2, "size", length_wrong);
    receive(&engine, LARGE);
    let Change::Put { mut meta, body } = put_large(LARGE) else {
        panic!("a put");
    };
    meta.etag = ETag([7; 16]);
    persist(&engine, 3, "large", Change::Put { meta, body });
    let report = scrub(&engine, &mut |_| {}).unwrap();
    let keys: Vec<_> = report.findings.iter().filter_map(|f| f.key.as_ref()).collect();
    assert_eq!(keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["size", "sum", "large"]);
}

/// A byte that is in use anywhere in the key-value store, its inner pages included: whatever is not
/// found does no harm.
#[test]
fn a_flipped_bit_in_the_key_value_store_is_found_offline() {
    let original = tempfile::tempdir().unwrap();
    let mut workload = Workload::new(2);
    let engine = open_disk(original.path(), options()).unwrap();
    for _ in 0..40 {
        let batch = workload.next_batch();
        receive_all(&engine, &batch);
        engine.apply(&batch).unwrap();
    }
    drop(engine);
    let length = fs::metadata(original.path().join("metadata.redb")).unwrap().len() as usize;
    let mut random = Pcg64::seed_from_u64(0);
    let mut found = 0;
    for _ in 0..FLIPS {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(original.path(), copy.path());
        flip(&copy.path().join("metadata.redb"), random.random_range(0..length));
        let report = scrub_dir(copy.path(), options(), &mut |_| {});
        if report.is_ok_and(|report| report.findings_count == 0) {
            let engine = open_disk(copy.path(), options()).unwrap();
            workload.model.assert_shown_by(&engine);
        } else {
            found += 1;
        }
    }
    assert!(found > 0, "the flips hit nothing");
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
