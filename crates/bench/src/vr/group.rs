//! A group of `ashlar node` processes on this machine.

use super::processes::{Processes, free_tcp, free_udp, metric, metrics, system};
use super::spec::{Mode, Offload};
use crate::comparison::ComparisonError;
use ashlar_lab::Lab;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cluster's name.
pub(super) const CLUSTER: &str = "bench";
/// The group's number.
pub(super) const GROUP: u32 = 1;

/// A group that runs until it is dropped.
pub(super) struct Group<'a> {
    executable: PathBuf,
    directory: PathBuf,
    processes: Processes,
    /// Where the replicas are.
    pub(super) members: Vec<SocketAddr>,
    /// Where they tell what they count.
    admins: Vec<SocketAddr>,
    site: Site<'a>,
    shape: Shape,
}

/// Where members run.
#[derive(Clone, Copy)]
pub(super) enum Site<'a> {
    /// On this machine's loopback.
    Loopback,
    /// Each on a host of a lab, programs of the kernel pinned in this directory. Whoever talks to them must be in one of its namespaces.
    Lab(&'a Lab, &'a Path),
}

/// How a group runs.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) mode: Mode,
    pub(super) members: usize,
    /// What programs in the kernel do.
    pub(super) offload: Offload,
    /// Entries that share a message, at most; none for the default.
    pub(super) batch: Option<usize>,
}

impl Shape {
    /// As nodes run by default.
    pub(super) fn plain(mode: Mode, members: usize) -> Self {
        Self { mode, members, offload: Offload::None, batch: None }
    }
}

/// Ports of members in a lab.
const LAB_PORT: u16 = 7_400;
/// Ports of admin addresses there.
const LAB_ADMIN_PORT: u16 = 9_900;

impl Site<'_> {
    /// The name of a member's host.
    fn host(place: usize) -> String {
        format!("s{}", place + 1)
    }

    /// Where members listen, and where they tell what they count.
    fn addresses(
        self,
        count: usize,
    ) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), ComparisonError> {
        let free = "find free ports";
        match self {
            Self::Loopback => Ok((
                free_udp(count).map_err(system(free.to_owned()))?,
                free_tcp(count).map_err(system(free.to_owned()))?,
            )),
            Self::Lab(lab, _) => {
                let hosts = (0..count).map(|place| lab.address(&Self::host(place)));
                let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
                let at = |port| hosts.iter().map(|host| SocketAddr::from((*host, port))).collect();
                Ok((at(LAB_PORT), at(LAB_ADMIN_PORT)))
            }
        }
    }

    /// What runs a program as a member.
    fn command(self, place: usize, program: &Path) -> Result<Command, ComparisonError> {
        match self {
            Self::Loopback => Ok(Command::new(program)),
            Self::Lab(lab, _) => Ok(lab.command(&Self::host(place), program)?),
        }
    }
}

impl<'a> Group<'a> {
    /// Starts a group whose data lie in `directory`, which is empty.
    pub(super) fn start(
        executable: &Path,
        directory: &Path,
        site: Site<'a>,
        shape: Shape,
    ) -> Result<Self, ComparisonError> {
        let (members, admins) = site.addresses(shape.members)?;
        let mut group = Self {
            executable: executable.to_owned(),
            directory: directory.to_owned(),
            processes: Processes::new(directory, shape.members),
            members,
            admins,
            site,
            shape,
        };
        for place in 0..shape.members {
            let file = group.file(place);
            let text = group.configuration(place);
            fs::write(&file, text).map_err(system(format!("write {}", file.display())))?;
            group.format(place)?;
            group.run(place)?;
        }
        group.leader()?;
        group.wait_for_programs()?;
        Ok(group)
    }

    /// Fails if the kernel did not take what programs are to do.
    fn wait_for_programs(&mut self) -> Result<(), ComparisonError> {
        let count = self.shape.offload.names(self.shape.mode).len();
        let admins = &self.admins;
        let has_all = |admin: &SocketAddr| {
            metrics(*admin, "ashlar_replication_offload{")
                .is_ok_and(|values| values.iter().sum::<f64>() as usize == count)
        };
        self.processes.wait_for("wait for programs in the kernel", || {
            admins.iter().all(has_all).then_some(())
        })
    }

    fn file(&self, place: usize) -> PathBuf {
        self.directory.join(format!("member-{place}.toml"))
    }

    fn configuration(&self, place: usize) -> String {
        let Shape { mode, offload, batch, .. } = self.shape;
        let offload = offload.names(mode);
        let members: Vec<_> = self.members.iter().map(|member| format!("\"{member}\"")).collect();
        let (members, mode, admin) = (members.join(", "), mode.name(), self.admins[place]);
        let (listen, data) = (self.members[place], self.directory.join(format!("data-{place}")));
        let batch = batch.map(|entries| format!("batch_entries_max = {entries}\n"));
        let programs = match self.site {
            Site::Loopback => String::new(),
            Site::Lab(_, programs) => format!("programs = {programs:?}\nxdp = \"native\"\n"),
        };
        format!(
            "[cluster]\nid = \"{CLUSTER}\"\n[node]\nname = \"n{place}\"\ndata = {data:?}\n\
             [admin]\nlisten = \"{admin}\"\n[replication]\nlisten = \"{listen}\"\n{programs}\
             [[replication.group]]\nnumber = {GROUP}\nservice = \"kv\"\nmode = \"{mode}\"\n\
             members = [{members}]\noffload = {offload:?}\n{}",
            batch.unwrap_or_default()
        )
    }

    /// Creates a member's journal.
    fn format(&self, place: usize) -> Result<(), ComparisonError> {
        let mut command = Command::new(&self.executable);
        let output = command.arg("format").arg("--config").arg(self.file(place)).output();
        let output = output.map_err(system("run `ashlar format`".to_owned()))?;
        if output.status.success() {
            return Ok(());
        }
        let source = io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        Err(system("create a journal".to_owned())(source))
    }

    /// Runs a member's process, which does not run.
    pub(super) fn run(&mut self, place: usize) -> Result<(), ComparisonError> {
        let mut command = self.site.command(place, &self.executable)?;
        command.arg("node").arg("--config").arg(self.file(place));
        self.processes.start(place, command)
    }

    /// Ends a member's process at once.
    pub(super) fn kill(&mut self, place: usize) {
        self.processes.kill(place);
    }

    /// Waits until one leads; its place.
    pub(super) fn leader(&mut self) -> Result<usize, ComparisonError> {
        let admins = &self.admins;
        self.processes.wait_for("wait for a leader", || leader(admins))
    }

    /// Waits until a member that was started has executed what the leader had executed just now.
    pub(super) fn wait_for_member(&mut self, place: usize) -> Result<(), ComparisonError> {
        let leader = self.leader()?;
        let executed = |admin| metric(admin, "ashlar_replication_executed").ok();
        let (leader, member) = (self.admins[leader], self.admins[place]);
        self.processes.wait_for("wait for a member to follow", || {
            (executed(member)? >= executed(leader)? && executed(leader)? > 0.0).then_some(())
        })
    }

    /// The processes' numbers, the leader's first.
    pub(super) fn numbers(&mut self) -> Result<Vec<u32>, ComparisonError> {
        let leader = self.leader()?;
        let mut numbers = self.processes.numbers();
        numbers.swap(0, leader);
        Ok(numbers)
    }
}

fn leader(admins: &[SocketAddr]) -> Option<usize> {
    // One that does not answer does not lead.
    let leads = |admin: &SocketAddr| metric(*admin, "ashlar_replication_leads").unwrap_or(0.0);
    admins.iter().position(|admin| leads(admin) > 0.0)
}
