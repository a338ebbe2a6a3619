//! The configuration file as written, table by table, and the checks of its values.

use super::{
    CertificateFiles, Cluster, Config, ConfigError, EngineKind, FrontEnd, Limits, Log,
    NAME_BYTES_MAX, PARTITIONS_DEFAULT, Storage, StorageAddress, THREADS_MAX,
    hand_off::{HandOff, Mode, SteeringTable},
    replication::ReplicationTable,
    switch::SwitchTable,
};
use ashlar_object::map::{ClusterMap, MapError, Member};
use serde::Deserialize;
use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    cluster: ClusterTable,
    node: NodeTable,
    admin: Option<AdminTable>,
    #[serde(default)]
    log: Log,
    front_end: Option<FrontEndTable>,
    storage: Option<StorageTable>,
    switch: Option<SwitchTable>,
    replication: Option<ReplicationTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterTable {
    id: String,
    replicas: Option<usize>,
    partitions: Option<usize>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    storage: Vec<MemberTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    name: String,
    http: SocketAddr,
    peer: SocketAddr,
    handoff: Option<SocketAddr>,
    weight: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    name: String,
    data: Option<PathBuf>,
    threads: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminTable {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontEndTable {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
    #[serde(default)]
    mode: Mode,
    threshold_bytes: Option<u64>,
    #[serde(default)]
    steering: SteeringTable,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StorageTable {
    engine: EngineKind,
    inline_bytes_max: Option<usize>,
    commit_timeout_ms: Option<u64>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    connections_max: Option<usize>,
    header_bytes_max: Option<usize>,
    header_timeout_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    stall_timeout_ms: Option<u64>,
    drain_timeout_ms: Option<u64>,
}

impl File {
    pub(super) fn check(self, base: &Path) -> Result<Config, ConfigError> {
        let cluster = self.cluster.check(base)?;
        check_name("node.name", &self.node.name)?;
        let threads = match self.node.threads {
            Some(threads) => within("node.threads", threads, 1, THREADS_MAX)?,
            None => std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX)),
        };
        let data = self.node.data.map(|path| base.join(path));
        let front_end =
            self.front_end.map(|table| table.check(base, data.is_some())).transpose()?;
        let storage = match self.storage {
            Some(table) => Some(table.check(&cluster, &self.node.name, data.is_some())?),
            None => None,
        };
        if front_end.as_ref().is_some_and(|role| role.hand_off.mode == Mode::Handoff) {
            cluster.check_hand_off()?;
        }
        let has_objects = front_end.is_some() || storage.is_some();
        if (has_objects || self.switch.is_some()) && cluster.nodes.is_empty() {
            return Err(wrong("cluster.storage", "is missing: objects need storage nodes"));
        }
        let replication = self.replication.map(|table| table.check(data.is_some())).transpose()?;
        let has_role = has_objects || replication.is_some();
        let switch = self.switch.map(SwitchTable::check).transpose()?;
        if switch.is_some() {
            if has_role {
                let problem = "does not go with other roles: give it a file of its own";
                return Err(wrong("switch", problem));
            }
            cluster.check_hand_off()?;
        } else if !has_role {
            return Err(wrong(
                "node",
                "no role: add [front_end], [storage], [replication] or [switch]",
            ));
        }
        let admin = self.admin.map(|admin| admin.listen);
        Ok(Config {
            cluster,
            name: self.node.name,
            data,
            threads,
            admin,
            log: self.log,
            front_end,
            storage,
            switch,
            replication,
        })
    }
}

impl ClusterTable {
    fn check(self, base: &Path) -> Result<Cluster, ConfigError> {
        check_name("cluster.id", &self.id)?;
        let mut members = Vec::new();
        let mut nodes: Vec<StorageAddress> = Vec::new();
        let mut addresses = HashSet::new();
        for table in self.storage {
            check_name("cluster.storage.name", &table.name)?;
            let MemberTable { name, http, peer, handoff, weight } = table;
            for address in [Some(http), Some(peer), handoff].into_iter().flatten() {
                if !addresses.insert(address) {
                    let problem = format!("{address} is used twice");
                    return Err(wrong(&format!("cluster.storage {name}"), problem));
                }
            }
            members.push(Member { name: name.clone(), weight: weight.unwrap_or(1) });
            nodes.push(StorageAddress { name, http, peer, handoff });
        }
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let map = match self.replicas {
            None if members.is_empty() => ClusterMap::empty(&self.id),
            None => return Err(wrong("cluster.replicas", "is missing")),
            Some(replicas) => ClusterMap::new(&self.id, members, replicas, partitions)
                .map_err(|error| wrong(map_key(&error), error.to_string()))?,
        };
        let key_file = self.key_file.map(|path| base.join(path));
        Ok(Cluster { id: self.id, map, nodes, key_file })
    }
}

impl Cluster {
    /// Whether connections can be handed to all storage nodes.
    pub(crate) fn check_hand_off(&self) -> Result<(), ConfigError> {
        if self.key_file.is_none() {
            return Err(wrong("cluster.key_file", "is missing: hand-off needs it"));
        }
        match self.nodes.iter().find(|node| node.handoff.is_none()) {
            Some(node) => {
                let key = format!("cluster.storage {}.handoff", node.name);
                Err(wrong(&key, "is missing: hand-off needs it"))
            }
            None => Ok(()),
        }
    }
}

impl FrontEndTable {
    fn check(self, base: &Path, has_data: bool) -> Result<FrontEnd, ConfigError> {
        if self.http.is_none() && self.https.is_none() {
            return Err(wrong("front_end", "needs http or https"));
        }
        let certificate = match (self.certificate, self.private_key) {
            (Some(certificate), Some(private_key)) => Some(CertificateFiles {
                certificate: base.join(certificate),
                private_key: base.join(private_key),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("front_end.private_key", "is missing")),
            (None, Some(_)) => return Err(wrong("front_end.certificate", "is missing")),
        };
        if self.https.is_some() && certificate.is_none() && !has_data {
            let problem = "https without a certificate needs node.data to keep a self-signed one";
            return Err(wrong("front_end.https", problem));
        }
        let limits = self.limits.check("front_end.limits")?;
        let hand_off = HandOff {
            mode: self.mode,
            threshold_bytes: self.threshold_bytes,
            steering: self.steering.check()?,
        };
        Ok(FrontEnd { http: self.http, https: self.https, certificate, hand_off, limits })
    }
}

impl StorageTable {
    /// The largest body that may be stored with the metadata: frames and pages must hold it.
    const INLINE_BYTES_LIMIT: usize = 1 << 20;
    pub(super) const INLINE_BYTES_DEFAULT: usize = 32 * 1024;

    fn check(self, cluster: &Cluster, name: &str, has_data: bool) -> Result<Storage, ConfigError> {
        let index = cluster
            .map
            .node_named(name)
            .ok_or_else(|| wrong("node.name", format!("no [[cluster.storage]] is named {name}")))?;
        if self.engine == EngineKind::Disk && !has_data {
            return Err(wrong("node.data", "the disk engine needs it"));
        }
        let inline = self.inline_bytes_max.unwrap_or(Self::INLINE_BYTES_DEFAULT);
        let commit_ms = self.commit_timeout_ms.unwrap_or(10_000);
        Ok(Storage {
            index,
            engine: self.engine,
            inline_bytes_max: within(
                "storage.inline_bytes_max",
                inline,
                0,
                Self::INLINE_BYTES_LIMIT,
            )?,
            commit_timeout: duration("storage.commit_timeout_ms", commit_ms)?,
            limits: self.limits.check("storage.limits")?,
        })
    }
}

impl LimitsTable {
    fn check(self, table: &str) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let key = |name: &str| format!("{table}.{name}");
        let time = |name: &str, value: Option<u64>, default| {
            value.map_or(Ok(default), |value| duration(&key(name), value))
        };
        let connections = self.connections_max.unwrap_or(default.connections_max);
        let header = self.header_bytes_max.unwrap_or(default.header_bytes_max);
        Ok(Limits {
            connections_max: within(&key("connections_max"), connections, 1, 1_000_000)?,
            // hyper's buffer has a floor of 8 KiB.
            header_bytes_max: within(&key("header_bytes_max"), header, 8192, 1 << 20)?,
            header_timeout: time(
                "header_timeout_ms",
                self.header_timeout_ms,
                default.header_timeout,
            )?,
            idle_timeout: time("idle_timeout_ms", self.idle_timeout_ms, default.idle_timeout)?,
            stall_timeout: time("stall_timeout_ms", self.stall_timeout_ms, default.stall_timeout)?,
            drain_timeout: time("drain_timeout_ms", self.drain_timeout_ms, default.drain_timeout)?,
        })
    }
}

/// The key that a map's error is about.
fn map_key(error: &MapError) -> &'static str {
    match error {
        MapError::Nodes(_) | MapError::Twice(_) => "cluster.storage",
        MapError::Replicas { .. } => "cluster.replicas",
        MapError::Partitions(_) => "cluster.partitions",
        MapError::Weight { .. } => "cluster.storage.weight",
    }
}

fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        let problem =
            format!("{name:?} is not 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'");
        return Err(wrong(key, problem));
    }
    Ok(())
}

pub(super) fn within(
    key: &str,
    value: usize,
    min: usize,
    max: usize,
) -> Result<usize, ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(wrong(key, format!("must be {min} to {max}, not {value}")))
}

fn duration(key: &str, value_ms: u64) -> Result<Duration, ConfigError> {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    if (1..=DAY_MS).contains(&value_ms) {
        return Ok(Duration::from_millis(value_ms));
    }
    Err(wrong(key, format!("must be 1 to {DAY_MS}, not {value_ms}")))
}

pub(super) fn wrong(key: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), problem: problem.into() }
}
