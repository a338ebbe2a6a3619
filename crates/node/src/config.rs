//! The configuration file: read once, checked whole, then only seen as checked types.
//!
//! Errors name the line and the key, and nothing starts before everything is right.

mod file;
mod hand_off;
mod replication;
mod switch;

use ashlar_object::map::{ClusterMap, NodeIndex};
use file::File;
pub use hand_off::{
    AttachTo, CONTROL_PORT_DEFAULT, FLOWS_DEFAULT, HandOff, Mode, Steering, SteeringHere,
};
pub use replication::{Replication, ReplicationGroup, ServiceKind};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
pub use switch::Switch;

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
    /// This host's steering of what it forwards, if it is a switch. Then it is nothing else.
    pub switch: Option<Switch>,
    /// This host's replicas of groups, if it has any.
    pub replication: Option<Replication>,
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
    /// The file with the key from which the nodes know each other, in channels and steering.
    pub key_file: Option<PathBuf>,
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
    /// Connections that are handed to this node, if it takes any.
    pub handoff: Option<SocketAddr>,
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
    /// How connections move to the storage nodes.
    pub hand_off: HandOff,
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
        assert_eq!(storage.inline_bytes_max, file::StorageTable::INLINE_BYTES_DEFAULT);
        assert_eq!(config.cluster.map.partitions().len(), PARTITIONS_DEFAULT);
    }

    #[test]
    fn a_front_end_may_have_its_steering_on_a_switch() {
        let http = "http = \"127.0.0.1:8080\"";
        let switched = format!("{http}\nsteering = {{ switch = \"10.0.0.5:7471\" }}");
        let config = Config::parse(&GOOD.replace(http, &switched), Path::new("/")).unwrap();
        let steering = config.front_end.unwrap().hand_off.steering;
        assert_eq!(steering, Steering::Switch("10.0.0.5:7471".parse().unwrap()));
    }

    #[test]
    fn the_annotated_example_of_a_switch_is_right() {
        let text = include_str!("../../../docs/switch.toml");
        let config = Config::parse(text, Path::new("/")).unwrap();
        let switch = config.switch.unwrap();
        assert_eq!(switch.flows_max, FLOWS_DEFAULT);
        assert_eq!(switch.control.port(), CONTROL_PORT_DEFAULT);
        assert!(config.front_end.is_none() && config.storage.is_none());
    }

    const REPLICATED: &str = r#"
[cluster]
id = "demo"
[node]
name = "n1"
data = "data"
[replication]
listen = "10.0.0.1:7400"
[[replication.group]]
number = 4
service = "kv"
mode = "durable"
members = ["10.0.0.1:7400", "10.0.0.2:7400"]
lease_ms = 0
"#;

    #[test]
    fn a_host_may_have_nothing_but_replicas() {
        let config = Config::parse(REPLICATED, Path::new("/")).unwrap();
        let replication = config.replication.unwrap();
        let group = &replication.groups[0];
        assert_eq!(group.options.mode, ashlar_vr::Mode::Durable);
        assert_eq!(group.configuration.as_ref().unwrap().count(), 2);
        assert_eq!((group.options.lease_us, group.options.heartbeat_us), (0, 25_000));
        let joins = REPLICATED
            .replace("members = [\"10.0.0.1:7400\", \"10.0.0.2:7400\"]", "state = \"join\"");
        let config = Config::parse(&joins, Path::new("/")).unwrap();
        assert!(config.replication.unwrap().groups[0].configuration.is_none());
    }

    #[test]
    fn errors_in_groups_name_the_group_and_the_key() {
        for (from, to, error) in [
            ("data = \"data\"", "", "node.data: group 4 keeps its promises there"),
            (
                "10.0.0.1:7400\", \"",
                "10.0.0.3:7400\", \"",
                "replication.group 4.members: 10.0.0.1:7400, where this node listens, is not among them",
            ),
            (
                "10.0.0.2:7400",
                "10.0.0.1:7400",
                "replication.group 4.members: 10.0.0.1:7400 is a member twice",
            ),
            (
                "number = 4",
                "number = 4\nstate = \"join\"",
                "replication.group 4.members: leave them out",
            ),
            ("lease_ms = 0", "suspect_ms = 49", "replication.group 4.suspect_ms: two heartbeats"),
            ("lease_ms = 0", "leese_ms = 0", "line 14: unknown field `leese_ms`"),
            (
                "7400\"\n[[",
                "7400\"\ndatagram_bytes_max = 100\n[[",
                "replication.datagram_bytes_max: must be 512 to 65000, not 100",
            ),
            (
                "[replication]",
                "[front_end]\nhttp = \"127.0.0.1:80\"\n[replication]",
                "cluster.storage: is missing",
            ),
        ] {
            assert!(REPLICATED.contains(from), "{from}");
            let told = refused(&REPLICATED.replacen(from, to, 1));
            assert!(told.contains(error), "{from} -> {to}: {told}");
        }
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
            (
                "http = \"127.0.0.1:8080\"",
                "http = \"127.0.0.1:8080\"\nmode = \"handoff\"",
                "cluster.key_file: is missing",
            ),
            (
                "http = \"127.0.0.1:8080\"",
                "http = \"127.0.0.1:8080\"\nsteering = { switch = \"127.0.0.1:1\", flows_max = 1 }",
                "front_end.steering.flows_max: does not go with switch",
            ),
            (
                "http = \"127.0.0.1:8080\"",
                "http = \"127.0.0.1:8080\"\nsteering = { switch = \"0.0.0.0:7471\" }",
                "front_end.steering.switch: 0.0.0.0:7471 is no address and port",
            ),
            (
                "[storage]\nengine = \"disk\"",
                "[switch]\ninterfaces = [\"eth1\"]\ncontrol = \"10.0.0.5:7471\"",
                "switch: does not go with other roles",
            ),
            (
                "[front_end]\nhttp = \"127.0.0.1:8080\"\n[storage]\nengine = \"disk\"",
                "[switch]\ninterfaces = [\"eth1\"]\ncontrol = \"10.0.0.5:7471\"",
                "cluster.key_file: is missing",
            ),
            (
                "http = \"127.0.0.1:8080\"",
                "http = \"127.0.0.1:8080\"\nsteering = { flows_max = 0 }",
                "front_end.steering.flows_max: must be 1 to",
            ),
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
