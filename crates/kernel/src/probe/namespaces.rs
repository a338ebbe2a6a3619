//! What the lab is made of: network namespaces, processor shares, `ip`.

#![allow(unsafe_code, reason = "unshare(2) can be unsafe for some of its flags")]

use super::Finding;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io, thread};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const CGROUP_HINT: &str =
    "run as root, with the cpu controller of a cgroup hierarchy mounted writable";

/// Moves a thread of its own into a new network namespace; both end together.
pub(super) fn network_namespaces() -> Finding {
    const HINT: &str = "run as root (needs CAP_SYS_ADMIN); in a container: --privileged";
    // SAFETY: only the network namespace is unshared, not memory or descriptors, and only by a thread that does nothing else.
    match thread::spawn(|| unsafe { unshare_unsafe(UnshareFlags::NEWNET) }).join() {
        Ok(Ok(())) => Finding::yes("one was made and left"),
        Ok(Err(errno)) => Finding::no(errno.to_string(), HINT),
        Err(_) => Finding::unknown("the probing thread died", HINT),
    }
}

/// Makes a group, gives it half a processor, and removes it.
pub(super) fn cpu_quota() -> Finding {
    let root = Path::new(CGROUP_ROOT);
    let second = root.join("cgroup.controllers").exists();
    let (parent, file, quota) = if second {
        (root.to_owned(), "cpu.max", "50000 100000")
    } else {
        (root.join("cpu"), "cpu.cfs_quota_us", "50000")
    };
    let version = if second { "cgroup v2" } else { "cgroup v1" };
    match try_quota(&parent, file, quota) {
        Ok(()) => Finding::yes(format!("{version}, {}", parent.display())),
        Err(error) => Finding::no(format!("{version}, {}: {error}", parent.display()), CGROUP_HINT),
    }
}

fn try_quota(parent: &Path, file: &str, quota: &str) -> io::Result<()> {
    // Unique also among the threads of this process.
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let group = parent.join(format!("ashlar-probe-{thread}"));
    fs::create_dir(&group)?;
    // Not `fs::write`: it would create a file of this name if the directory were no cgroup.
    let written = fs::OpenOptions::new()
        .write(true)
        .open(group.join(file))
        .and_then(|mut opened| io::Write::write_all(&mut opened, quota.as_bytes()));
    fs::remove_dir(&group)?;
    written
}

pub(super) fn ip_command() -> Finding {
    const HINT: &str = "apt-get install iproute2";
    let Some(path) = find_in_path("ip") else {
        return Finding::no("not in PATH", HINT);
    };
    let output =
        Command::new(&path).arg("-Version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            Finding::yes(format!("{}: {}", path.display(), version.trim()))
        }
        Ok(output) => Finding::no(format!("{}: {}", path.display(), output.status), HINT),
        Err(error) => Finding::no(format!("{}: {error}", path.display()), HINT),
    }
}

fn find_in_path(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(command))
        .find(|candidate| candidate.is_file())
}
