//! etcd: a group of its processes on this machine.

use super::PeerError;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that its store may hold, in bytes: its default of 2 GiB would end a long run.
const QUOTA_BYTES: u64 = 8 << 30;
/// Names of its metrics: whether a member leads.
pub const LEADS_METRIC: &str = "etcd_server_is_leader";

/// One member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where other members connect.
    pub peers: SocketAddr,
}

/// Where its program is.
///
/// # Errors
/// [`PeerError::Missing`], which names the package.
pub fn program() -> Result<PathBuf, PeerError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = PeerError::Missing { peer: "etcd", package: "etcd-server" };
    super::program_in("etcd", &path).ok_or(missing)
}

/// The command that runs a member in the foreground, as its distribution would.
///
/// # Errors
/// When it is not installed.
pub fn command(members: &[Member], place: usize, directory: &Path) -> Result<Command, PeerError> {
    let mut command = Command::new(program()?);
    command.args(arguments(members, place, directory));
    // It listens to these as to its arguments.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_its_own(name)) {
        command.env_remove(name);
    }
    Ok(command)
}

fn is_its_own(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("ETCD_")
}

fn arguments(members: &[Member], place: usize, directory: &Path) -> Vec<String> {
    let named = members.iter().enumerate();
    let all: Vec<String> =
        named.map(|(place, member)| format!("m{place}=http://{}", member.peers)).collect();
    let Member { clients, peers } = &members[place];
    vec![
        format!("--name=m{place}"),
        format!("--data-dir={}", directory.display()),
        format!("--listen-client-urls=http://{clients}"),
        format!("--advertise-client-urls=http://{clients}"),
        format!("--listen-peer-urls=http://{peers}"),
        format!("--initial-advertise-peer-urls=http://{peers}"),
        format!("--initial-cluster={}", all.join(",")),
        "--initial-cluster-state=new".to_owned(),
        format!("--quota-backend-bytes={QUOTA_BYTES}"),
        "--logger=zap".to_owned(),
        "--log-level=error".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_knows_all_members_and_listens_where_it_is() {
        let member = |port| Member {
            clients: SocketAddr::from(([127, 0, 0, 1], port)),
            peers: SocketAddr::from(([127, 0, 0, 1], port + 1)),
        };
        let text = arguments(&[member(10), member(20)], 1, Path::new("/tmp/x")).join("\n");
        let says = [
            "--name=m1",
            "--data-dir=/tmp/x",
            "--listen-client-urls=http://127.0.0.1:20",
            "--listen-peer-urls=http://127.0.0.1:21",
            "--initial-cluster=m0=http://127.0.0.1:11,m1=http://127.0.0.1:21",
        ];
        for line in says {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
