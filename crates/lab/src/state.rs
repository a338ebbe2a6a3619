//! What a lab consists of, on disk, so that any later command finds it: also after a crash of the one that made it.

use crate::cgroup::Places;
use crate::error::{Context, LabError, Result};
use crate::fault::LinkFault;
use crate::name::LabName;
use crate::process::ProcessIdentity;
use crate::spec::CpuQuota;
use crate::system::ethtool::Setting;
use crate::topology::Host;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The layout of the state file; a file of another layout is refused.
const FORMAT: u32 = 1;

/// How long a command waits for another one that is changing the same lab.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything there is to know about a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The layout of this file.
    format: u32,
    /// The lab's name.
    pub(crate) name: LabName,
    /// Whether `up` came to its end.
    pub(crate) complete: bool,
    /// The binary that runs nodes and fault agents.
    pub(crate) executable: PathBuf,
    /// The hosts, the switch last.
    pub(crate) hosts: Vec<HostState>,
    /// What the lab started, oldest first.
    pub(crate) processes: Vec<ProcessRecord>,
    /// What disturbs the lab now.
    pub(crate) faults: Vec<FaultRecord>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostState {
    /// Who and where it is.
    pub(crate) host: Host,
    /// Its limit of CPU time, if it has one.
    pub(crate) quota: Option<CpuQuota>,
    /// Its control groups.
    pub(crate) cgroup: Places,
    /// The configuration of its node, if it has one.
    pub(crate) configuration: Option<PathBuf>,
}

/// A process that the lab started and that outlives the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessRecord {
    /// The host that it runs on.
    pub(crate) host: String,
    /// What it is called there: `node`, or a peer's name.
    pub(crate) name: String,
    /// Which process it is.
    pub(crate) process: ProcessIdentity,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// A fault in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultRecord {
    /// The host whose link it is.
    pub(crate) host: String,
    /// What it does.
    pub(crate) fault: LinkFault,
    /// The process that keeps it in force, if it takes one.
    pub(crate) agent: Option<ProcessIdentity>,
    /// What the offloads of the interfaces were before.
    pub(crate) offloads_before: Vec<Setting>,
    /// Where the agent counts what it did.
    pub(crate) statistics: Option<PathBuf>,
}

impl State {
    /// A lab of which nothing has been made yet.
    pub(crate) fn new(name: LabName, executable: PathBuf, hosts: Vec<HostState>) -> Self {
        Self {
            format: FORMAT,
            name,
            complete: false,
            executable,
            hosts,
            processes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The host of this name.
    pub(crate) fn host(&self, name: &str) -> Result<&HostState> {
        self.hosts.iter().find(|host| host.host.name == name).ok_or_else(|| LabError::UnknownHost {
            lab: self.name.to_string(),
            host: name.to_owned(),
            known: self
                .hosts
                .iter()
                .map(|host| host.host.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The process of this name on a host, whether or not it is still there.
    pub(crate) fn process(&self, host: &str, name: &str) -> Option<&ProcessRecord> {
        self.processes.iter().find(|record| record.host == host && record.name == name)
    }
}

/// The directory of one lab: state, configuration, logs, data.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Where the lab of this name has its files.
    pub(crate) fn of(name: &LabName) -> Self {
        Self { path: base().join(name.as_str()) }
    }

    #[cfg(test)]
    fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a process of a host writes its output.
    pub(crate) fn log(&self, host: &str, process: &str) -> PathBuf {
        self.path.join("log").join(format!("{host}.{process}.log"))
    }

    /// The configuration of a host's node.
    pub(crate) fn configuration(&self, host: &str) -> PathBuf {
        self.path.join("config").join(format!("{host}.toml"))
    }

    /// The data of a host's node, when the user names no other place.
    pub(crate) fn data(&self, host: &str) -> PathBuf {
        self.path.join("data").join(host)
    }

    /// Where the agent of a link's fault counts.
    pub(crate) fn statistics(&self, host: &str, fault: &str) -> PathBuf {
        self.path.join("log").join(format!("{host}.{fault}.json"))
    }

    fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Reads the state; `None` when there is none.
    pub(crate) fn load(&self) -> Result<Option<State>> {
        let path = self.state_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| path.display().to_string()),
        };
        let bad = |reason: String| LabError::BadState { path: path.clone(), reason };
        let state: State = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if state.format != FORMAT {
            return Err(bad(format!("format {} is not {FORMAT}", state.format)));
        }
        Ok(Some(state))
    }

    /// Replaces the state in one step: a reader sees the old or the new one, whole.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let path = self.state_file();
        let new = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(state).expect("the state has a JSON form");
        // Not synced: it has to outlive the process, not the machine, whose namespaces end with it.
        fs::write(&new, text).context(|| new.display().to_string())?;
        fs::rename(&new, &path).context(|| path.display().to_string())
    }

    /// Removes the directory, and the one of all labs if this was the last.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("remove {}", self.path.display()));
            }
            _ => {}
        }
        if let Some(base) = self.path.parent() {
            // Fails while another lab has files, as it should.
            let _other_labs = fs::remove_dir(base);
        }
        Ok(())
    }

    /// Makes the directory; `false` if it is there already.
    pub(crate) fn create(&self) -> Result<bool> {
        if let Some(base) = self.path.parent() {
            fs::create_dir_all(base).context(|| format!("make {}", base.display()))?;
        }
        match fs::create_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).context(|| format!("make {}", self.path.display())),
        }
    }

    /// Keeps other commands from changing this lab until the lock is dropped. `None` if the directory is not there.
    pub(crate) fn lock(&self, name: &LabName) -> Result<Option<Lock>> {
        self.lock_within(LOCK_TIMEOUT, name)
    }

    fn lock_within(&self, timeout: Duration, name: &LabName) -> Result<Option<Lock>> {
        let deadline = Instant::now() + timeout;
        loop {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let descriptor = match rustix::fs::open(&self.path, flags, Mode::empty()) {
                Ok(descriptor) => descriptor,
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error).context(|| self.path.display().to_string()),
            };
            match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
                // The one who held it may have removed the directory: then this is a lock on nothing.
                Ok(()) if self.is_still(&descriptor) => {
                    return Ok(Some(Lock { descriptor }));
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    std::thread::sleep(crate::process::POLL_INTERVAL)
                }
                Err(error) => {
                    return Err(error).context(|| format!("lock {}", self.path.display()));
                }
            }
            if Instant::now() >= deadline {
                return Err(LabError::Busy { name: name.to_string() });
            }
        }
    }

    fn is_still(&self, descriptor: &OwnedFd) -> bool {
        let (Ok(held), Ok(named)) = (rustix::fs::fstat(descriptor), fs::metadata(&self.path))
        else {
            return false;
        };
        (held.st_dev, held.st_ino) == (named.dev(), named.ino())
    }
}

/// A held lock; the kernel releases it when its process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    descriptor: OwnedFd,
}

impl Lock {
    /// A descriptor that holds the same lock: it is released when this value and every share are closed.
    pub(crate) fn share(&self) -> Result<OwnedFd> {
        self.descriptor.try_clone().context(|| "share the lock".to_owned())
    }
}

/// The labs that have a directory on this machine.
pub(crate) fn labs() -> Vec<LabName> {
    let Ok(entries) = fs::read_dir(base()) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `/run/ashlar-lab`; below `$XDG_RUNTIME_DIR` on a machine without `/run`.
fn base() -> PathBuf {
    let run = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !Path::new("/run").is_dir() => PathBuf::from(directory),
        _ => PathBuf::from("/run"),
    };
    run.join("ashlar-lab")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::spec::LabSpec;
    use crate::topology;

    fn state() -> State {
        let spec = LabSpec::new("lab".parse().unwrap());
        let hosts = topology::hosts(&spec)
            .into_iter()
            .map(|host| HostState {
                host,
                quota: Some(CpuQuota::from_percent(40).unwrap()),
                cgroup: Places::default(),
                configuration: None,
            })
            .collect();
        let mut state = State::new(spec.name, PathBuf::from("/bin/ashlar"), hosts);
        state.processes.push(ProcessRecord {
            host: "fe".to_owned(),
            name: "node".to_owned(),
            process: ProcessIdentity { pid: 7, start_ticks: 9 },
            log: PathBuf::from("/x.log"),
        });
        state.faults.push(FaultRecord {
            host: "s1".to_owned(),
            fault: LinkFault::Partition,
            agent: None,
            offloads_before: Vec::new(),
            statistics: None,
        });
        state
    }

    #[test]
    fn a_saved_state_reads_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::at(directory.path().join("lab"));
        assert!(directory.create().unwrap());
        assert!(!directory.create().unwrap(), "a second lab of the same name");
        assert_eq!(directory.load().unwrap(), None);
        directory.save(&state()).unwrap();
        assert_eq!(directory.load().unwrap(), Some(state()));
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert_eq!(directory.load().unwrap(), None);
    }

    #[test]
    fn a_foreign_or_torn_state_file_is_refused_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let lab = Directory::at(directory.path().to_owned());
        let whole = serde_json::to_string(&state()).unwrap();
        let foreign = whole.replacen("\"format\":1", "\"format\":2", 1);
        for text in ["", &whole[..whole.len() / 2], &foreign] {
            fs::write(directory.path().join("state.json"), text).unwrap();
            let error = lab.load().unwrap_err().to_string();
            assert!(error.contains("state.json"), "{error}");
        }
    }

    #[test]
    fn a_lock_excludes_a_second_one_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let lab = Directory::at(directory.path().to_owned());
        let name: LabName = "lab".parse().unwrap();
        let held = lab.lock(&name).unwrap();
        assert!(held.is_some());
        assert!(matches!(lab.lock_within(Duration::ZERO, &name), Err(LabError::Busy { .. })));
        drop(held);
        assert!(lab.lock(&name).unwrap().is_some());
        directory.close().unwrap();
        assert!(lab.lock(&name).unwrap().is_none());
    }

    #[test]
    fn an_unknown_host_is_refused_with_the_known_ones() {
        let error = state().host("s9").unwrap_err().to_string();
        assert_eq!(
            error,
            "lab \"lab\" has no host \"s9\": its hosts are client, fe, s1, s2, s3, switch"
        );
    }
}
