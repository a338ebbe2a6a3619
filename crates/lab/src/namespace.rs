//! Network namespaces: entering one for a moment, listing those of a lab, and what runs in them.

use crate::error::{Context, Result};
use crate::name::LabName;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where ip(8) keeps the names.
const NAMES: &str = "/run/netns";

/// Where `ip netns exec` looks for files to put over those in `/etc`.
const OVERLAYS: &str = "/etc/netns";

/// The file that names a namespace.
pub(crate) fn path(namespace: &str) -> PathBuf {
    Path::new(NAMES).join(namespace)
}

/// The directory whose files `ip netns exec` shows in `/etc` inside the namespace.
pub(crate) fn overlay(namespace: &str) -> PathBuf {
    Path::new(OVERLAYS).join(namespace)
}

/// Runs `work` on a thread that is inside the namespace. Sockets that it opens stay there; the caller is not moved.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = path(namespace);
    let file = fs::File::open(&path).context(|| format!("network namespace {}", path.display()))?;
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context(|| format!("enter network namespace {namespace}"))?;
            Ok(work())
        });
        match entered.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The namespaces of one lab that are there now, whatever its state file says.
pub(crate) fn of_lab(lab: &LabName) -> Vec<String> {
    let mut names: Vec<String> = entries(NAMES)
        .into_iter()
        .filter(|name| LabName::of_namespace(name).as_ref() == Some(lab))
        .collect();
    names.sort();
    names
}

/// The overlay directories of one lab that are there now.
pub(crate) fn overlays(lab: &LabName) -> Vec<PathBuf> {
    let names = entries(OVERLAYS).into_iter();
    names
        .filter(|name| LabName::of_namespace(name).as_ref() == Some(lab))
        .map(|name| overlay(&name))
        .collect()
}

/// The labs that have a namespace on this machine.
pub(crate) fn labs() -> Vec<LabName> {
    entries(NAMES).iter().filter_map(|name| LabName::of_namespace(name)).collect()
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The processes whose network stack is one of these namespaces.
pub(crate) fn processes(namespaces: &[String]) -> Vec<i32> {
    let identities: Vec<(u64, u64)> = namespaces
        .iter()
        .filter_map(|name| fs::metadata(path(name)).ok())
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|metadata| identities.contains(&(metadata.dev(), metadata.ino())))
        })
        .collect()
}
