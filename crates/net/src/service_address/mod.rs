//! The service address on a storage node: clients' packets that arrive at this host's hardware address reach a socket here, and
//! nobody but the front end answers for the address.
//!
//! A rule sends packets of TCP to the listener's address and port into a routing table of our own, where the address is one of this
//! host's. Everywhere else it is not: neighbour discovery (ARP, NDP) asks without protocol and port, so this host neither answers for
//! the address nor asks in its name, and it reaches the front end, whose only address it may be, by any other port.
//!
//! Limits first:
//! - Needs `CAP_NET_ADMIN`, and a kernel with policy routing (`CONFIG_IP_MULTIPLE_TABLES`, `CONFIG_IPV6_MULTIPLE_TABLES`).
//! - Sockets must be transparent (`IP_TRANSPARENT`) to use the address; [`crate::repair::import`] makes them so.
//! - This host's own programs are no clients of the listener any more: their connections come here, too, and are refused.
//! - A packet for a connection that is not here (any more) is not answered with a reset over IPv4, where the kernel does not send from
//!   addresses that are not the host's; over IPv6 it is.
//! - What a process left behind when it was killed is found and used by the next one, and stays. Of two processes that prepare the same
//!   listener, the one that was first takes its route away when it ends.
//! - The loopback interface must be up, and strict reverse-path filtering (`rp_filter=1`) must not see clients by another interface.

mod interfaces;
mod netlink;

pub use interfaces::{Interface, interface_of};

use netlink::{Entry, RouteSocket};
use std::io;
use std::net::SocketAddr;

/// Why a host cannot take packets for a listener.
#[derive(Debug, thiserror::Error)]
pub enum ServiceRouteError {
    /// The kernel cannot be asked.
    #[error("cannot open a socket of rtnetlink: {0}")]
    Socket(#[source] io::Error),
    /// The route to this host is refused.
    #[error("cannot add a route that takes packets for {listener} to this host: {source}")]
    Route {
        /// The front end's listener.
        listener: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The rule that selects the packets is refused.
    #[error("cannot add a rule for packets to {listener}: {source}")]
    Rule {
        /// The front end's listener.
        listener: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Keeps packets for a listener coming to this host's sockets. Dropping it removes what it added.
#[derive(Debug)]
#[must_use = "the route goes when this is dropped"]
pub struct ServiceRoute {
    /// Of the network namespace that the entries were added in.
    socket: RouteSocket,
    listener: SocketAddr,
    /// What was not there before, in the order in which it was added.
    added: Vec<Entry>,
}

impl Drop for ServiceRoute {
    fn drop(&mut self) {
        for entry in self.added.iter().rev() {
            // Best effort: somebody else may have removed it, and nobody is left to tell.
            let _ = self.socket.remove(*entry, self.listener);
        }
    }
}

/// Makes this host take TCP packets for a front end's `listener`, without claiming its address. Changes nothing for a host that carries
/// the address itself. Can be called again. Does not block.
///
/// # Errors
/// When the kernel refuses: mostly for lack of privileges. Nothing of it stays then.
pub fn prepare(listener: SocketAddr) -> Result<ServiceRoute, ServiceRouteError> {
    let socket = RouteSocket::open().map_err(ServiceRouteError::Socket)?;
    let mut route = ServiceRoute { socket, listener, added: Vec::new() };
    route.add(Entry::Route).map_err(|source| ServiceRouteError::Route { listener, source })?;
    route.add(Entry::Rule).map_err(|source| ServiceRouteError::Rule { listener, source })?;
    Ok(route)
}

impl ServiceRoute {
    fn add(&mut self, entry: Entry) -> io::Result<()> {
        if self.socket.add(entry, self.listener)? {
            self.added.push(entry);
        }
        Ok(())
    }
}
