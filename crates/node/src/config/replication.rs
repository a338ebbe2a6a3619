//! `[replication]`: the replicated groups that a node has replicas of.

use super::{
    ConfigError,
    file::{within, wrong},
};
use ashlar_replica::{Offload, XdpMode};
use ashlar_vr::{Configuration, Mode, Options};
use ashlar_wire::replication::HEADER_BYTES;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// Groups that a node may have replicas of.
const GROUPS_MAX: usize = 10_000;
/// The longest datagram that fits into a frame of Ethernet, with the headers of IPv6 and UDP.
const DATAGRAM_BYTES_DEFAULT: usize = 1_452;
/// The longest time between heartbeats, and so on: an hour.
const TIME_MS_MAX: usize = 3_600_000;
/// Groups of a node that programs in the kernel may serve.
const OFFLOADED_MAX: usize = 16;
/// Where Linux has its file system of BPF.
const PROGRAMS_DEFAULT: &str = "/sys/fs/bpf";
/// Entries in a message, at most: what the header can count, with much to spare.
const BATCH_ENTRIES_MAX: usize = 4_096;
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
    /// The interface that programs in the kernel are attached to; none for the one that has the address of `listen`.
    pub interface: Option<String>,
    /// How programs that see what comes in are attached; none for what suits the interface.
    pub xdp: Option<XdpMode>,
    /// The directory, on a file system of BPF, where their memory is pinned.
    pub programs: PathBuf,
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
    /// What programs in the kernel do for the replica; none if they never shall.
    pub offload: Option<Offload>,
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
    interface: Option<String>,
    xdp: Option<XdpName>,
    programs: Option<PathBuf>,
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
    batch_entries_max: Option<usize>,
    offload: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum XdpName {
    Native,
    Generic,
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
    pub(super) fn check(mut self, has_data: bool) -> Result<Replication, ConfigError> {
        let (min, max) = DATAGRAM_BYTES;
        let datagram_bytes_max = self.datagram_bytes_max.unwrap_or(DATAGRAM_BYTES_DEFAULT);
        let key = "replication.datagram_bytes_max";
        let datagram_bytes_max = within(key, datagram_bytes_max, min, max)?;
        within("replication.group", self.group.len(), 1, GROUPS_MAX)?;
        let mut groups: Vec<ReplicationGroup> = Vec::new();
        for table in std::mem::take(&mut self.group) {
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
        let offloaded = groups.iter().filter(|group| group.offload.is_some()).count();
        within("replication.group.offload", offloaded, 0, OFFLOADED_MAX)?;
        let programs = self.programs.unwrap_or_else(|| PROGRAMS_DEFAULT.into());
        let xdp = self.xdp.map(|name| match name {
            XdpName::Native => XdpMode::Native,
            XdpName::Generic => XdpMode::Generic,
        });
        let Self { listen, cpu, interface, .. } = self;
        Ok(Replication { listen, datagram_bytes_max, cpu, interface, xdp, programs, groups })
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
        let batch_entries_max = self.batch_entries_max.unwrap_or(default.batch_entries_max);
        let batch_entries_max =
            within(&key("batch_entries_max"), batch_entries_max, 1, BATCH_ENTRIES_MAX)?;
        let offload = self.offload.map(|names| offload(&key("offload"), mode, &names));
        let offload = offload.transpose()?;
        let default = Options { mode, batch_entries_max, batch_bytes_max, part_bytes, ..default };
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
        Ok(ReplicationGroup { number, service: self.service, options, offload, configuration })
    }
}

/// What programs in the kernel are to do for a replica.
fn offload(key: &str, mode: Mode, names: &[String]) -> Result<Offload, ConfigError> {
    let mut sum = Offload::NONE;
    for name in names {
        let part = Offload::of_name(name).ok_or_else(|| {
            wrong(key, format!("{name:?} is none of \"fanout\", \"early-ack\", \"quorum\""))
        })?;
        sum = sum.with(part);
    }
    if sum.early_acknowledgement && mode == Mode::Durable {
        let problem = "\"early-ack\" acknowledges what is on no disk: leave it out in mode durable";
        return Err(wrong(key, problem));
    }
    Ok(sum)
}
