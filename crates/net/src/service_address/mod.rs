//! The service address on a storage node: clients' packets that arrive at this host's hardware address reach a socket here, and
//! nobody but the front end answers for the address.
//!
//! Limits first:
//! - Needs `CAP_NET_ADMIN`, and a writable `/proc/sys` if the host's ARP settings are not what is needed already.
//! - The ARP settings are those of the whole host, and stay when the address goes: other addresses may rest on them.
//! - An address that a process left behind when it was killed is found and used by the next one, and stays.
//! - The loopback interface must be up, and strict reverse-path filtering (`rp_filter=1`) must not see clients by another interface.

mod interfaces;
mod netlink;

pub use interfaces::{Interface, interface_of};

use netlink::RouteSocket;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// The interface whose addresses every other one answers packets for.
const LOOPBACK: &str = "lo";

/// Answer for addresses of the asked interface only: not for those of the loopback interface.
const ARP_IGNORE: Setting = Setting { name: "arp_ignore", at_least: 1 };

/// Ask with an address of the asking interface only. A question from the service address would tell everybody to send to this host.
const ARP_ANNOUNCE: Setting = Setting { name: "arp_announce", at_least: 2 };

/// Why a host cannot take packets for the service address.
#[derive(Debug, thiserror::Error)]
pub enum ServiceAddressError {
    /// The interfaces cannot be read.
    #[error("cannot list the network interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// The address cannot be added.
    #[error("cannot add {address} to the loopback interface: {source}")]
    Add {
        /// The service address.
        address: IpAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The host would answer for the address in the front end's place.
    #[error("cannot set {} to {value}: {source}", path.display())]
    Setting {
        /// The setting's file.
        path: PathBuf,
        /// What it must be at least.
        value: u32,
        /// The system's reason.
        source: io::Error,
    },
}

/// Keeps the address. Dropping it removes the address, if it was not there before.
#[derive(Debug)]
#[must_use = "the address goes when this is dropped"]
pub struct ServiceAddress {
    /// What was added, and a socket of the network namespace that it was added in.
    added: Option<(RouteSocket, IpAddr)>,
}

impl ServiceAddress {
    /// Whether the address was not there before.
    pub fn was_added(&self) -> bool {
        self.added.is_some()
    }
}

impl Drop for ServiceAddress {
    fn drop(&mut self) {
        if let Some((socket, address)) = &self.added {
            // Best effort: somebody else may have removed it, and nobody is left to tell.
            let _ = socket.remove_from_loopback(*address);
        }
    }
}

/// Makes this host take packets for `address`, without claiming it. Does nothing if the host claims it already: then an interface
/// other than the loopback interface carries it. Can be called again.
///
/// # Errors
/// When the kernel refuses: mostly for lack of privileges.
pub fn prepare_service_address(address: IpAddr) -> Result<ServiceAddress, ServiceAddressError> {
    let carrier = interface_of(address).map_err(ServiceAddressError::Interfaces)?;
    if carrier.is_some_and(|carrier| carrier.name != LOOPBACK) {
        return Ok(ServiceAddress { added: None });
    }
    // Before the address is there, so that it is never answered for. Neighbour discovery (IPv6) does what is needed by itself.
    if address.is_ipv4() {
        ARP_IGNORE.ensure()?;
        ARP_ANNOUNCE.ensure()?;
    }
    let failed = |source: io::Error| ServiceAddressError::Add { address, source };
    let socket = RouteSocket::open().map_err(failed)?;
    match socket.add_to_loopback(address) {
        Ok(()) => Ok(ServiceAddress { added: Some((socket, address)) }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(ServiceAddress { added: None })
        }
        Err(error) => Err(failed(error)),
    }
}

/// A setting of all interfaces: the kernel takes the greater of this and the interface's own.
struct Setting {
    name: &'static str,
    at_least: u32,
}

impl Setting {
    fn ensure(&self) -> Result<(), ServiceAddressError> {
        let path = PathBuf::from("/proc/sys/net/ipv4/conf/all").join(self.name);
        let set = || {
            let current = fs::read_to_string(&path)?;
            if current.trim().parse::<u32>().is_ok_and(|value| value >= self.at_least) {
                return Ok(());
            }
            fs::write(&path, self.at_least.to_string())
        };
        set().map_err(|source| ServiceAddressError::Setting {
            path: path.clone(),
            value: self.at_least,
            source,
        })
    }
}
