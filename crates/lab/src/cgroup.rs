//! CPU quotas and CPU time of hosts, by control groups of version 1 or 2, whichever has the controller.
//!
//! The groups are `ashlar-lab/LAB/HOST` below the mount point. A host's processes join before they become what they
//! are, so its quota holds from the first instruction and `down` finds everything that ever ran on the host.

use crate::error::{Context, LabError, Result};
use crate::name::LabName;
use crate::process::{POLL_INTERVAL, ProcessIdentity};
use crate::spec::CpuQuota;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group above those of all labs.
const PARENT: &str = "ashlar-lab";
/// A short period keeps the stalls of a host that has used up its quota short.
const PERIOD_MICROSECONDS: u64 = 10_000;
/// The kernel refuses quotas below one millisecond; the period grows for the smallest ones.
const QUOTA_MICROSECONDS_MIN: u64 = 1_000;
/// How long a group may stay busy after its last process has ended.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Another lab may remove the parent between two steps of making a group below it.
const CREATE_ATTEMPTS: usize = 10;

/// The two interfaces of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A place in a hierarchy: a mount point at first, then the group of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Which files are in the directory.
    pub(crate) version: Version,
    /// The directory.
    pub(crate) directory: PathBuf,
}

/// Where quotas can be set and where CPU time is counted: of the machine, then of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Where a quota can be set, if anywhere.
    pub(crate) quota: Option<Place>,
    /// Where CPU time is counted, if anywhere.
    pub(crate) accounting: Option<Place>,
}

impl Places {
    /// Looks at what this machine has mounted.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self::from_mounts(&mounts, read_controllers)
    }

    /// `controllers` returns the text of `cgroup.controllers` of a version 2 mount.
    fn from_mounts(mounts: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let mut v1_quota = None;
        let mut v1_accounting = None;
        let mut v2_quota = None;
        let mut v2_accounting = None;
        for line in mounts.lines() {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (Some(directory), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let place = |version| Place { version, directory: PathBuf::from(directory) };
            match kind {
                "cgroup" => {
                    if options.split(',').any(|option| option == "cpu") {
                        v1_quota.get_or_insert(place(Version::V1));
                    }
                    if options.split(',').any(|option| option == "cpuacct") {
                        v1_accounting.get_or_insert(place(Version::V1));
                    }
                }
                "cgroup2" => {
                    if controllers(Path::new(directory))
                        .split_ascii_whitespace()
                        .any(|name| name == "cpu")
                    {
                        v2_quota.get_or_insert(place(Version::V2));
                    }
                    // Version 2 counts CPU time in every group, controllers or not.
                    v2_accounting.get_or_insert(place(Version::V2));
                }
                _ => {}
            }
        }
        // A controller lives in one hierarchy only: where version 1 has it, version 2 cannot.
        Self { quota: v1_quota.or(v2_quota), accounting: v1_accounting.or(v2_accounting) }
    }

    /// The group of one host, in the same hierarchies.
    pub(crate) fn of_host(&self, lab: &LabName, host: &str) -> Self {
        self.below(&[PARENT, lab.as_str(), host])
    }

    fn below(&self, path: &[&str]) -> Self {
        let below = |place: &Option<Place>| {
            place.as_ref().map(|place| Place {
                version: place.version,
                directory: path
                    .iter()
                    .fold(place.directory.clone(), |directory, part| directory.join(part)),
            })
        };
        Self { quota: below(&self.quota), accounting: below(&self.accounting) }
    }

    fn directories(&self) -> Vec<&Path> {
        let mut directories: Vec<&Path> = [&self.quota, &self.accounting]
            .into_iter()
            .flatten()
            .map(|place| place.directory.as_path())
            .collect();
        directories.dedup();
        directories
    }

    /// Makes the host's groups and limits them. Needs the places of one host.
    ///
    /// # Errors
    /// [`LabError::NoQuota`] when a quota was asked for and cannot be had.
    pub(crate) fn create(&self, quota: Option<CpuQuota>) -> Result<()> {
        for directory in self.directories() {
            create_all(directory)
                .context(|| format!("make control group {}", directory.display()))?;
        }
        let Some(quota) = quota else { return Ok(()) };
        let Some(place) = &self.quota else {
            return Err(LabError::NoQuota { reason: "no cpu controller is mounted".to_owned() });
        };
        place.limit(quota).map_err(|error| LabError::NoQuota {
            reason: format!("{}: {error}", place.directory.display()),
        })
    }

    /// The files into which a process writes its number to join.
    pub(crate) fn join_files(&self) -> Vec<PathBuf> {
        self.directories().into_iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// The processes in the host's groups.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.directories().into_iter().flat_map(processes).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The CPU time that the host has used, in seconds; `None` where nothing counts it.
    pub(crate) fn cpu_seconds(&self) -> Result<Option<f64>> {
        self.accounting.as_ref().map(Place::cpu_seconds).transpose()
    }
}

fn read_controllers(directory: &Path) -> String {
    fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default()
}

impl Place {
    fn limit(&self, quota: CpuQuota) -> io::Result<()> {
        let (quota, period) = quota_and_period(quota);
        match self.version {
            Version::V1 => {
                // The kernel compares the two after each write: lift the old quota before the period changes.
                fs::write(self.directory.join("cpu.cfs_quota_us"), "-1")?;
                fs::write(self.directory.join("cpu.cfs_period_us"), period.to_string())?;
                fs::write(self.directory.join("cpu.cfs_quota_us"), quota.to_string())
            }
            Version::V2 => {
                // Each level hands the controller down: the root, ashlar-lab, and the lab.
                let levels: Vec<&Path> = self.directory.ancestors().skip(1).take(3).collect();
                for level in levels.into_iter().rev() {
                    fs::write(level.join("cgroup.subtree_control"), "+cpu")?;
                }
                fs::write(self.directory.join("cpu.max"), format!("{quota} {period}"))
            }
        }
    }

    fn cpu_seconds(&self) -> Result<f64> {
        let (file, unit_seconds) = match self.version {
            Version::V1 => ("cpuacct.usage", 1e-9),
            Version::V2 => ("cpu.stat", 1e-6),
        };
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).context(|| path.display().to_string())?;
        let count = match self.version {
            Version::V1 => text.trim().parse::<u64>().ok(),
            Version::V2 => {
                text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
            }
        };
        count.map(|count| count as f64 * unit_seconds).ok_or_else(|| LabError::Io {
            what: path.display().to_string(),
            source: io::Error::new(io::ErrorKind::InvalidData, format!("no CPU time in {text:?}")),
        })
    }
}

/// Quota and period in microseconds.
fn quota_and_period(quota: CpuQuota) -> (u64, u64) {
    let percent = u64::from(quota.percent());
    let period = PERIOD_MICROSECONDS.max((QUOTA_MICROSECONDS_MIN * 100).div_ceil(percent));
    ((period * percent / 100).max(QUOTA_MICROSECONDS_MIN), period)
}

fn create_all(directory: &Path) -> io::Result<()> {
    for _ in 1..CREATE_ATTEMPTS {
        match fs::create_dir_all(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    fs::create_dir_all(directory)
}

fn processes(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process of another process namespace, which cannot be named from here.
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect()
}

/// The groups that a lab has on this machine, whatever its state file says.
pub(crate) struct Remains {
    /// The lab's own group in each hierarchy.
    directories: Vec<PathBuf>,
}

impl Remains {
    /// Looks for the lab's groups in every hierarchy that a lab could have used.
    pub(crate) fn of(lab: &LabName) -> Self {
        let places = Places::detect().below(&[PARENT, lab.as_str()]);
        Self {
            directories: places
                .directories()
                .into_iter()
                .filter(|directory| directory.is_dir())
                .map(Path::to_owned)
                .collect(),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// The processes in any of the lab's groups.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.directories
            .iter()
            .flat_map(|directory| subgroups(directory).into_iter().chain([directory.clone()]))
            .flat_map(|directory| processes(&directory))
            .collect()
    }

    /// Removes the groups, which must have no process, and the parent of all labs if this was the last.
    pub(crate) fn remove(&self) -> Result<()> {
        for directory in &self.directories {
            for group in subgroups(directory).iter().chain([directory]) {
                remove_group(group)?;
            }
            if let Some(parent) = directory.parent() {
                // Fails while another lab is below it, as it should.
                let _other_labs = fs::remove_dir(parent);
            }
        }
        Ok(())
    }
}

/// The labs that have a control group on this machine.
pub(crate) fn labs() -> Vec<LabName> {
    let parents = Places::detect().below(&[PARENT]);
    let groups = parents.directories().into_iter().flat_map(subgroups);
    groups.filter_map(|group| group.file_name()?.to_str()?.parse().ok()).collect()
}

fn subgroups(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect()
}

fn remove_group(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                // A process may be on its way out, or have come in after everything was ended.
                for process in processes(directory).into_iter().filter_map(ProcessIdentity::of) {
                    process.signal(Signal::KILL)?;
                }
                std::thread::sleep(POLL_INTERVAL);
            }
            Err(error) => {
                return Err(error)
                    .context(|| format!("remove control group {}", directory.display()));
            }
        }
    }
}

/// The lab whose control groups this process is in, if any.
pub(crate) fn own_lab() -> Option<LabName> {
    lab_of_membership(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn lab_of_membership(text: &str) -> Option<LabName> {
    text.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.strip_prefix('/')?
            .strip_prefix(PARENT)?
            .strip_prefix('/')?
            .split('/')
            .next()?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use ashlar_kernel::probe::Feature;
    use ashlar_kernel::testing::ledger;

    fn place(version: Version, directory: &str) -> Option<Place> {
        Some(Place { version, directory: PathBuf::from(directory) })
    }

    #[test]
    fn version_1_controllers_win_over_an_empty_version_2_hierarchy() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/cpuacct cgroup rw,relatime,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let places = Places::from_mounts(mounts, |_| String::new());
        assert_eq!(places.quota, place(Version::V1, "/sys/fs/cgroup/cpu"));
        assert_eq!(places.accounting, place(Version::V1, "/sys/fs/cgroup/cpuacct"));
    }

    #[test]
    fn one_mount_may_hold_both_controllers_and_is_joined_once() {
        let mounts = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n";
        let host =
            Places::from_mounts(mounts, |_| String::new()).of_host(&"lab".parse().unwrap(), "fe");
        assert_eq!(
            host.join_files(),
            [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/ashlar-lab/lab/fe/cgroup.procs")]
        );
    }

    #[test]
    fn version_2_needs_the_controller_for_quotas_but_not_for_accounting() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let with = Places::from_mounts(mounts, |_| "cpuset cpu io memory\n".to_owned());
        assert_eq!(with.quota, place(Version::V2, "/sys/fs/cgroup"));
        let without = Places::from_mounts(mounts, |_| "cpuset io\n".to_owned());
        assert_eq!(without.quota, None);
        assert_eq!(without.accounting, place(Version::V2, "/sys/fs/cgroup"));
    }

    #[test]
    fn a_quota_that_cannot_be_had_is_an_error_only_when_asked_for() {
        let nowhere = Places::from_mounts("proc /proc proc rw 0 0\n", |_| String::new());
        assert!(nowhere.create(None).is_ok());
        let error = nowhere.create(Some(CpuQuota::from_percent(20).unwrap())).unwrap_err();
        assert!(error.to_string().contains("--server-quota"), "{error}");
    }

    #[test]
    fn version_2_writes_hand_the_controller_down_level_by_level() {
        let root = tempfile::tempdir().unwrap();
        let machine =
            Places { quota: place(Version::V2, root.path().to_str().unwrap()), accounting: None };
        let host = machine.of_host(&"lab".parse().unwrap(), "s1");
        host.create(Some(CpuQuota::from_percent(20).unwrap())).unwrap();
        for level in ["", "ashlar-lab", "ashlar-lab/lab"] {
            let file = root.path().join(level).join("cgroup.subtree_control");
            assert_eq!(fs::read_to_string(&file).unwrap(), "+cpu", "{}", file.display());
        }
        let max = fs::read_to_string(root.path().join("ashlar-lab/lab/s1/cpu.max")).unwrap();
        assert_eq!(max, "2000 10000");
    }

    #[test]
    fn version_2_cpu_time_is_read_from_the_statistics() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cpu.stat"), "usage_usec 1500000\nuser_usec 1\n").unwrap();
        let place = place(Version::V2, directory.path().to_str().unwrap()).unwrap();
        assert!((place.cpu_seconds().unwrap() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn small_quotas_lengthen_the_period_instead_of_breaking_the_kernels_minimum() {
        let of = |percent| quota_and_period(CpuQuota::from_percent(percent).unwrap());
        assert_eq!(of(20), (2_000, 10_000));
        assert_eq!(of(250), (25_000, 10_000));
        assert_eq!(of(1), (1_000, 100_000));
        for percent in 1..=CpuQuota::PERCENT_MAX {
            let (quota, period) = of(percent);
            assert!(quota >= QUOTA_MICROSECONDS_MIN);
            let share = quota as f64 / period as f64 * 100.0;
            assert!(
                (share - f64::from(percent)).abs() <= 0.05 * f64::from(percent),
                "{percent}: {share}"
            );
        }
    }

    #[test]
    fn membership_of_a_lab_is_seen_in_either_version() {
        let v1 = "3:cpuset:/\n1:cpu:/ashlar-lab/a-b/fe\n0::/\n";
        assert_eq!(lab_of_membership(v1).unwrap().as_str(), "a-b");
        assert_eq!(lab_of_membership("0::/ashlar-lab/x/client\n").unwrap().as_str(), "x");
        assert_eq!(lab_of_membership("1:cpu:/\n0::/user.slice\n"), None);
    }

    /// On a machine whose controllers are in version 1 this is the only test of the real version 2.
    #[test]
    fn the_kernels_version_2_counts_the_time_of_a_process_that_joined() {
        if !ledger(
            "the_kernels_version_2_counts_the_time_of_a_process_that_joined",
            &[Feature::Root],
        ) {
            return;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let second: Vec<&str> = mounts.lines().filter(|line| line.contains(" cgroup2 ")).collect();
        assert!(!second.is_empty(), "cgroup version 2 is not mounted");
        let machine = Places::from_mounts(&second.join("\n"), read_controllers);
        let name: LabName = format!("v{:x}", std::process::id()).parse().unwrap();
        let host = machine.of_host(&name, "s1");
        // Where version 2 has the controller, the quota is real, too.
        host.create(machine.quota.as_ref().map(|_| CpuQuota::from_percent(50).unwrap())).unwrap();
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", "echo 0 > $1; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", "sh"])
            .args(host.join_files())
            .status()
            .unwrap();
        assert!(status.success());
        let used = host.cpu_seconds().unwrap().unwrap();
        let directory = host.directories()[0].to_owned();
        remove_group(&directory).unwrap();
        let lab = directory.parent().unwrap();
        remove_group(lab).unwrap();
        // Fails while a real lab is below it, as it should.
        let _other_labs = fs::remove_dir(lab.parent().unwrap());
        assert!(used > 0.01, "a busy loop counted as {used} s");
    }
}
