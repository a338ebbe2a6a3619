//! A group of `ashlar node` processes on this machine.

use super::processes::{Processes, free_tcp, free_udp, metric, system};
use super::spec::{Case, Mode};
use crate::comparison::ComparisonError;
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
pub(super) struct Group {
    executable: PathBuf,
    directory: PathBuf,
    processes: Processes,
    /// Where the replicas are.
    pub(super) members: Vec<SocketAddr>,
    /// Where they tell what they count.
    admins: Vec<SocketAddr>,
}

impl Group {
    /// Starts a group whose data lie in `directory`, which is empty.
    pub(super) fn start(
        executable: &Path,
        directory: &Path,
        mode: Mode,
        members: usize,
    ) -> Result<Self, ComparisonError> {
        let free = "find free ports";
        let mut group = Self {
            executable: executable.to_owned(),
            directory: directory.to_owned(),
            processes: Processes::new(directory, members),
            members: free_udp(members).map_err(system(free.to_owned()))?,
            admins: free_tcp(members).map_err(system(free.to_owned()))?,
        };
        for place in 0..members {
            let file = group.file(place);
            let text = group.configuration(place, mode);
            fs::write(&file, text).map_err(system(format!("write {}", file.display())))?;
            group.format(place)?;
            group.run(place)?;
        }
        group.leader()?;
        Ok(group)
    }

    /// As a case wants it.
    pub(super) fn of(
        case: &Case,
        executable: &Path,
        directory: &Path,
    ) -> Result<Self, ComparisonError> {
        Self::start(executable, directory, case.mode, case.members)
    }

    fn file(&self, place: usize) -> PathBuf {
        self.directory.join(format!("member-{place}.toml"))
    }

    fn configuration(&self, place: usize, mode: Mode) -> String {
        let members: Vec<_> = self.members.iter().map(|member| format!("\"{member}\"")).collect();
        let (members, mode, admin) = (members.join(", "), mode.name(), self.admins[place]);
        let (listen, data) = (self.members[place], self.directory.join(format!("data-{place}")));
        format!(
            "[cluster]\nid = \"{CLUSTER}\"\n[node]\nname = \"n{place}\"\ndata = {data:?}\n\
             [admin]\nlisten = \"{admin}\"\n[replication]\nlisten = \"{listen}\"\n\
             [[replication.group]]\nnumber = {GROUP}\nservice = \"kv\"\nmode = \"{mode}\"\n\
             members = [{members}]\n"
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
        let mut command = Command::new(&self.executable);
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
