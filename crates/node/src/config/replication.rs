//! `[replication]`: the replicated groups that a node has replicas of.

use super::{
    ConfigError,
    file::{within, wrong},
};
use ashlar_vr::{Configuration, Mode, Options};
use ashlar_wire::replication::HEADER_BYTES;
use serde::Deserialize;
use std::net::SocketAddr;

/// Groups that a node may have replicas of.
const GROUPS_MAX: usize = 10_000;
/// The longest datagram that fits into a frame of Ethernet, with the headers of IPv6 and UDP.
const DATAGRAM_BYTES_DEFAULT: usize = 1_452;
/// The longest time between heartbeats, and so on: an hour.
const TIME_MS_MAX: usize = 3_600_000;
/// The bounds of a datagram.
const DATAGRAM_BYTES: (usize, usize) = (512, 65_000);

/// The replicas of a node.
#[derive(Clone, Debug)]
pub struct Replication {
    /// Where replicas and clients reach it over UDP; its name among members.
    pub listen: SocketAddr,
    /// The longest datagram that is sent, in bytes without headers of IP and UDP.
    pub datagram_bytes_max: usize,
    /// The processor that its thread stays on, if any.
    pub cpu: Option<usize>,
    /// The groups.
    pub groups: Vec<ReplicationGroup>,
}

/// A replica of a group.
#[derive(Clone, Debug)]
pub struct ReplicationGroup {
    /// Names the group in its cluster.
    pub number: u32,
    /// What is replicated.
    pub service: ServiceKind,
    /// How the group runs.
    pub options: Options,
    /// Who begins the group; nobody if this replica joins one that exists.
    pub configuration: Option<Configuration>,
}

/// What a group replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Keys and values, for `ashlar kv`.
    Kv,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicationTable {
    listen: SocketAddr,
    datagram_bytes_max: Option<usize>,
    cpu: Option<usize>,
    group: Vec<GroupTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupTable {
    number: u32,
    service: ServiceKind,
    mode: ModeName,
    #[serde(default)]
    state: State,
    #[serde(default)]
    members: Vec<SocketAddr>,
    heartbeat_ms: Option<usize>,
    suspect_ms: Option<usize>,
    lease_ms: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Volatile,
    Durable,
}

/// What a replica is whose journal holds nothing yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// One of those that begin the group.
    #[default]
    New,
    /// One that the group will take in.
    Join,
}

impl ReplicationTable {
    pub(super) fn check(self, has_data: bool) -> Result<Replication, ConfigError> {
        let (min, max) = DATAGRAM_BYTES;
        let datagram_bytes_max = self.datagram_bytes_max.unwrap_or(DATAGRAM_BYTES_DEFAULT);
        let key = "replication.datagram_bytes_max";
        let datagram_bytes_max = within(key, datagram_bytes_max, min, max)?;
        within("replication.group", self.group.len(), 1, GROUPS_MAX)?;
        let mut groups: Vec<ReplicationGroup> = Vec::new();
        for table in self.group {
            let number = table.number;
            if groups.iter().any(|group| group.number == number) {
                return Err(wrong("replication.group.number", format!("{number} is used twice")));
            }
            if !has_data {
                let problem = format!("group {number} keeps its promises there");
                return Err(wrong("node.data", problem));
            }
            groups.push(table.check(self.listen, datagram_bytes_max)?);
        }
        Ok(Replication { listen: self.listen, datagram_bytes_max, cpu: self.cpu, groups })
    }
}

impl GroupTable {
    fn check(
        self,
        listen: SocketAddr,
        datagram_bytes_max: usize,
    ) -> Result<ReplicationGroup, ConfigError> {
        let number = self.number;
        let key = |name: &str| format!("replication.group {number}.{name}");
        let configuration = match self.state {
            State::New => {
                let configuration = Configuration::new(0, self.members);
                let configuration =
                    configuration.map_err(|error| wrong(&key("members"), error.to_string()))?;
                if configuration.place_of(listen).is_none() {
                    let problem = format!("{listen}, where this node listens, is not among them");
                    return Err(wrong(&key("members"), problem));
                }
                Some(configuration)
            }
            State::Join if self.members.is_empty() => None,
            State::Join => {
                let problem = "leave them out with state = \"join\": the group knows its members";
                return Err(wrong(&key("members"), problem));
            }
        };
        let mode = match self.mode {
            ModeName::Volatile => Mode::Volatile,
            ModeName::Durable => Mode::Durable,
        };
        // A message in many fragments is lost with any of them: where frames are short, messages are.
        let default = Options::default();
        let body_bytes_max = datagram_bytes_max - HEADER_BYTES;
        let batch_bytes_max = default.batch_bytes_max.min(body_bytes_max);
        let part_bytes = default.part_bytes.min(body_bytes_max);
        let default = Options { mode, batch_bytes_max, part_bytes, ..default };
        let time_us = |name: &str, value_ms: Option<usize>, default_us| match value_ms {
            None => Ok(default_us),
            Some(value_ms) => {
                within(&key(name), value_ms, 0, TIME_MS_MAX).map(|value_ms| 1_000 * value_ms as u64)
            }
        };
        let options = Options {
            heartbeat_us: time_us("heartbeat_ms", self.heartbeat_ms, default.heartbeat_us)?,
            suspect_us: time_us("suspect_ms", self.suspect_ms, default.suspect_us)?,
            lease_us: time_us("lease_ms", self.lease_ms, default.lease_us)?,
            ..default
        };
        if !options.is_consistent() {
            let problem = "two heartbeats, and the lease, must fit into suspect_ms";
            return Err(wrong(&key("suspect_ms"), problem));
        }
        Ok(ReplicationGroup { number, service: self.service, options, configuration })
    }
}
