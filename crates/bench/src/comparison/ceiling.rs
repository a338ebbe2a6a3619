//! The ceiling over HTTPS: nginx with files on every storage node's host.

use super::ComparisonError;
use crate::peers::{FilesSpec, HttpsSpec, ProxySpec};
use crate::units::ByteSize;
use ashlar_lab::{Lab, Role};
use ashlar_object::synthetic::byte_at;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the servers of files listen.
const PORT: u16 = 9443;
/// What they are called among a host's processes.
const PROCESS: &str = "nginx-files";

/// Servers of files that run until the lab ends. Idle ones cost nothing.
pub(super) struct Ceiling {
    root: PathBuf,
    addresses: Vec<SocketAddr>,
}

impl Ceiling {
    /// Starts a server on the host of each storage node, with the front end's certificate, threads
    /// and connections.
    pub(super) fn start(
        lab: &Lab,
        proxy: &ProxySpec,
        directory: &Path,
    ) -> Result<Self, ComparisonError> {
        let Some(https) = &proxy.https else {
            unreachable!("the ceiling over HTTPS is measured over HTTPS");
        };
        let root = directory.join("files");
        fs::create_dir_all(&root).map_err(cannot_provide)?;
        let mut addresses = Vec::new();
        for host in lab.hosts().filter(|host| host.role == Role::Storage) {
            let address = SocketAddr::from((lab.address(&host.name)?, PORT));
            let spec = FilesSpec {
                https: HttpsSpec { address, ..https.clone() },
                root: root.clone(),
                threads: proxy.threads,
                connections_max: proxy.connections_max,
            };
            let command = spec.prepare(&directory.join(format!("{PROCESS}-{}", host.name)))?;
            lab.spawn_in(&host.name, PROCESS, &command)?;
            addresses.push(address);
        }
        Ok(Self { root, addresses })
    }

    /// Has every server have the synthetic object of `size` under these names.
    pub(super) fn provide(&self, names: &[String], size: ByteSize) -> Result<(), ComparisonError> {
        for name in names {
            let path = self.root.join(name);
            if !path.exists() {
                let content: Vec<u8> = (0..size.bytes()).map(byte_at).collect();
                fs::write(path, content).map_err(cannot_provide)?;
            }
        }
        Ok(())
    }

    /// Where they listen, in the order of the storage nodes.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn cannot_provide(source: io::Error) -> ComparisonError {
    ComparisonError::System { what: "provide files for the ceiling".to_owned(), source }
}
