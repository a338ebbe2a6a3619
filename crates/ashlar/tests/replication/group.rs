//! A group of real processes, each on a host of a laboratory.

use crate::steady::Usage;
use ashlar_kernel::{probe::Feature, testing::ledger};
use ashlar_lab::{CLIENT, Chaos, Engine, FaultAction, FrameMatch, Lab, LabSpec, Role};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

pub(crate) const CLUSTER: &str = "replicated";
pub(crate) const GROUP: u32 = 7;
const PORT: u16 = 7400;
/// Hosts that can have a replica.
const HOSTS: usize = 4;
/// How long a test waits for something that has to come. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a group keeps what it has acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Volatile,
    Durable,
}

/// Three replicas, and a fourth host for one.
pub(crate) struct Group {
    lab: Lab,
    directory: tempfile::TempDir,
    mode: Mode,
    /// By host.
    processes: Vec<Option<Child>>,
    members: Vec<SocketAddr>,
}

impl Group {
    /// Builds the laboratory and starts the group; none where that is not possible.
    pub(crate) fn start(test: &str, letter: char, mode: Mode) -> Option<Self> {
        let needs = [
            Feature::Root,
            Feature::NetworkNamespaces,
            Feature::IpCommand,
            Feature::KernelPrograms,
        ];
        if !ledger(test, &needs) {
            return None;
        }
        let name = format!("v{:x}{letter}", std::process::id());
        let spec = LabSpec::new(name.parse().unwrap())
            .executable(env!("CARGO_BIN_EXE_ashlar"))
            .storage_nodes(HOSTS as u8)
            .replicas(1)
            .threads(1)
            .engine(Engine::Synthetic);
        let lab = Lab::up(&spec).unwrap().down_on_drop();
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self { lab, directory, mode, processes: Vec::new(), members: Vec::new() };
        group.processes.resize_with(HOSTS, || None);
        group.members = (0..3).map(|host| group.address(host)).collect();
        for host in 0..3 {
            group.format(host, &group.beginning());
            group.run(host);
        }
        Some(group)
    }

    /// Where the replica on a host is.
    pub(crate) fn address(&self, host: usize) -> SocketAddr {
        (self.lab.address(&Self::host(host)).unwrap(), PORT).into()
    }

    pub(crate) fn members(&self) -> &[SocketAddr] {
        &self.members
    }

    pub(crate) fn set_members(&mut self, members: &[SocketAddr]) {
        self.members = members.to_vec();
    }

    /// The namespace that clients are in.
    pub(crate) fn client_namespace(&self) -> String {
        format!("/run/netns/ashlar-{}-{CLIENT}", self.lab.name())
    }

    fn host(host: usize) -> String {
        format!("s{}", host + 1)
    }

    /// What says that the group begins with its present members.
    fn beginning(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| format!("\"{member}\"")).collect();
        format!("members = [{}]", members.join(", "))
    }

    /// Runs a replica that the group has not had before.
    pub(crate) fn join(&mut self, host: usize) {
        self.format(host, "state = \"join\"");
        self.run(host);
    }

    /// Gives a host its configuration and an empty journal.
    fn format(&self, host: usize, beginning: &str) {
        let mode = match self.mode {
            Mode::Volatile => "volatile",
            Mode::Durable => "durable",
        };
        let (name, address) = (Self::host(host), self.address(host));
        let file = self.file(host);
        let data = self.directory.path().join(&name);
        let configuration = format!(
            "[cluster]\nid = \"{CLUSTER}\"\n[node]\nname = \"{name}\"\ndata = {data:?}\n\
             [replication]\nlisten = \"{address}\"\n[[replication.group]]\nnumber = {GROUP}\n\
             service = \"kv\"\nmode = \"{mode}\"\n{beginning}\n"
        );
        fs::write(&file, configuration).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ashlar"));
        let output = command.arg("format").arg("--config").arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn file(&self, host: usize) -> PathBuf {
        self.directory.path().join(format!("{}.toml", Self::host(host)))
    }

    /// Runs the replica of a host.
    pub(crate) fn run(&mut self, host: usize) {
        let name = Self::host(host);
        let log = self.directory.path().join(format!("{name}.log"));
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.lab.command(&name, env!("CARGO_BIN_EXE_ashlar")).unwrap();
        command.arg("node").arg("--config").arg(self.file(host));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.processes[host] = Some(command.spawn().unwrap());
    }

    /// Ends the replica of a host at once.
    pub(crate) fn kill(&mut self, host: usize) {
        let mut process = self.processes[host].take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Stops the replica of a host for a while, where it is.
    pub(crate) fn pause(&self, host: usize, time: Duration) {
        let process = self.processes[host].as_ref().unwrap();
        let process = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
        sleep(time);
        rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    }

    /// The most that any of the replicas takes now.
    pub(crate) fn usage(&self) -> Usage {
        let replicas = self.processes.iter().enumerate();
        let usage = replicas.filter_map(|(host, process)| {
            let data = self.directory.path().join(Self::host(host));
            let memory_bytes = memory_bytes(process.as_ref()?.id());
            Some(Usage { memory_bytes, disk_bytes: disk_bytes(&data) })
        });
        usage.fold(Usage::default(), Usage::most)
    }

    /// Makes all links lose frames, and repeat some.
    pub(crate) fn lose(&self, part: &str) {
        for (host, seed) in self.lab.hosts().filter(|host| host.role != Role::Switch).zip(1..) {
            let chaos = Chaos {
                drop: part.parse().unwrap(),
                duplicate: "2%".parse().unwrap(),
                corrupt: "0.1%".parse().unwrap(),
                frames: FrameMatch::default(),
                seed,
            };
            self.lab.fault(&host.name, &FaultAction::Chaos(chaos)).unwrap();
        }
    }

    /// Waits until a member takes part in the group.
    pub(crate) fn wait_for_member(&self, place: usize) {
        let deadline = Instant::now() + PATIENCE;
        let place = place.to_string();
        let ask = ["get", "nothing", "--stale-ms", "2000", "--member", &place];
        loop {
            let answer = self.kv(&ask).unwrap_err();
            if answer.contains("the key has no value") {
                return;
            }
            assert!(Instant::now() < deadline, "member {place}: {answer}");
        }
    }

    /// What `ashlar kv` says: its output, or what went wrong.
    pub(crate) fn kv(&self, arguments: &[&str]) -> Result<String, String> {
        let members: Vec<_> = self.members.iter().map(ToString::to_string).collect();
        let mut command = self.lab.command(CLIENT, env!("CARGO_BIN_EXE_ashlar")).unwrap();
        command.args(["kv", "--cluster", CLUSTER, "--group", &GROUP.to_string()]);
        command.args(["--members", &members.join(",")]).args(arguments);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// The memory of a process that is resident.
fn memory_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kibibytes << 10
}

/// The files in a directory and below it, without those that are removed meanwhile.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl Drop for Group {
    fn drop(&mut self) {
        for mut process in self.processes.drain(..).flatten() {
            // A test that has failed already may have ended them.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            for host in 0..HOSTS {
                let log = self.directory.path().join(format!("{}.log", Self::host(host)));
                println!("{}:\n{}", log.display(), fs::read_to_string(&log).unwrap_or_default());
            }
        }
    }
}
