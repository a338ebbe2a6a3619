//! Memory does not grow with objects: not the store's, not the command's.

use crate::harness::{Process, Store};
use std::fs::File;

/// The size of the object.
const OBJECT_BYTES: u64 = 512 << 20;
/// Well below the object's size, and above what the store keeps for itself: caches, buffers of
/// its storage nodes and its front end.
const STORE_BYTES_MAX: u64 = 200 << 20;
/// The command has a few buffers.
const COMMAND_BYTES_MAX: u64 = 64 << 20;

#[test]
fn memory_stays_bounded_while_a_large_object_comes_and_goes() {
    let store = Store::with(&["--storage-nodes", "2", "--replicas", "2"]);
    // A hole takes no time to make.
    let file = store.file("large", b"");
    File::options().write(true).open(&file).unwrap().set_len(OBJECT_BYTES).unwrap();

    for (args, printed) in [
        (&["put", "large", "large"][..], "created large, 512.00 MiB\n"),
        // The command compares length and MD5.
        (&["get", "large", "/dev/null"], ""),
    ] {
        let command = &mut store.obj(args);
        let mut process = Process::start(command, &store.scratch().join("log"));
        let mut peak = 0;
        let status = process.ended_after(|process| peak = peak_resident_bytes(process).max(peak));
        assert!(status.success(), "{args:?}: {}", process.log());
        assert_eq!(process.rest(), printed);
        assert!(0 < peak && peak < COMMAND_BYTES_MAX, "{args:?}: {} MiB", peak >> 20);
    }
    // `head -c 536870912 /dev/zero | md5sum`
    let head = store.curl("/large").head().run();
    assert_eq!(head.field("etag"), "\"aa559b4e3523a6c931f08f4df52d58f2\"");
    let peak = peak_resident_bytes(store.process.id());
    assert!(0 < peak && peak < STORE_BYTES_MAX, "{} MiB", peak >> 20);
}

/// The most memory that a process ever had; 0 if it has ended.
fn peak_resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}
