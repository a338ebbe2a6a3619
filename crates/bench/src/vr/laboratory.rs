//! A lab for groups whose programs are in the kernel: each member on a host of its own, and the clients on another.

use super::group::{Group, Shape, Site};
use super::outcome::Measured;
use super::processes::system;
use super::spec::{Case, Offload, VrSpec};
use super::{directory, load};
use crate::comparison::ComparisonError;
use ashlar_kernel::chaos::{Attachment, Chaos, XdpMode};
use ashlar_lab::{CLIENT, Engine, Host, Lab, LabSpec, Role, SWITCH};
use std::io;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A lab, and a file system where programs are pinned. Both are gone when this is dropped.
pub(super) struct Laboratory {
    /// At each port of the switch: a virtual pair delivers what a program answers only where its other end has a program, too. These
    /// have no configuration, and pass everything.
    _ports: Vec<Chaos>,
    // Its processes use the file system.
    lab: Lab,
    programs: Mounted,
}

/// A directory with a file system of BPF. Hosts of a lab do not see the usual one.
struct Mounted(TempDir);

impl Laboratory {
    /// Builds it, with a host for each of so many members.
    pub(super) fn build(spec: &VrSpec, members: usize) -> Result<Self, ComparisonError> {
        let programs = Mounted::new().map_err(system("mount a file system of BPF".to_owned()))?;
        let hosts = u8::try_from(members).expect("groups are small");
        let spec = LabSpec::new(spec.lab.clone())
            .storage_nodes(hosts)
            .engine(Engine::Synthetic)
            .start_nodes(false)
            .executable(&spec.executable);
        let lab = Lab::up(&spec)?.down_on_drop();
        let hosts = lab.hosts().filter(|host| host.role != Role::Switch);
        let ports: Vec<&str> = hosts.map(Host::port).collect();
        let attach = |port: &&str| {
            let mut chaos = Chaos::load()?;
            chaos.attach(port, Attachment::Xdp(XdpMode::Native)).map(|()| chaos)
        };
        let attached = lab.within(SWITCH, || ports.iter().map(attach).collect());
        let attached: Result<Vec<Chaos>, ashlar_kernel::Error> = attached?;
        let failed = |error| system("attach to the switch".to_owned())(io::Error::other(error));
        Ok(Self { _ports: attached.map_err(failed)?, lab, programs })
    }

    /// Measures a group, seen from the client's host.
    pub(super) fn measure(
        &self,
        spec: &VrSpec,
        offload: Offload,
        case: &Case,
    ) -> Result<Measured, ComparisonError> {
        let directory = directory(&spec.directory)?;
        let shape = Shape { mode: case.mode, members: case.members, offload, batch: spec.batch };
        self.lab.within(CLIENT, || {
            let site = Site::Lab(&self.lab, self.programs.path());
            let mut group = Group::start(&spec.executable, directory.path(), site, shape)?;
            load(spec, case, &mut group)
        })?
    }
}

impl Mounted {
    fn new() -> io::Result<Self> {
        let mounted = Self(tempfile::Builder::new().prefix("ashlar-bpf-").tempdir()?);
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(mounted.path()))?;
        Ok(mounted)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It was not mounted, or somebody looks at it still: then the directory stays, and whoever does sees an empty one.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
