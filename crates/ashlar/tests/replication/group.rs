//! A group of real processes, each on a host of a laboratory.

use crate::steady::Usage;
use ashlar_kernel::{probe::Feature, testing::ledger};
use ashlar_lab::{CLIENT, Chaos, Engine, FaultAction, FrameMatch, Lab, LabSpec, Role};
use rustix::process::{Pid, Signal};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    /// What programs in the kernel do at first, by host; empty where none are used.
    offloads: Vec<&'static str>,
}

/// A file system of BPF is mounted there, for programs.
const PROGRAMS: &str = "programs";
/// Where replicas tell what they count.
const ADMIN_PORT: u16 = 9970;

impl Group {
    /// Builds the laboratory and starts the group; none where that is not possible.
    pub(crate) fn start(test: &str, letter: char, mode: Mode) -> Option<Self> {
        Self::start_with(test, letter, mode, &[])
    }

    /// The same with programs in the kernel of each host, as `offload` in its configuration names them.
    pub(crate) fn start_with(
        test: &str,
        letter: char,
        mode: Mode,
        offloads: &[&'static str],
    ) -> Option<Self> {
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
        let offloads = offloads.to_vec();
        if !offloads.is_empty() {
            let programs = directory.path().join(PROGRAMS);
            fs::create_dir(&programs).unwrap();
            let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&programs).status();
            assert!(mounted.unwrap().success());
        }
        let (processes, members) = (Vec::new(), Vec::new());
        let mut group = Self { lab, directory, mode, processes, members, offloads };
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
        let admin = SocketAddr::from((address.ip(), ADMIN_PORT));
        let programs = self.directory.path().join(PROGRAMS);
        let offload = self.offloads.get(host).map(|names| format!("offload = [{names}]\n"));
        let offload = offload.unwrap_or_default();
        let configuration = format!(
            "[cluster]\nid = \"{CLUSTER}\"\n[node]\nname = \"{name}\"\ndata = {data:?}\n\
             [admin]\nlisten = \"{admin}\"\n\
             [replication]\nlisten = \"{address}\"\nprograms = {programs:?}\n\
             [[replication.group]]\nnumber = {GROUP}\nservice = \"kv\"\nmode = \"{mode}\"\n{offload}{beginning}\n"
        );
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
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
        self.signal(host, Signal::STOP);
        sleep(time);
        self.signal(host, Signal::CONT);
    }

    pub(crate) fn signal(&self, host: usize, signal: Signal) {
        let process = Pid::from_child(self.processes[host].as_ref().unwrap());
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// What the clients' host is told at a replica's admin address.
    fn admin(&self, host: usize, path: &str, arguments: &[&str]) -> Option<String> {
        let address = self.address(host).ip();
        let mut command = self.lab.command(CLIENT, "curl").unwrap();
        command.args(["--silent", "--fail-with-body", "--max-time", "10"]).args(arguments);
        let output = command.arg(format!("http://{address}:{ADMIN_PORT}{path}")).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Switches what programs in a host's kernel do. Names come in the order in which they are told.
    pub(crate) fn switch(&self, host: usize, offload: &str) {
        let path = format!("/replication/{GROUP}/offload");
        let told = self.admin(host, &path, &["--request", "PUT", "--data", offload]);
        assert_eq!(told.as_deref(), Some(&*format!("{offload}\n")));
    }

    /// A metric of a replica: the first one that begins so; none if it tells none.
    pub(crate) fn metric(&self, host: usize, name: &str) -> Option<f64> {
        let text = self.admin(host, "/metrics", &[])?;
        let line = text.lines().find(|line| line.starts_with(&format!("ashlar_{name}")))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// How often programs in a host's kernel did something.
    pub(crate) fn counted(&self, host: usize, outcome: &str) -> f64 {
        let (name, host_name) = ("replication_kernel_frames_total", Self::host(host));
        let labels = format!("{{node=\"{host_name}\",outcome=\"{outcome}\"}}");
        self.metric(host, &format!("{name}{labels}")).unwrap_or(0.0)
    }

    /// Takes a host off the network, as if it had no power; the `others` have to ask for its Ethernet address anew.
    pub(crate) fn unplug(&self, host: usize, others: &[usize]) {
        let ip = |host: usize, arguments: &[&str]| {
            let command = self.lab.command(&Self::host(host), "ip");
            assert!(command.unwrap().args(arguments).status().unwrap().success());
        };
        ip(host, &["link", "set", "eth0", "down"]);
        let address = self.address(host).ip().to_string();
        for other in others {
            ip(*other, &["neighbour", "flush", "to", &address]);
        }
    }

    /// Waits until somebody leads, and says who.
    pub(crate) fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |host: &usize| self.metric(*host, "replication_leads") == Some(1.0);
            if let Some(leader) = (0..3).find(leads) {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads");
        }
    }

    /// Everything up to here is committed, as a host's replica knows.
    pub(crate) fn committed(&self, host: usize) -> f64 {
        self.metric(host, "replication_committed").unwrap()
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
        if !self.offloads.is_empty() {
            let programs = self.directory.path().join(PROGRAMS);
            // If it is not there, the test has failed before.
            let _ = Command::new("umount").arg("--lazy").arg(&programs).status();
        }
        if std::thread::panicking() {
            for host in 0..HOSTS {
                let log = self.directory.path().join(format!("{}.log", Self::host(host)));
                println!("{}:\n{}", log.display(), fs::read_to_string(&log).unwrap_or_default());
            }
        }
    }
}
