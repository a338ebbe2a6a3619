//! Kernel, user and capabilities.

use super::{Feature, Finding};
use rustix::thread::CapabilitySet;

pub(super) fn kernel() -> Finding {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Finding::yes(format!(
        "{} {} {}",
        text(name.sysname()),
        text(name.release()),
        text(name.machine())
    ))
}

pub(super) fn root() -> Finding {
    let user = rustix::process::geteuid();
    if user.is_root() {
        Finding::yes("effective user 0")
    } else {
        Finding::no(format!("effective user {}", user.as_raw()), "run it with sudo")
    }
}

pub(super) fn capability(feature: Feature) -> Finding {
    let (wanted, hint) = match feature {
        Feature::CapBpf => (CapabilitySet::BPF, "run as root, or: setcap cap_bpf+ep ashlar"),
        Feature::CapNetAdmin => {
            (CapabilitySet::NET_ADMIN, "run as root, or: setcap cap_net_admin+ep ashlar")
        }
        Feature::CapPerfmon => {
            (CapabilitySet::PERFMON, "run as root, or: setcap cap_perfmon+ep ashlar")
        }
        _ => (CapabilitySet::SYS_ADMIN, "run as root, in a container with --privileged"),
    };
    match rustix::thread::capabilities(None) {
        Ok(sets) if sets.effective.contains(wanted) => Finding::yes("effective"),
        Ok(_) => Finding::no("not effective", hint),
        Err(errno) => Finding::unknown(format!("cannot read the capabilities: {errno}"), hint),
    }
}
