//! The role of a switch: steering on a host that clients' packets pass, for any number of front ends.
//!
//! The kernel program steers and answers control datagrams by itself. This process attaches it, sweeps its table, and forgets the
//! connections of storage nodes that die.

use super::{
    FRONT_END_ID, HandOffError, lock, owner_id,
    start::{cluster_key, interface},
    steering::{Metrics, attach_to, forget_owner, settings, sweep},
};
use crate::{
    admin::Health,
    config::{Config, Switch},
    metrics::Registry,
    threads::Threads,
};
use ashlar_kernel::steering::Steering;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

/// Front ends' numbers have this bit, storage nodes' have not.
const FRONT_END_BIT: u16 = 1 << 15;
/// Control datagrams are taken from whoever has a number.
const SENDERS_MAX: u32 = 1 << 16;
/// How long a storage node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at a storage node that may have died.
const WATCH_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at one that is known not to run.
const WATCH_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a switch numbers a front end, among senders and owners: by the end of its address, which is another for each front end of
/// one Ethernet segment. (Of two with the same number, steering would take the requests of one for repetitions.)
pub(super) fn front_end_id(address: IpAddr) -> u16 {
    let end = match address {
        IpAddr::V4(address) => address.to_bits() as u16,
        IpAddr::V6(address) => address.to_bits() as u16,
    };
    FRONT_END_BIT | end
}

/// Attaches steering to the switch's interfaces.
///
/// # Errors
/// When the configuration does not fit this host, or the kernel refuses.
pub(crate) fn start(
    config: &Config,
    role: &Switch,
    threads: &Threads,
    registry: &mut Registry,
) -> Result<Arc<dyn Health>, HandOffError> {
    let own_interface = interface(role.control.ip())?.name;
    let key = cluster_key(config)?;
    let mut settings = settings(role.control, &key, FRONT_END_ID, role.flows_max);
    settings.senders_max = SENDERS_MAX;
    let mut steering = Steering::load(&settings)?;
    steering.attach_to_ports(&own_interface, &role.interfaces, attach_to(role.attach))?;
    tracing::info!(control = %role.control, own_interface, "steering for front ends");
    let steering = Arc::new(Mutex::new(steering));
    threads.spawn_background(0, sweep(Arc::clone(&steering), Metrics::new(registry)));
    for node in config.cluster.map.nodes() {
        let address = &config.cluster.nodes[usize::from(node.0)];
        // The configuration was checked for it.
        let Some(handoff) = address.handoff else { continue };
        let (name, steering) = (address.name.clone(), Arc::clone(&steering));
        threads.spawn_background(0, watch(steering, owner_id(node), name, handoff));
    }
    Ok(Arc::new(SwitchHealth(steering)))
}

/// Forgets a storage node's flows as soon as its process has ended, for ever.
async fn watch(steering: Arc<Mutex<Steering>>, owner_id: u16, name: String, handoff: SocketAddr) {
    let mut pause = WATCH_PAUSE;
    loop {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(handoff)).await {
            Ok(Ok(stream)) => {
                closed(stream).await;
                pause = WATCH_PAUSE;
            }
            // Nobody listens: the process has ended, and its connections with it.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                forget_owner(&steering, owner_id, &name);
                pause = (2 * pause).min(WATCH_PAUSE_MAX);
            }
            // It may live, behind a network that does not work.
            Ok(Err(_)) | Err(_) => pause = WATCH_PAUSE_MAX,
        }
        sleep(pause).await;
    }
}

/// Returns when a storage node's end of a connection is closed: by its death, or because nothing comes for a few seconds.
async fn closed(mut stream: TcpStream) {
    // It sends nothing before a greeting, which it does not get.
    while stream.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {}
}

/// A switch is ready while it is attached to the interfaces that there are.
struct SwitchHealth(Arc<Mutex<Steering>>);

impl Health for SwitchHealth {
    fn ready(&self) -> Result<(), String> {
        lock(&self.0).check_attached().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::map::{NODES_MAX, NodeIndex};

    #[test]
    fn no_front_end_of_a_segment_has_the_number_of_another_node() {
        let ids = ["10.0.0.10", "10.0.0.11", "10.0.1.10", "fd00::a0a"].map(|address| {
            let id = front_end_id(address.parse().unwrap());
            assert!(id > owner_id(NodeIndex(NODES_MAX as u16 - 1)));
            id
        });
        assert!((1..ids.len()).all(|place| !ids[..place].contains(&ids[place])));
    }
}
