//! A store's memory does not grow with its objects.

use crate::harness::Store;
use std::fs::File;

/// The size of the object.
const OBJECT_BYTES: u64 = 512 << 20;
/// Well below the object's size, and above what the store keeps for itself: caches, buffers of
/// three storage nodes and a front end.
const RESIDENT_BYTES_MAX: u64 = 200 << 20;

#[test]
fn memory_stays_bounded_while_a_large_object_comes_and_goes() {
    let store = Store::with(&["--storage-nodes", "2", "--replicas", "2"]);
    // A hole takes no time to make.
    let file = store.file("large", b"");
    File::options().write(true).open(&file).unwrap().set_len(OBJECT_BYTES).unwrap();
    let put = store.curl("/large").with(["-T", file.to_str().unwrap()]).run();
    assert_eq!(put.status, 201);
    // `head -c 536870912 /dev/zero | md5sum`
    assert_eq!(put.field("etag"), "\"aa559b4e3523a6c931f08f4df52d58f2\"");
    let got = store.scratch().join("got");
    let get = store.curl("/large").with(["-o", "/dev/null", "-D", got.to_str().unwrap()]);
    assert!(get.completes());
    let head = std::fs::read_to_string(got).unwrap();
    assert!(head.to_lowercase().contains(&format!("content-length: {OBJECT_BYTES}")), "{head}");
    let peak = peak_resident_bytes(store.process.id());
    assert!(peak < RESIDENT_BYTES_MAX, "{} MiB", peak >> 20);
}

/// The most memory that a process ever had.
fn peak_resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
