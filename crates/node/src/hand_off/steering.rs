//! Steering that runs in this process: on a front end, or on a switch.

use super::lock;
use crate::{config::AttachTo, metrics::Registry};
use ashlar_fastpath::steering::{ControlAddresses, ControlKey, Counters};
use ashlar_kernel::{
    chaos::XdpMode,
    steering::{Attach, Settings, Steering, now_ns},
};
use ashlar_net::channel_identity::ClusterKey;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks at parts of the table for flows that may have ended.
const PART_INTERVAL: Duration = Duration::from_millis(250);
/// Between two passes over the table: looking through one that is nearly empty costs a millisecond or two.
const PASS_INTERVAL: Duration = Duration::from_secs(2);

/// What steering is loaded with that takes control datagrams at `control`.
pub(super) fn settings(
    control: SocketAddr,
    key: &ClusterKey,
    sender: u16,
    flows_max: usize,
) -> Settings {
    let port = control.port();
    let addresses = match control.ip() {
        IpAddr::V4(address) => ControlAddresses { ipv4: Some(address), ipv6: None, port },
        IpAddr::V6(address) => ControlAddresses { ipv4: None, ipv6: Some(address), port },
    };
    let key = ControlKey::new(*key.steering_key().as_bytes());
    // Checked when the configuration was read.
    Settings { flows_max: flows_max as u32, ..Settings::new(addresses, key, sender) }
}

/// As the kernel knows it.
pub(super) fn attach_to(configured: AttachTo) -> Attach {
    match configured {
        AttachTo::Tc => Attach::Tc,
        AttachTo::Xdp => Attach::Xdp(XdpMode::Native),
    }
}

/// What steering does.
#[derive(Clone)]
pub(super) struct Metrics {
    /// Frames that it looked at, by what became of them.
    frames: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Flows in its table.
    flows: Gauge,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let (frames, flows) = (Family::default(), Gauge::default());
        registry.register(
            "steering_frames",
            "Frames that steering looked at since the start, by what became of them",
            frames.clone(),
        );
        registry.register("steering_flows", "Connections that steering knows", flows.clone());
        Self { frames, flows }
    }

    fn show(&self, counters: &Counters, flows: u64) {
        for (counter, count) in counters.iter() {
            let frames = self.frames.get_or_create(&[("result", counter.name())]);
            frames.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.flows.set(i64::try_from(flows).unwrap_or(i64::MAX));
    }
}

/// Forgets flows that have ended without a word, and shows what steering does.
pub(super) async fn sweep(steering: Arc<Mutex<Steering>>, metrics: Metrics) {
    let mut flows = 0;
    let mut pause = PART_INTERVAL;
    loop {
        sleep(pause).await;
        pause = PART_INTERVAL;
        let swept = {
            let mut steering = lock(&steering);
            steering.sweep(now_ns()).and_then(|sweep| Ok((sweep, steering.counters()?)))
        };
        match swept {
            Ok((sweep, counters)) => {
                flows += sweep.examined - sweep.removed;
                if sweep.is_complete {
                    metrics.show(&counters, flows);
                    (flows, pause) = (0, PASS_INTERVAL);
                }
            }
            Err(error) => tracing::warn!(%error, "steering's flows cannot be swept"),
        }
    }
}

/// Forgets the flows of a storage node whose process has ended: its clients are answered with resets.
pub(super) fn forget_owner(steering: &Mutex<Steering>, owner_id: u16, name: &str) {
    match lock(steering).forget_owner(owner_id) {
        Ok(0) => {}
        Ok(flows) => tracing::info!(flows, node = name, "connections of a lost node end"),
        Err(error) => tracing::warn!(%error, "steering's flows cannot be looked through"),
    }
}
