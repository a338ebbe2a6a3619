//! What can go wrong between user space and the kernel.

use crate::chaos::Hook;
use ashlar_fastpath::steering::MacAddress;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;

/// Why a kernel program could not be loaded, attached, driven or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built on a host without the toolchain for kernel programs.
    #[error(
        "kernel programs are not built in: run scripts/build-kernel-programs.sh, then build again"
    )]
    NotBuiltIn,
    /// The embedded object is not what this code expects: it was built from other sources.
    #[error(
        "the kernel programs' object is unusable: {reason}; run scripts/build-kernel-programs.sh, then build again"
    )]
    UnusableObject {
        /// What is missing or different.
        reason: String,
    },
    /// The kernel did not accept the object's maps.
    #[error("cannot create the kernel programs' maps")]
    CreateMaps(#[source] aya::EbpfError),
    /// The kernel did not accept a program: not permitted, not supported, or refused by the verifier.
    #[error("cannot load the kernel program {program}")]
    LoadProgram {
        /// The program's name in the object.
        program: &'static str,
        /// The kernel's reason, with the verifier's log.
        source: aya::programs::ProgramError,
    },
    /// There is no such network interface in this network namespace.
    #[error("{interface}: no such network interface here")]
    UnknownInterface {
        /// The name that was asked for.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Somebody else's XDP program is attached. It is never replaced.
    #[error(
        "{interface}: another XDP program is attached, and is left alone \
         (`ip link show dev {interface}` names it, `ip link set dev {interface} xdp off` may remove it)"
    )]
    ForeignXdpProgram {
        /// The interface that the program is attached to.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// This instance is attached at this hook already.
    #[error("{hook:?}: already attached to {interface}")]
    AlreadyAttached {
        /// Where the program is attached.
        hook: Hook,
        /// The interface that it is attached to.
        interface: String,
    },
    /// The interface that a program was attached to is gone, and the program with it.
    #[error("{interface}: made anew since the program was attached")]
    InterfaceReplaced {
        /// The interface's name.
        interface: String,
    },
    /// The interface got another address than the one that its program answers to.
    #[error("{interface}: its address changed from {expected} to {found}")]
    AddressChanged {
        /// The interface's name.
        interface: String,
        /// The address when the program was attached.
        expected: MacAddress,
        /// The address now.
        found: MacAddress,
    },
    /// The kernel refused to attach a program.
    #[error("{interface}: cannot attach at {hook:?}{hint}")]
    Attach {
        /// The interface that was asked for.
        interface: String,
        /// Where the program should be attached.
        hook: Hook,
        /// What to try instead; may be empty.
        hint: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("the map {map} cannot be used")]
    Map {
        /// The map's name in the object.
        map: &'static str,
        /// The kernel's reason.
        source: aya::maps::MapError,
    },
    /// The kernel refused to run a program on a given frame.
    #[error("cannot run the kernel program {program} on a frame of {length_bytes} bytes")]
    TestRun {
        /// The program's name in the object.
        program: &'static str,
        /// The frame's length.
        length_bytes: usize,
        /// The kernel's reason.
        source: aya::programs::ProgramError,
    },
    /// The settings contradict themselves.
    #[error("{field}: {reason}")]
    Settings {
        /// Which setting.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something about an interface or a map could not be found out.
    #[error("cannot {operation}")]
    System {
        /// What was asked of the kernel.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The directory for a map's name belongs to no BPF file system, and none could be mounted.
    #[error(
        "{}: no BPF file system is mounted there (`mount -t bpf bpf /sys/fs/bpf` mounts one)",
        directory.display()
    )]
    NoBpfFileSystem {
        /// The directory.
        directory: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A map's name could not be made, opened or removed.
    #[error("{}: cannot {operation}", path.display())]
    Pin {
        /// The name.
        path: PathBuf,
        /// What was asked of the kernel.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A program in the kernel held a group's lock for far longer than one runs.
    #[error("{}: group {group} stays locked", path.display())]
    StaysLocked {
        /// The name of the map with the lock.
        path: PathBuf,
        /// The group's index.
        group: usize,
    },
    /// The steering program neither answered nor refused a request.
    #[error("the steering program did not answer: it ended with action {action}")]
    Unanswered {
        /// What the program told the driver to do with the request.
        action: u32,
    },
}

impl Error {
    /// The error number that the kernel gave, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
            {
                return Some(errno);
            }
            cause = error.source();
        }
        None
    }
}
