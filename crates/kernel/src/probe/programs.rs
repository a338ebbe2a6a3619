//! Kernel programs: what is built in, what the kernel takes.

use super::Finding;
use crate::{embedded, replication};
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType};
use aya::sys::is_program_supported;
use rustix::thread::CapabilitySet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

const PRIVILEGES_HINT: &str = "run as root, or give CAP_BPF and CAP_NET_ADMIN";
const PROGRAMS_HINT: &str =
    "scripts/setup-kernel-toolchain.sh && scripts/build-kernel-programs.sh, then build again";
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
const JIT_PATH: &str = "/proc/sys/net/core/bpf_jit_enable";

pub(super) fn built_in() -> Finding {
    match embedded::chaos() {
        Ok(object) => Finding::yes(format!("{} bytes", object.len())),
        Err(error) => Finding::no(error.to_string(), PROGRAMS_HINT),
    }
}

/// Loads the smallest program of this type and lets it go again.
pub(super) fn type_is_supported(program_type: ProgramType) -> Finding {
    match is_program_supported(program_type) {
        Ok(true) => Finding::yes("a small program was loaded"),
        Ok(false) => Finding::no(
            "the kernel does not know this type",
            "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF",
        ),
        Err(error) => refused(&error, "a kernel with CONFIG_BPF_SYSCALL"),
    }
}

/// Asks what is attached to the loopback interface by TCX: a kernel without TCX does not know the question.
pub(super) fn tcx() -> Finding {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok((_, programs)) => Finding::yes(format!("{} programs on lo", programs.len())),
        Err(error) => refused(&error, "Linux 6.6 or later"),
    }
}

/// Makes the smallest such map and lets it go again.
pub(super) fn mappable_maps() -> Finding {
    match replication::try_mappable_map() {
        Ok(()) => Finding::yes("a small map's memory was mapped"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::unknown(error.to_string(), PRIVILEGES_HINT)
        }
        Err(error) => Finding::no(error.to_string(), "Linux 5.5 or later"),
    }
}

/// Only looks: a replica mounts it when it needs it.
pub(super) fn bpf_file_system() -> Finding {
    const HINT: &str = "mount -t bpf bpf /sys/fs/bpf";
    let directory = replication::BPF_DIRECTORY;
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    let is_empty = || fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    match replication::is_bpf_file_system(Path::new(directory)) {
        Ok(true) => Finding::yes(format!("mounted at {directory}")),
        Ok(false) if may_mount && is_empty() => {
            Finding::yes(format!("a replica that needs it mounts it at {directory}"))
        }
        Ok(false) => Finding::no(format!("not mounted at {directory}"), HINT),
        Err(error) => Finding::no(format!("{directory}: {error}"), HINT),
    }
}

pub(super) fn btf() -> Finding {
    match fs::metadata(BTF_PATH) {
        Ok(metadata) => Finding::yes(format!("{BTF_PATH}, {} KiB", metadata.len() / 1024)),
        Err(error) => Finding::no(
            format!("{BTF_PATH}: {error}"),
            "a kernel with CONFIG_DEBUG_INFO_BTF; nothing needs it",
        ),
    }
}

pub(super) fn jit() -> Finding {
    match fs::read_to_string(JIT_PATH) {
        Ok(value) if value.trim() == "0" => {
            Finding::no("bpf_jit_enable is 0", "sysctl net.core.bpf_jit_enable=1")
        }
        Ok(value) => Finding::yes(format!("bpf_jit_enable is {}", value.trim())),
        Err(error) => Finding::unknown(format!("{JIT_PATH}: {error}"), "run as root"),
    }
}

fn refused(error: &ProgramError, hint: &'static str) -> Finding {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let denied = cause
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if denied {
        Finding::unknown(cause.to_string(), PRIVILEGES_HINT)
    } else {
        Finding::no(cause.to_string(), hint)
    }
}
