//! Where the shared memory's name may be, and whose programs are never replaced.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "unshare(2) can be unsafe for some of its flags")]

mod support;

use ashlar_kernel::Error;
use ashlar_kernel::chaos::{Attachment, Chaos, XdpMode};
use ashlar_kernel::replication::{Programs, Settings, fence};
use ashlar_kernel::testing::{NamespacePair, RIGHT_INTERFACE, Side, ledger};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::{fs, thread};
use support::interfaces::{attached_programs, xdp_program};
use support::replication::{BpfDirectory, GROUP, load, requirements};

const OWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 7_000);
const BPF_DIRECTORY: &str = "/sys/fs/bpf";

fn try_load(pin: &Path) -> Result<Programs, Error> {
    Programs::load(&Settings { own: OWN, groups: vec![GROUP], pin: pin.to_owned() })
}

/// Runs `work` where nobody else sees what it mounts, and where the directory of BPF file systems is an empty one of another.
fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: mounts and paths are unshared only, and by a thread that does nothing else.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("none", BPF_DIRECTORY, "tmpfs", MountFlags::empty(), None).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

#[test]
fn the_file_system_is_mounted_where_it_belongs_if_nothing_else_is_there() {
    let name = "the_file_system_is_mounted_where_it_belongs_if_nothing_else_is_there";
    if !ledger(name, &requirements()) {
        return;
    }
    with_own_mounts(|| {
        let pin = Path::new(BPF_DIRECTORY).join("ashlar/7000/control");
        let programs = try_load(&pin).unwrap();
        assert!(pin.exists());
        drop(programs);
        assert!(!pin.exists());
        drop(try_load(&pin).unwrap());

        unmount(BPF_DIRECTORY, UnmountFlags::DETACH).unwrap();
        fs::write(Path::new(BPF_DIRECTORY).join("somebody's"), "").unwrap();
        let error = try_load(&pin).unwrap_err();
        assert!(matches!(error, Error::NoBpfFileSystem { .. }), "{error}");
        let hint = "(`mount -t bpf bpf /sys/fs/bpf` mounts one)";
        assert!(error.to_string().ends_with(hint), "{error}");
    });
}

#[test]
fn a_name_elsewhere_is_refused_and_one_that_is_taken_stays() {
    let name = "a_name_elsewhere_is_refused_and_one_that_is_taken_stays";
    if !ledger(name, &requirements()) {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let error = try_load(&elsewhere.path().join("control")).unwrap_err();
    assert!(matches!(error, Error::NoBpfFileSystem { .. }), "{error}");
    let error = try_load(Path::new("control")).unwrap_err();
    assert!(matches!(error, Error::Pin { .. }), "{error}");

    let directory = BpfDirectory::mount();
    let programs = load(OWN, directory.pin());
    let error = try_load(&directory.pin()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
    assert!(directory.pin().exists());
    // What is a name of something else is not taken for ours.
    drop(programs);
    fs::create_dir(directory.pin()).unwrap();
    let error = fence(&directory.pin()).unwrap_err();
    assert!(error.to_string().ends_with("cannot open the memory"), "{error}");
}

#[test]
fn replication_does_not_replace_another_xdp_program() {
    if !ledger("replication_does_not_replace_another_xdp_program", &requirements()) {
        return;
    }
    let pair = NamespacePair::create();
    let directory = BpfDirectory::mount();
    let programs = || attached_programs(&pair, Side::Right, RIGHT_INTERFACE);
    let mut replication = load(OWN, directory.pin());
    let chaos = pair.run(Side::Right, || {
        let mut chaos = Chaos::load().unwrap();
        chaos.attach(RIGHT_INTERFACE, Attachment::Xdp(XdpMode::Native)).unwrap();
        chaos
    });
    let other = xdp_program(&pair, Side::Right, RIGHT_INTERFACE);
    let attach = |replication: &mut Programs| {
        pair.run(Side::Right, || replication.attach_xdp(RIGHT_INTERFACE))
    };
    let error = attach(&mut replication).unwrap_err();
    assert!(matches!(error, Error::ForeignXdpProgram { .. }), "{error}");
    assert_eq!(xdp_program(&pair, Side::Right, RIGHT_INTERFACE), other);
    drop(chaos);
    // Answers that a driver of a pair sends are lost without a program at its other end.
    assert_eq!(attach(&mut replication).unwrap(), XdpMode::Generic);
    assert!(matches!(attach(&mut replication).unwrap_err(), Error::AlreadyAttached { .. }));
    pair.run(Side::Right, || replication.attach_tc(RIGHT_INTERFACE)).unwrap();
    assert_eq!(programs(), 2);
    replication.detach_tc();
    assert_eq!(programs(), 1);
    replication.detach_xdp();
    assert_eq!(programs(), 0);
    // The loopback interface has no driver that runs programs.
    let mode = pair.run(Side::Right, || replication.attach_xdp("lo")).unwrap();
    assert_eq!(mode, XdpMode::Generic);
    drop(replication);
    assert_eq!(attached_programs(&pair, Side::Right, "lo"), 0);
}
