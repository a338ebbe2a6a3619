//! What a run of `ashlar bench vr` is to do, and the checks that make it measurable.

use crate::comparison::{ComparisonError, has_repeats, refuse};
use crate::experiment::ROUNDS_MAX;
use crate::load::Arrival;
use crate::units::ByteSize;
use ashlar_lab::LabName;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The most clients of a measurement.
const CLIENTS_MAX: usize = 4_096;
/// The longest value: all clients' operations together stay below what a file of `sync` holds.
const VALUE_BYTES_MAX: u64 = 512 << 10;
/// Bytes of all clients' values together, at most.
const OPEN_BYTES_MAX: u64 = 32 << 20;
/// The most deaths of a leader.
const KILLS_MAX: usize = 10_000;
/// The longest value whose request is one datagram of an Ethernet: beyond, bare sockets would not do what groups do.
const DATAGRAM_VALUE_BYTES_MAX: u64 = 1_300;
/// The sizes that a group can have.
const MEMBERS: [usize; 4] = [1, 3, 5, 7];

/// What a group promises of what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is in the memories of a quorum.
    Volatile,
    /// It is on the disks of a quorum.
    Durable,
}

/// Somebody else's replicated store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// etcd, with the defaults of its distribution.
    Etcd,
}

/// What programs in the kernel do for a group that is measured in a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Nothing.
    None,
    /// They copy what the leader sends.
    FanOut,
    /// They acknowledge for backups.
    EarlyAck,
    /// They count acknowledgements for the leader.
    Quorum,
    /// All of it; in durable mode, what is possible there.
    All,
}

/// What is measured in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A group of `ashlar node` processes.
    Vr,
    /// The same in a lab, with programs in the kernel or without.
    Offloaded(Offload),
    /// A datagram to another thread and back, without anything else.
    Udp,
    /// The datagrams of one operation between bare sockets: what the network costs a lone client at least.
    Exchange,
    /// Group sync without replication: as many files as members, each with a thread that writes what waits and syncs
    /// it. What a durable group reaches at most on this disk.
    Sync,
    /// A peer.
    Peer(Peer),
}

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The group's mode.
    pub mode: Mode,
    /// The group's members.
    pub members: usize,
    /// Clients; each waits for its answer in a closed loop.
    pub clients: usize,
    /// Length of the value that an operation puts.
    pub value: ByteSize,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct VrSpec {
    /// The program whose `node` is run.
    pub executable: PathBuf,
    /// Where the members' data lie: the disk that durable groups are measured on.
    pub directory: PathBuf,
    /// Modes, each a case of its own.
    pub modes: Vec<Mode>,
    /// Sizes of the group: 1, 3, 5 or 7.
    pub members: Vec<usize>,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Lengths of the values.
    pub values: Vec<ByteSize>,
    /// Closed loop, or operations at a rate.
    pub arrival: Arrival,
    /// Who else is measured, in durable mode.
    pub peers: Vec<Peer>,
    /// Rounds: 1 to [`ROUNDS_MAX`].
    pub rounds: usize,
    /// Time under load before each window.
    pub warm_up: Duration,
    /// Length of each measured window.
    pub window: Duration,
    /// What programs do: with any of it, groups are measured in a lab, and nothing else is.
    pub offloads: Vec<Offload>,
    /// The lab's name.
    pub lab: LabName,
    /// Entries that share a message, at most; none for the nodes' default.
    pub batch: Option<usize>,
    /// How often the leader of a group of each size and mode is killed to see what that costs its clients.
    pub kills: usize,
}

impl Mode {
    /// Its name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Durable => "durable",
        }
    }
}

impl Offload {
    /// Its name on the command line and in names of ratios.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FanOut => "fanout",
            Self::EarlyAck => "early-ack",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }

    /// As a configuration lists it for a group of this mode.
    pub(super) fn names(self, mode: Mode) -> &'static [&'static str] {
        match (self, mode) {
            (Self::None, _) => &[],
            (Self::FanOut, _) => &["fanout"],
            (Self::EarlyAck, _) => &["early-ack"],
            (Self::Quorum, _) => &["quorum"],
            (Self::All, Mode::Volatile) => &["fanout", "early-ack", "quorum"],
            (Self::All, Mode::Durable) => &["fanout", "quorum"],
        }
    }
}

impl FromStr for Offload {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        let all = [Self::None, Self::FanOut, Self::EarlyAck, Self::Quorum, Self::All];
        let choices = "none, fanout, early-ack, quorum or all";
        let found = all.into_iter().find(|offload| offload.name() == text);
        found.ok_or_else(|| NotOneOf { text: text.to_owned(), choices })
    }
}

impl FromStr for Mode {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        match text {
            "volatile" => Ok(Self::Volatile),
            "durable" => Ok(Self::Durable),
            _ => Err(NotOneOf { text: text.to_owned(), choices: "volatile or durable" }),
        }
    }
}

impl FromStr for Peer {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        match text {
            "etcd" => Ok(Self::Etcd),
            _ => Err(NotOneOf { text: text.to_owned(), choices: "etcd" }),
        }
    }
}

/// A text that is none of the names there are.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not {choices}")]
pub struct NotOneOf {
    text: String,
    choices: &'static str,
}

impl Subject {
    /// Its name, as in the names of ratios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vr => "vr",
            Self::Offloaded(Offload::None) => "vr_none",
            Self::Offloaded(Offload::FanOut) => "vr_fanout",
            Self::Offloaded(Offload::EarlyAck) => "vr_early-ack",
            Self::Offloaded(Offload::Quorum) => "vr_quorum",
            Self::Offloaded(Offload::All) => "vr_all",
            Self::Udp => "udp",
            Self::Exchange => "exchange",
            Self::Sync => "sync",
            Self::Peer(Peer::Etcd) => "etcd",
        }
    }
}

impl fmt::Display for Case {
    /// As in the names of ratios: `durable_n3_64_clients_64B`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, members, clients, value } = self;
        write!(formatter, "{}_n{members}_{clients}_clients_{value}", mode.name())
    }
}

impl VrSpec {
    /// Ours, what bounds it, and the peers.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        if !self.offloads.is_empty() {
            return self.offloads.iter().copied().map(Subject::Offloaded).collect();
        }
        let peers = self.peers.iter().copied().map(Subject::Peer);
        let bounds = [Subject::Udp, Subject::Exchange, Subject::Sync];
        [Subject::Vr].into_iter().chain(bounds).chain(peers).collect()
    }

    /// Whether a subject says something about a case.
    pub(super) fn applies(&self, subject: Subject, case: &Case) -> bool {
        let is_closed = self.arrival == Arrival::Closed;
        match subject {
            Subject::Vr => true,
            Subject::Offloaded(Offload::EarlyAck) => {
                case.mode == Mode::Volatile && case.members > 1
            }
            Subject::Offloaded(_) => case.members > 1,
            Subject::Udp | Subject::Exchange => {
                let fits = case.value.bytes() <= DATAGRAM_VALUE_BYTES_MAX;
                case.mode == Mode::Volatile && case.clients == 1 && is_closed && fits
            }
            Subject::Sync => case.mode == Mode::Durable && is_closed,
            Subject::Peer(Peer::Etcd) => case.mode == Mode::Durable,
        }
    }

    /// Refuses what cannot be measured; otherwise the cases.
    pub(super) fn check(&self) -> Result<Vec<Case>, ComparisonError> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return refuse("rounds", format!("must be 1 to {ROUNDS_MAX}"));
        }
        if self.window.is_zero() {
            return refuse("seconds", "must be above 0");
        }
        if self.members.iter().any(|members| !MEMBERS.contains(members)) {
            return refuse("members", "1, 3, 5 or 7 are measured");
        }
        if self.clients.iter().any(|clients| !(1..=CLIENTS_MAX).contains(clients)) {
            return refuse("clients", format!("must be 1 to {CLIENTS_MAX}"));
        }
        if self.values.iter().any(|value| value.bytes() > VALUE_BYTES_MAX) {
            return refuse("values", format!("at most {}", ByteSize(VALUE_BYTES_MAX)));
        }
        let most = |list: &[u64]| list.iter().copied().max().unwrap_or(0);
        let values: Vec<u64> = self.values.iter().map(|value| value.bytes()).collect();
        let clients: Vec<u64> = self.clients.iter().map(|clients| *clients as u64).collect();
        if most(&values) * most(&clients) > OPEN_BYTES_MAX {
            let most = ByteSize(OPEN_BYTES_MAX);
            return refuse("values", format!("with so many clients, at most {most} together"));
        }
        if !self.offloads.is_empty() && (!self.peers.is_empty() || self.kills > 0) {
            return refuse("offload", "groups in a lab are compared with each other only");
        }
        if self.batch == Some(0) {
            return refuse("batch", "a message has one entry at least");
        }
        if has_repeats(&self.offloads) {
            return refuse("offload", "something is given twice");
        }
        if self.kills > KILLS_MAX {
            return refuse("kills", format!("at most {KILLS_MAX}"));
        }
        if has_repeats(&self.peers) || has_repeats(&self.modes) || has_repeats(&self.members) {
            return refuse("peers, modes, members", "something is given twice");
        }
        if has_repeats(&self.clients) || has_repeats(&self.values) {
            return refuse("clients, values", "something is given twice");
        }
        let cases = self.cases();
        if cases.is_empty() {
            return refuse("modes", "there is nothing to measure");
        }
        Ok(cases)
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &mode in &self.modes {
            for &members in &self.members {
                for &clients in &self.clients {
                    let of = |&value| Case { mode, members, clients, value };
                    cases.extend(self.values.iter().map(of));
                }
            }
        }
        cases
    }
}
