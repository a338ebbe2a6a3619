//! What a run of `ashlar bench object` is to do, and the checks that make it measurable.

use super::{ObjectError, Subject};
use crate::experiment::ROUNDS_MAX;
use crate::load::{Arrival, Keyed, LoadSpec, Mix, Target, Trust, Workload};
use crate::peers::Peer;
use crate::units::ByteSize;
use ashlar_lab::{CpuQuota, LabName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What to measure.
#[derive(Clone, Debug)]
pub struct ObjectSpec {
    /// The object sizes, each a case of its own.
    pub sizes: Vec<ByteSize>,
    /// The schemes, each a case of its own.
    pub schemes: Vec<Scheme>,
    /// Rounds: 1 to [`ROUNDS_MAX`].
    pub rounds: usize,
    /// What each measurement asks for.
    pub load: LoadShape,
    /// Where to measure.
    pub place: Place,
    /// Connections of the memory measurement; none without it.
    pub idle_connections: Option<usize>,
}

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct LoadShape {
    /// Connections over all threads.
    pub connections: usize,
    /// Generator threads.
    pub threads: usize,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Operations on preloaded objects, in place of GETs of synthetic ones: mix and number of keys.
    pub mix: Option<(Mix, u64)>,
    /// Time under load before the measured window.
    pub warm_up: Duration,
    /// Length of the measured window.
    pub window: Duration,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// Whether received bytes are compared.
    pub verify_content: bool,
    /// Decides which operations are drawn.
    pub seed: u64,
}

/// Where to measure.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a lab that is built for it and removed afterwards.
    Lab(LabPlace),
    /// At a URL that is there, `http` or `https`, without peers and without meters.
    Target {
        /// Its path is not used.
        url: String,
        /// Whom to believe over HTTPS.
        trust: Trust,
    },
}

/// The lab to build.
#[derive(Clone, Debug)]
pub struct LabPlace {
    /// Tells it apart from other labs on the machine.
    pub name: LabName,
    /// Storage nodes.
    pub storage_nodes: u8,
    /// The processor quota of the front end and of each storage node; none for no limit.
    pub server_quota: Option<CpuQuota>,
    /// Event-loop threads of every server, ours and the peers.
    pub server_threads: u16,
    /// What is measured beside ours.
    pub peers: Vec<Peer>,
}

/// How clients speak to the front end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// A text that names no scheme.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scheme: http or https")]
pub struct NotAScheme(String);

impl FromStr for Scheme {
    type Err = NotAScheme;

    fn from_str(text: &str) -> Result<Self, NotAScheme> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(NotAScheme(text.to_owned())),
        }
    }
}

/// One kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Case {
    /// How clients connect.
    pub scheme: Scheme,
    /// What they ask for.
    pub size: ByteSize,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.scheme, self.size)
    }
}

impl LoadShape {
    /// The run of the generator for objects of `size` at `target`.
    pub(super) fn at(&self, target: Target, size: ByteSize) -> LoadSpec {
        LoadSpec {
            target,
            workload: match self.mix {
                None => Workload::Synthetic(vec![size]),
                Some((mix, keys)) => Workload::Keyed(Keyed { mix, keys, size }),
            },
            arrival: self.arrival,
            connections: self.connections,
            threads: self.threads,
            warm_up: self.warm_up,
            window: self.window,
            timeout: self.timeout,
            verify_content: self.verify_content,
            seed: self.seed,
        }
    }
}

impl ObjectSpec {
    /// Ours first, then the peers; or the target alone.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        match &self.place {
            Place::Lab(place) => {
                let peers = place.peers.iter().copied().map(Subject::Peer);
                std::iter::once(Subject::Ours).chain(peers).collect()
            }
            Place::Target { .. } => vec![Subject::Target],
        }
    }

    /// Refuses what cannot be measured; otherwise the cases.
    pub(super) fn check(&self) -> Result<Vec<Case>, ObjectError> {
        let refuse = |field, reason: String| Err(ObjectError::Spec { field, reason });
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return refuse("rounds", format!("must be 1 to {ROUNDS_MAX}"));
        }
        if has_repeats(&self.sizes) {
            return refuse("sizes", "a size is given twice".to_owned());
        }
        if has_repeats(&self.schemes) {
            return refuse("schemes", "a scheme is given twice".to_owned());
        }
        match &self.place {
            Place::Lab(place) => {
                if has_repeats(&place.peers) {
                    return refuse("peer", "a peer is given twice".to_owned());
                }
                if self.load.mix.is_some() && !place.peers.is_empty() {
                    let reason = "a proxy that does not know which storage node holds a key cannot \
                                  be measured with keyed objects; leave out --peer or --mix";
                    return refuse("peer", reason.to_owned());
                }
            }
            Place::Target { url, .. } => {
                let scheme = url.split("://").next().unwrap_or_default();
                if self.schemes.iter().any(|given| given.to_string() != scheme) {
                    return refuse("schemes", format!("the target's scheme is {scheme}"));
                }
                if self.idle_connections.is_some() {
                    let reason = "memory is measured in a lab only; leave out --target";
                    return refuse("idle-connections", reason.to_owned());
                }
            }
        }
        let cases: Vec<Case> = self
            .schemes
            .iter()
            .flat_map(|scheme| self.sizes.iter().map(|size| (*scheme, *size)))
            .map(|(scheme, size)| Case { scheme, size })
            .collect();
        if cases.is_empty() && self.idle_connections.is_none() {
            return refuse("sizes", "there is nothing to measure".to_owned());
        }
        Ok(cases)
    }
}

fn has_repeats<T: PartialEq>(list: &[T]) -> bool {
    (1..list.len()).any(|index| list[..index].contains(&list[index]))
}
