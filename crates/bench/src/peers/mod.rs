//! What others wrote and is measured beside ours, each configured as well as we know how: a
//! comparison against a badly configured peer says nothing. docs/benchmarks.md argues every line.

pub mod etcd;

mod files;
mod haproxy;
mod nginx;
#[cfg(test)]
mod testing;

pub use files::FilesSpec;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// Where system administrators' programs are, which may be missing in a user's PATH.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A proxy that others wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

/// What a peer is to do: what our front end does.
#[derive(Clone, Debug)]
pub struct ProxySpec {
    /// Where clients connect over HTTP.
    pub http: SocketAddr,
    /// Where clients connect over HTTPS, if they do.
    pub https: Option<HttpsSpec>,
    /// The storage nodes' HTTP addresses; at least one.
    pub upstreams: Vec<SocketAddr>,
    /// Event-loop threads, or single-threaded processes.
    pub threads: usize,
    /// The most client connections at one time.
    pub connections_max: usize,
}

/// The HTTPS side of a [`ProxySpec`].
#[derive(Clone, Debug)]
pub struct HttpsSpec {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub private_key: PathBuf,
}

/// Why a peer cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not installed.
    #[error("--peer {peer}: no `{peer}` on this machine; install Debian's package `{package}`")]
    Missing {
        /// The peer's name, which is its program's.
        peer: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// Its configuration cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A text that names no peer.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a peer: nginx or haproxy")]
pub struct NotAPeer(String);

impl Peer {
    /// Its name, as on the command line and in the names of ratios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Where its program is.
    ///
    /// # Errors
    /// [`PeerError::Missing`], which names the package.
    pub fn program(self) -> Result<PathBuf, PeerError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let missing = PeerError::Missing { peer: self.name(), package: self.package() };
        program_in(self.name(), &path).ok_or(missing)
    }

    /// Its version, as it says itself, in one line; `None` if it does not say.
    pub fn version(self) -> Option<String> {
        version_of(Command::new(self.program().ok()?).arg("-v"))
    }

    /// Writes its configuration into `directory` and returns the command that runs it in the
    /// foreground until SIGTERM.
    ///
    /// # Errors
    /// When it is not installed or a file cannot be written.
    pub fn prepare(self, spec: &ProxySpec, directory: &Path) -> Result<Command, PeerError> {
        match self {
            Self::Nginx => nginx::prepare(&nginx::configuration(spec, directory), directory),
            Self::Haproxy => {
                let mut command = Command::new(self.program()?);
                if let Some(https) = &spec.https {
                    let both = read(&https.certificate)? + &read(&https.private_key)?;
                    write_private(&haproxy::certificate(directory), &both)?;
                }
                let configuration = directory.join("haproxy.cfg");
                write_private(&configuration, &haproxy::configuration(spec, directory))?;
                command.arg("-db").arg("-f").arg(&configuration);
                Ok(command)
            }
        }
    }

    /// Debian's package that has the program.
    fn package(self) -> &'static str {
        match self {
            Self::Nginx => "nginx-light",
            Self::Haproxy => "haproxy",
        }
    }
}

fn program_in(name: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// The first line of what a program says of itself.
fn version_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    // nginx answers on stderr, others on stdout.
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Peer {
    type Err = NotAPeer;

    fn from_str(text: &str) -> Result<Self, NotAPeer> {
        [Self::Nginx, Self::Haproxy]
            .into_iter()
            .find(|peer| peer.name() == text)
            .ok_or_else(|| NotAPeer(text.to_owned()))
    }
}

fn read(path: &Path) -> Result<String, PeerError> {
    fs::read_to_string(path).map_err(|source| PeerError::Write { path: path.to_owned(), source })
}

/// Writes a file that only its owner may read: it may hold a private key.
fn write_private(path: &Path, text: &str) -> Result<(), PeerError> {
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|source| PeerError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_peer_has_a_name() {
        assert_eq!("nginx".parse::<Peer>().unwrap(), Peer::Nginx);
        assert_eq!("haproxy".parse::<Peer>().unwrap(), Peer::Haproxy);
        assert!("envoy".parse::<Peer>().unwrap_err().to_string().contains("envoy"));
    }

    #[test]
    fn a_program_is_found_in_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("haproxy");
        fs::write(&program, "").unwrap();
        let path = directory.path().as_os_str().to_owned();
        assert_eq!(program_in("haproxy", &path), Some(program));
    }

    #[test]
    fn a_missing_program_is_one_line_with_the_package() {
        let error = PeerError::Missing { peer: "nginx", package: Peer::Nginx.package() };
        let text = error.to_string();
        assert!(text.contains("`nginx`") && text.contains("nginx-light"));
        assert_eq!(text.lines().count(), 1);
    }
}
