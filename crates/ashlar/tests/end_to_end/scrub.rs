//! `ashlar obj scrub` over the data of a store that was stopped.

use crate::harness::{Store, ashlar, content, reason};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Output,
};

/// A store with one large and one small object, stopped.
fn stopped() -> Store {
    let mut store = Store::start();
    assert_eq!(store.curl("/large").put(content(30, 1_000_000)).run().status, 201);
    assert_eq!(store.curl("/small").put("abc").run().status, 201);
    store.process.signal(Signal::TERM);
    assert!(store.process.ended().success());
    store
}

fn scrub(data: &Path, options: &[&str]) -> Output {
    let data = data.to_str().unwrap();
    ashlar(&["obj", "scrub", "--data", data]).args(options).output().unwrap()
}

/// The file of the large object on one storage node.
fn large_body(store: &Store) -> PathBuf {
    let blobs = store.data().join("s2/objects/blobs");
    let directories = fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
    let mut files = directories.flat_map(|path| fs::read_dir(path).unwrap());
    files.next().expect("a large body").unwrap().path()
}

#[test]
fn whole_data_is_found_to_be_whole() {
    let store = stopped();
    let output = scrub(&store.data(), &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let reports: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 3, "one for each storage node");
    for report in reports {
        assert_eq!((&report["versions"], &report["findings_count"]), (&2.into(), &0.into()));
        assert_eq!(
            (&report["inline_bytes"], &report["large_bytes"]),
            (&3.into(), &1_000_000.into())
        );
    }
    // Nothing was changed.
    let store = store.restart();
    assert_eq!(store.curl("/small").run().text(), "abc");
}

#[test]
fn one_changed_byte_is_found() {
    let store = stopped();
    let file = File::options().write(true).open(large_body(&store)).unwrap();
    file.write_all_at(&[!content(30, 1_000_000)[777_777]], 777_777).unwrap();
    let output = scrub(&store.data().join("s2"), &[]);
    assert_eq!(reason(&output), "ashlar: damage was found, in 1 places");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"large\" version "), "{text}");
    assert!(scrub(&store.data().join("s1"), &[]).status.success(), "the other replicas are whole");
}

#[test]
fn data_in_use_and_no_data_are_refused() {
    let store = Store::start();
    let in_use = scrub(&store.data(), &[]);
    assert!(reason(&in_use).contains("s1/objects"), "{}", reason(&in_use));
    let nothing = scrub(&store.scratch(), &[]);
    assert!(reason(&nothing).contains("--data "), "{}", reason(&nothing));
    assert_eq!(store.curl("/a").put("abc").run().status, 201);
}
