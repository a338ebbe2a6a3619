//! The configuration file: read once, checked whole, then only seen as checked types.
//!
//! Errors name the line and the key, and nothing starts before everything is right.

use ashlar_object::map::{ClusterMap, MapError, Member, NodeIndex};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Partitions of a cluster that names no number.
pub const PARTITIONS_DEFAULT: usize = 64;
/// The most event-loop threads of a role.
pub const THREADS_MAX: usize = 256;
/// The longest name of a cluster or a node, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster, the same on every host.
    pub cluster: Cluster,
    /// This host's name.
    pub name: String,
    /// Where storage data and self-signed certificates go.
    pub data: Option<PathBuf>,
    /// Event-loop threads of each role.
    pub threads: usize,
    /// The admin listener, if any.
    pub admin: Option<SocketAddr>,
    /// How and what to log.
    pub log: Log,
    /// This host's front end, if it is one.
    pub front_end: Option<FrontEnd>,
    /// This host's storage node, if it is one.
    pub storage: Option<Storage>,
}

/// The cluster as every host must know it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub id: String,
    /// Which nodes hold which keys.
    pub map: ClusterMap,
    /// The storage nodes' addresses, in the order of the map's nodes.
    pub nodes: Vec<StorageAddress>,
}

/// Where a storage node listens.
#[derive(Clone, Debug)]
pub struct StorageAddress {
    /// The node's name.
    pub name: String,
    /// Objects over HTTP.
    pub http: SocketAddr,
    /// Chain traffic.
    pub peer: SocketAddr,
}

/// A front end.
#[derive(Clone, Debug)]
pub struct FrontEnd {
    /// Where clients come in over HTTP.
    pub http: Option<SocketAddr>,
    /// Where clients come in over HTTPS.
    pub https: Option<SocketAddr>,
    /// Certificate chain and private key, PEM; self-signed ones are made if there are none.
    pub certificate: Option<CertificateFiles>,
    /// What a client may take.
    pub limits: Limits,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// What a client of an HTTP listener may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections over all threads; further ones wait in the listen queue.
    pub connections_max: usize,
    /// A request's head in bytes.
    pub header_bytes_max: usize,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Between a response and the next request.
    pub idle_timeout: Duration,
    /// Without a byte of a body in either direction.
    pub stall_timeout: Duration,
    /// How long requests under way may take to end after SIGTERM.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            header_bytes_max: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A storage node.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Its place in the map.
    pub index: NodeIndex,
    /// What holds the objects.
    pub engine: EngineKind,
    /// Bodies up to this size travel and are stored with the metadata.
    pub inline_bytes_max: usize,
    /// How long a write may wait for its commit before the client is told that it is unknown.
    pub commit_timeout: Duration,
    /// What a client may take.
    pub limits: Limits,
}

/// What holds a storage node's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// A key-value store and files.
    Disk,
    /// `GET /N` answers N bytes; for benchmarks.
    Synthetic,
}

/// How and what to log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `warn,ashlar_node=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line.
    Human,
    /// One JSON object.
    Json,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML or a key is unknown, missing or of the wrong type.
    #[error("line {line}: {message}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What.
        message: String,
    },
    /// A value is out of bounds or does not fit another.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to it.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads and checks a configuration whose relative paths start at `base`.
    ///
    /// # Errors
    /// When it is wrong.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::Syntax { line, message: error.message().replace('\n', " ") }
        })?;
        file.check(base)
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: ClusterTable,
    node: NodeTable,
    admin: Option<AdminTable>,
    #[serde(default)]
    log: Log,
    front_end: Option<FrontEndTable>,
    storage: Option<StorageTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterTable {
    id: String,
    replicas: usize,
    partitions: Option<usize>,
    storage: Vec<MemberTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    name: String,
    http: SocketAddr,
    peer: SocketAddr,
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
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageTable {
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
    fn check(self, base: &Path) -> Result<Config, ConfigError> {
        let cluster = self.cluster.check()?;
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
        if front_end.is_none() && storage.is_none() {
            return Err(wrong("node", "no role: add [front_end] or [storage]"));
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
        })
    }
}

impl ClusterTable {
    fn check(self) -> Result<Cluster, ConfigError> {
        check_name("cluster.id", &self.id)?;
        let mut members = Vec::new();
        let mut nodes: Vec<StorageAddress> = Vec::new();
        for table in self.storage {
            check_name("cluster.storage.name", &table.name)?;
            let taken =
                |address| nodes.iter().any(|node| node.http == address || node.peer == address);
            for address in [table.http, table.peer] {
                if taken(address) || table.http == table.peer {
                    let problem = format!("{address} is used twice");
                    return Err(wrong(&format!("cluster.storage {}", table.name), problem));
                }
            }
            members.push(Member { name: table.name.clone(), weight: table.weight.unwrap_or(1) });
            nodes.push(StorageAddress { name: table.name, http: table.http, peer: table.peer });
        }
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let map = ClusterMap::new(&self.id, members, self.replicas, partitions)
            .map_err(|error| wrong(map_key(&error), error.to_string()))?;
        Ok(Cluster { id: self.id, map, nodes })
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
        Ok(FrontEnd { http: self.http, https: self.https, certificate, limits })
    }
}

impl StorageTable {
    /// The largest body that may be stored with the metadata: frames and pages must hold it.
    const INLINE_BYTES_LIMIT: usize = 1 << 20;
    const INLINE_BYTES_DEFAULT: usize = 32 * 1024;

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

fn within(key: &str, value: usize, min: usize, max: usize) -> Result<usize, ConfigError> {
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

fn wrong(key: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const GOOD: &str = r#"
[cluster]
id = "demo"
replicas = 2
[[cluster.storage]]
name = "s1"
http = "127.0.0.1:9001"
peer = "127.0.0.1:9101"
[[cluster.storage]]
name = "s2"
http = "127.0.0.1:9002"
peer = "127.0.0.1:9102"
weight = 2
[node]
name = "s2"
data = "data"
[front_end]
http = "127.0.0.1:8080"
[storage]
engine = "disk"
"#;

    fn refused(text: &str) -> String {
        Config::parse(text, Path::new("/etc/ashlar")).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_gives_checked_values_and_defaults() {
        let config = Config::parse(GOOD, Path::new("/etc/ashlar")).unwrap();
        assert_eq!(config.cluster.map.partitions().count(), PARTITIONS_DEFAULT);
        assert_eq!(config.data.unwrap(), Path::new("/etc/ashlar/data"));
        assert_eq!(config.storage.unwrap().index, NodeIndex(1));
        assert_eq!(config.front_end.unwrap().limits, Limits::default());
    }

    #[test]
    fn the_annotated_example_is_right_and_shows_the_defaults() {
        let text = include_str!("../../../docs/example.toml");
        let config = Config::parse(text, Path::new("/")).unwrap();
        assert_eq!(config.front_end.unwrap().limits, Limits::default());
        let storage = config.storage.unwrap();
        assert_eq!(storage.inline_bytes_max, StorageTable::INLINE_BYTES_DEFAULT);
        assert_eq!(config.cluster.map.partitions().len(), PARTITIONS_DEFAULT);
    }

    #[test]
    fn errors_name_the_line_or_the_key() {
        for (from, to, error) in [
            ("weight = 2", "wieght = 2", "line 13: unknown field `wieght`"),
            ("replicas = 2", "replicas = \"2\"", "line 4: invalid type: string"),
            ("replicas = 2", "replicas = 3", "cluster.replicas: replicas must be 1 to 2, not 3"),
            ("weight = 2", "weight = 0", "cluster.storage.weight: the weight of s2 must be"),
            (
                "name = \"s2\"\ndata",
                "name = \"s3\"\ndata",
                "node.name: no [[cluster.storage]] is named s3",
            ),
            ("data = \"data\"", "", "node.data: the disk engine needs it"),
            ("9102", "9001", "cluster.storage s2: 127.0.0.1:9001 is used twice"),
            ("id = \"demo\"", "id = \"\"", "cluster.id: \"\" is not 1 to 64 letters"),
            (
                "[front_end]\nhttp = \"127.0.0.1:8080\"\n[storage]\nengine = \"disk\"",
                "",
                "node: no role",
            ),
            ("http = \"127.0.0.1:8080\"", "", "front_end: needs http or https"),
            ("engine = \"disk\"", "engine = \"disc\"", "unknown variant `disc`"),
            (
                "engine = \"disk\"",
                "engine = \"disk\"\ncommit_timeout_ms = 0",
                "storage.commit_timeout_ms: must be 1",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let message = refused(&GOOD.replace(from, to));
            assert!(message.contains(error) && !message.contains('\n'), "{message}");
        }
    }
}
