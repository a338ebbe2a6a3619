//! Building a lab. The state file names everything before it is made, so that `down` finds it after any crash.

use crate::cgroup::{self, Places};
use crate::configuration;
use crate::error::{Context, LabError, Result};
use crate::name::LabName;
use crate::observer::Observer;
use crate::spec::LabSpec;
use crate::state::{Directory, HostState, Lock, State};
use crate::system::ethtool::{Feature, Setting};
use crate::topology::{self, HOST_INTERFACE, Host, Role};
use crate::{down, ip, namespace, nodes};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Builds the lab and starts its nodes. On failure nothing of it remains.
pub(crate) fn up(spec: &LabSpec, observer: &mut dyn Observer) -> Result<State> {
    require_root()?;
    if !ip::is_present() {
        return Err(LabError::IpMissing);
    }
    spec.check()?;
    refuse_traces(&spec.name)?;
    let directory = Directory::of(&spec.name);
    let plan = plan(spec, &directory)?;
    if !directory.create()? {
        return Err(taken(&spec.name, format!("{} is there", directory.path().display())));
    }
    let Some(lock) = directory.lock(&spec.name)? else {
        return Err(LabError::Busy { name: spec.name.to_string() });
    };
    let mut state = plan;
    let built = build(spec, &directory, &lock, &mut state, observer);
    if let Err(error) = built {
        if let Err(leftover) = down::tear_down(&spec.name, &directory) {
            tracing::warn!(lab = %spec.name, error = %leftover, "the lab could not be removed whole");
        }
        return Err(error);
    }
    drop(lock);
    Ok(state)
}

/// Refuses to go on without the rights that everything here takes.
pub(crate) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

fn taken(name: &LabName, trace: String) -> LabError {
    LabError::NameTaken { name: name.to_string(), trace }
}

fn refuse_traces(name: &LabName) -> Result<()> {
    if let Some(namespace) = namespace::of_lab(name).first() {
        return Err(taken(name, format!("network namespace {namespace} is there")));
    }
    if !cgroup::Remains::of(name).is_empty() {
        return Err(taken(name, "its control groups are there".to_owned()));
    }
    Ok(())
}

/// Everything that the lab will consist of.
fn plan(spec: &LabSpec, directory: &Directory) -> Result<State> {
    let executable = match &spec.executable {
        Some(path) => path.canonicalize().context(|| format!("binary {}", path.display()))?,
        None => std::env::current_exe().context(|| "find the running binary".to_owned())?,
    };
    let places = Places::detect();
    if spec.server_quota.is_some() && places.quota.is_none() {
        return Err(LabError::NoQuota { reason: "no cpu controller is mounted".to_owned() });
    }
    let hosts = topology::hosts(spec)
        .into_iter()
        .map(|host| HostState {
            quota: spec
                .server_quota
                .filter(|_| matches!(host.role, Role::FrontEnd | Role::Storage)),
            cgroup: places.of_host(&spec.name, &host.name),
            configuration: configuration::runs_node(spec, &host)
                .then(|| directory.configuration(&host.name)),
            host,
        })
        .collect();
    Ok(State::new(spec.name.clone(), executable, hosts))
}

fn build(
    spec: &LabSpec,
    directory: &Directory,
    lock: &Lock,
    state: &mut State,
    observer: &mut dyn Observer,
) -> Result<()> {
    directory.save(state)?;
    let hosts: Vec<Host> = state.hosts.iter().map(|host| host.host.clone()).collect();

    observer.progress("making hosts");
    make_cgroups(directory, state)?;
    ip::batch_under(lock, &topology::namespace_batch(&hosts))?;
    write_hosts_files(&hosts)?;
    go_on(observer)?;

    observer.progress("wiring hosts");
    wire(spec, &hosts)?;
    go_on(observer)?;

    write_configurations(spec, directory, &hosts)?;
    if spec.start_nodes {
        observer.progress("starting nodes");
        start_nodes(spec, directory, state, observer)?;
    }
    state.complete = true;
    directory.save(state)
}

fn go_on(observer: &dyn Observer) -> Result<()> {
    if observer.is_cancelled() { Err(LabError::Interrupted) } else { Ok(()) }
}

/// Without a quota a lab works without control groups too: then nothing counts its CPU time.
fn make_cgroups(directory: &Directory, state: &mut State) -> Result<()> {
    for index in 0..state.hosts.len() {
        let host = &mut state.hosts[index];
        match host.cgroup.create(host.quota) {
            Ok(()) => {}
            Err(error) if host.quota.is_some() => return Err(error),
            Err(error) => {
                tracing::warn!(host = host.host.name, %error, "no control group: CPU time will not be counted");
                host.cgroup = Places::default();
                directory.save(state)?;
            }
        }
    }
    Ok(())
}

fn write_hosts_files(hosts: &[Host]) -> Result<()> {
    let text = topology::hosts_file(hosts);
    for host in hosts {
        let overlay = namespace::overlay(&host.namespace);
        fs::create_dir_all(&overlay).context(|| format!("make {}", overlay.display()))?;
        let file = overlay.join("hosts");
        fs::write(&file, &text).context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn wire(spec: &LabSpec, hosts: &[Host]) -> Result<()> {
    for host in hosts {
        namespace::within(&host.namespace, quieten)??;
    }
    let switch = spec.name.namespace(topology::SWITCH);
    ip::batch(Some(&switch), &topology::switch_batch(&spec.name, hosts))?;
    for host in hosts {
        if host.role != Role::Switch {
            ip::batch(Some(&host.namespace), &topology::host_batch(host))?;
        }
        if spec.xdp_ready && host.role != Role::Switch {
            suit_xdp(&switch, host)?;
        }
    }
    Ok(())
}

/// No IPv6 that nobody uses, and no firewall hooks for bridged frames. Where the kernel lacks either, all is well.
fn quieten() -> Result<()> {
    const SETTINGS: [(&str, &str); 5] = [
        ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
        ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
        ("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"),
        ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0"),
        ("/proc/sys/net/bridge/bridge-nf-call-arptables", "0"),
    ];
    for (path, value) in SETTINGS {
        match fs::write(path, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("write {value} to {path}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// XDP_TX and XDP_REDIRECT forward frames as they are: their checksums must be complete when they leave the sender, and
/// the receiving end of a veth takes redirected frames only if it polls, which receive offload makes it do.
fn suit_xdp(switch: &str, host: &Host) -> Result<()> {
    let set = |namespace: &str, interface: &str, feature, on| {
        Setting { namespace: namespace.to_owned(), interface: interface.to_owned(), feature, on }
            .apply()
    };
    set(&host.namespace, HOST_INTERFACE, Feature::TransmitChecksum, false)?;
    set(&host.namespace, HOST_INTERFACE, Feature::GenericReceive, true)?;
    set(switch, host.port(), Feature::GenericReceive, true)
}

fn write_configurations(spec: &LabSpec, directory: &Directory, hosts: &[Host]) -> Result<()> {
    for subdirectory in ["config", "log"] {
        make_directory(&directory.path().join(subdirectory))?;
    }
    let key_file = directory.path().join("cluster.key");
    write_key(&key_file).context(|| format!("write {}", key_file.display()))?;
    let key_file = key_file.canonicalize().context(|| key_file.display().to_string())?;
    for host in hosts {
        if !configuration::runs_node(spec, host) {
            continue;
        }
        let data = data_directory(spec, directory, &host.name)?;
        let Some(text) = configuration::render(spec, hosts, host, &data, &key_file) else {
            continue;
        };
        let path = directory.configuration(&host.name);
        fs::write(&path, text).context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Makes the key from which the nodes know each other, for nobody but this user to read.
fn write_key(path: &Path) -> io::Result<()> {
    let digits: String = (0..32).map(|_| format!("{:02x}", rand::random::<u8>())).collect();
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{digits}")
}

/// Makes the data directory of a host's node; its absolute path.
fn data_directory(spec: &LabSpec, directory: &Directory, host: &str) -> Result<PathBuf> {
    let path = match &spec.data {
        Some(data) => data.join(host),
        None => directory.data(host),
    };
    make_directory(&path)?;
    path.canonicalize().context(|| path.display().to_string())
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("make {}", path.display()))
}

fn start_nodes(
    spec: &LabSpec,
    directory: &Directory,
    state: &mut State,
    observer: &mut dyn Observer,
) -> Result<()> {
    let deadline = Instant::now() + spec.ready_timeout;
    // Those that others ask come first: a front end that finds them serving need not find out later.
    for role in [Role::Switch, Role::Storage, Role::FrontEnd] {
        let hosts: Vec<String> = state
            .hosts
            .iter()
            .filter(|host| host.host.role == role && host.configuration.is_some())
            .map(|host| host.host.name.clone())
            .collect();
        for host in &hosts {
            nodes::start(directory, state, host)?;
        }
        nodes::wait_ready(directory, state, &hosts, deadline, observer)?;
    }
    Ok(())
}
