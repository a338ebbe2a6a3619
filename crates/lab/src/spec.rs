//! What a lab should look like: a builder, and the checks that make it sound.

use crate::error::{LabError, Result};
use crate::name::LabName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The most storage nodes of one lab: more would not measure anything on one machine.
pub const STORAGE_NODES_MAX: u8 = 64;

/// The longest replication chain that a cluster accepts.
pub const REPLICAS_MAX: u8 = 7;

/// Chain length when none is given, if there are as many storage nodes.
const REPLICAS_DEFAULT: u8 = 3;

/// How long `up` waits for every node to serve, when nothing else is said.
const READY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Which storage engine the nodes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Objects on disk, under the data directory.
    #[default]
    Disk,
    /// `GET /N` answers N bytes of deterministic content; for benchmarks.
    Synthetic,
}

/// What runs on the host `fe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrontEnd {
    /// An `ashlar` front end.
    #[default]
    Ashlar,
    /// Nothing: the host is there, for a peer that is to be measured in its place.
    None,
}

/// Whether clients' connections move to the storage nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where the host can do it, for what is large.
    #[default]
    Auto,
    /// As `auto`, and a host that cannot do it does not start.
    Handoff,
    /// Never: the front end relays every byte.
    Relay,
}

/// The CPU time that a host may use, in percent of one core: 100 is a whole core, 250 two and a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct CpuQuota(u32);

impl CpuQuota {
    /// The largest quota: 64 cores.
    pub const PERCENT_MAX: u32 = 6_400;

    /// Checks `percent`.
    ///
    /// # Errors
    /// Refuses 0 and more than [`Self::PERCENT_MAX`].
    pub fn from_percent(percent: u32) -> Result<Self> {
        if percent == 0 || percent > Self::PERCENT_MAX {
            return Err(LabError::BadValue {
                field: "server quota",
                reason: format!("{percent} % is not within 1 and {}", Self::PERCENT_MAX),
            });
        }
        Ok(Self(percent))
    }

    /// The quota in percent of one core.
    pub fn percent(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for CpuQuota {
    type Error = LabError;

    fn try_from(percent: u32) -> Result<Self> {
        Self::from_percent(percent)
    }
}

impl From<CpuQuota> for u32 {
    fn from(quota: CpuQuota) -> Self {
        quota.0
    }
}

/// What a lab should look like. Every method returns the changed specification; [`crate::Lab::up`] checks the whole.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// Tells labs on one machine apart.
    pub(crate) name: LabName,
    /// How many hosts `s1`, `s2`, … there are.
    pub(crate) storage_nodes: u8,
    /// Chain length; the default depends on the number of storage nodes.
    pub(crate) replicas: Option<u8>,
    /// What the storage nodes keep objects in.
    pub(crate) engine: Engine,
    /// What runs on `fe`.
    pub(crate) front_end: FrontEnd,
    /// Whether connections move.
    pub(crate) mode: Mode,
    /// Bodies from this size on flow past the front end; its own default when absent.
    pub(crate) threshold_bytes: Option<u64>,
    /// The same limit for `fe` and every storage node, so that they are hosts of equal strength.
    pub(crate) server_quota: Option<CpuQuota>,
    /// Whether the front end also listens on port 443.
    pub(crate) https: bool,
    /// Event-loop threads of each node; the node's own default when absent.
    pub(crate) threads: Option<u16>,
    /// Where the nodes' data goes; into the lab's own directory when absent.
    pub(crate) data: Option<PathBuf>,
    /// Whether `up` starts the nodes, or only builds their hosts and writes their configuration.
    pub(crate) start_nodes: bool,
    /// Whether steering runs on the switch in place of the front end.
    pub(crate) switch: bool,
    /// Whether the links suit XDP_TX and XDP_REDIRECT at the price of checksums in software.
    pub(crate) xdp_ready: bool,
    /// The `ashlar` binary; the running program when absent.
    pub(crate) executable: Option<PathBuf>,
    /// How long `up` waits for every node to serve.
    pub(crate) ready_timeout: Duration,
}

impl LabSpec {
    /// Three storage nodes on disk behind one front end over HTTP, without quotas.
    pub fn new(name: LabName) -> Self {
        Self {
            name,
            storage_nodes: 3,
            replicas: None,
            engine: Engine::default(),
            front_end: FrontEnd::default(),
            mode: Mode::default(),
            threshold_bytes: None,
            server_quota: None,
            https: false,
            threads: None,
            data: None,
            start_nodes: true,
            switch: false,
            xdp_ready: false,
            executable: None,
            ready_timeout: READY_TIMEOUT_DEFAULT,
        }
    }

    /// How many storage nodes there are: 1 to [`STORAGE_NODES_MAX`].
    pub fn storage_nodes(self, storage_nodes: u8) -> Self {
        Self { storage_nodes, ..self }
    }

    /// Chain length: 1 to [`REPLICAS_MAX`], at most the number of storage nodes. Default: 3, or all nodes if there are fewer.
    pub fn replicas(self, replicas: u8) -> Self {
        Self { replicas: Some(replicas), ..self }
    }

    /// Which storage engine the nodes run.
    pub fn engine(self, engine: Engine) -> Self {
        Self { engine, ..self }
    }

    /// What runs on the host `fe`.
    pub fn front_end(self, front_end: FrontEnd) -> Self {
        Self { front_end, ..self }
    }

    /// Whether connections move to the storage nodes.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Bodies from this size on flow past the front end; 0: all.
    pub fn threshold_bytes(self, threshold_bytes: u64) -> Self {
        Self { threshold_bytes: Some(threshold_bytes), ..self }
    }

    /// Gives `fe` and each storage node the same CPU quota. `up` fails if the kernel has no controller for it.
    pub fn server_quota(self, quota: CpuQuota) -> Self {
        Self { server_quota: Some(quota), ..self }
    }

    /// Whether the front end also serves HTTPS, on port 443 with a self-signed certificate.
    pub fn https(self, https: bool) -> Self {
        Self { https, ..self }
    }

    /// Event-loop threads of each node, at least 1.
    pub fn threads(self, threads: u16) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Keeps the data of host H in `data/H` and leaves it there when the lab is removed.
    pub fn data(self, data: impl Into<PathBuf>) -> Self {
        Self { data: Some(data.into()), ..self }
    }

    /// With `false`, `up` builds the hosts and writes their configuration but starts no node.
    pub fn start_nodes(self, start_nodes: bool) -> Self {
        Self { start_nodes, ..self }
    }

    /// Whether steering runs on the switch, as `ashlar switch`, and the front end asks it. Default: the front end steers.
    pub fn switch(self, switch: bool) -> Self {
        Self { switch, ..self }
    }

    /// Prepares the links for XDP_TX and XDP_REDIRECT: transmit checksum offload off, generic receive offload on.
    /// Costs throughput; off by default.
    pub fn xdp_ready(self, xdp_ready: bool) -> Self {
        Self { xdp_ready, ..self }
    }

    /// The `ashlar` binary that runs the nodes and the fault agents. Default: the running program.
    pub fn executable(self, executable: impl Into<PathBuf>) -> Self {
        Self { executable: Some(executable.into()), ..self }
    }

    /// How long `up` waits for every node to serve. Default: 30 seconds.
    pub fn ready_timeout(self, ready_timeout: Duration) -> Self {
        Self { ready_timeout, ..self }
    }

    /// The chain length that the cluster gets.
    pub(crate) fn chain_length(&self) -> u8 {
        self.replicas.unwrap_or(REPLICAS_DEFAULT.min(self.storage_nodes))
    }

    /// Refuses what no cluster could run with.
    pub(crate) fn check(&self) -> Result<()> {
        if self.storage_nodes == 0 || self.storage_nodes > STORAGE_NODES_MAX {
            return Err(LabError::BadValue {
                field: "storage nodes",
                reason: format!("{} is not within 1 and {STORAGE_NODES_MAX}", self.storage_nodes),
            });
        }
        let replicas = self.chain_length();
        if replicas == 0 || replicas > REPLICAS_MAX || replicas > self.storage_nodes {
            return Err(LabError::BadValue {
                field: "replicas",
                reason: format!(
                    "{replicas} is not within 1 and {} (at most {REPLICAS_MAX}, and at most one on each of {} storage nodes)",
                    REPLICAS_MAX.min(self.storage_nodes),
                    self.storage_nodes
                ),
            });
        }
        if self.threads == Some(0) {
            return Err(LabError::BadValue {
                field: "threads",
                reason: "0 threads cannot serve; give 1 or more".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn spec() -> LabSpec {
        LabSpec::new("lab".parse().unwrap())
    }

    #[test]
    fn the_chain_is_no_longer_than_there_are_storage_nodes() {
        assert_eq!(spec().storage_nodes(1).chain_length(), 1);
        assert_eq!(spec().storage_nodes(5).chain_length(), 3);
        assert!(spec().storage_nodes(3).replicas(3).check().is_ok());
        assert!(
            spec()
                .storage_nodes(2)
                .replicas(3)
                .check()
                .unwrap_err()
                .to_string()
                .starts_with("replicas: ")
        );
        assert!(spec().storage_nodes(9).replicas(8).check().is_err());
    }

    #[test]
    fn counts_of_zero_or_beyond_the_bounds_are_refused() {
        assert!(spec().storage_nodes(0).check().is_err());
        assert!(spec().storage_nodes(STORAGE_NODES_MAX + 1).check().is_err());
        assert!(spec().threads(0).check().is_err());
        assert!(spec().replicas(0).check().is_err());
        assert!(CpuQuota::from_percent(0).is_err());
        assert!(CpuQuota::from_percent(6_401).is_err());
        assert_eq!(CpuQuota::from_percent(20).unwrap().percent(), 20);
    }
}
