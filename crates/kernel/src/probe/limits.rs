//! Limits of this process.

use super::Finding;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use rustix::process::{Resource, Rlimit, getrlimit};

/// Descriptors for a few thousand connections beside files and timers.
const DESCRIPTORS_MIN: u64 = 8_192;

/// What the maps of all kernel programs take, with room to spare.
const LOCKED_MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;

pub(super) fn file_descriptors() -> Finding {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let detail = format!("{} now, {} at most", text(current), text(maximum));
    if maximum.is_none_or(|maximum| maximum >= DESCRIPTORS_MIN) {
        Finding::yes(detail)
    } else {
        Finding::no(
            detail,
            "raise the hard limit: ulimit -Hn 65536, or LimitNOFILE= in the service file",
        )
    }
}

pub(super) fn locked_memory() -> Finding {
    const HINT: &str = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the service file";
    let current = getrlimit(Resource::Memlock).current;
    let detail = format!("{} bytes", text(current));
    if current.is_none_or(|current| current >= LOCKED_MEMORY_BYTES_MIN) {
        return Finding::yes(detail);
    }
    // Newer kernels charge maps to the memory cgroup instead of this limit. This helper came with that change.
    match is_helper_supported(ProgramType::SocketFilter, BpfHelper::BPF_FUNC_ktime_get_coarse_ns) {
        Ok(true) => Finding::yes(format!("{detail}, which do not bound maps on this kernel")),
        Ok(false) => Finding::no(detail, HINT),
        Err(_) => {
            Finding::unknown(format!("{detail}; whether they bound maps cannot be tried"), HINT)
        }
    }
}

fn text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
