//! What a run of `ashlar bench object` is to do, and the checks that make it measurable.

use crate::comparison::{
    Case, ComparisonError, LabPlace, LoadShape, MemoryPlan, Scheme, Subject, TestbedSpec, cases,
    check_peers, check_rounds_and_cases, refuse,
};
use crate::load::Trust;
use crate::units::ByteSize;
use ashlar_lab::{Engine, REPLICAS_MAX};

/// What to measure.
#[derive(Clone, Debug)]
pub struct ObjectSpec {
    /// The object sizes, each a case of its own.
    pub sizes: Vec<ByteSize>,
    /// The schemes, each a case of its own.
    pub schemes: Vec<Scheme>,
    /// Rounds: 1 to [`crate::experiment::ROUNDS_MAX`].
    pub rounds: usize,
    /// What each measurement asks for.
    pub load: LoadShape,
    /// Where to measure.
    pub place: Place,
    /// Connections of the memory measurement; none without it.
    pub idle_connections: Option<usize>,
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

impl ObjectSpec {
    /// Ours first, then the peers; or the target alone.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        match &self.place {
            Place::Lab(place) => {
                let peers = place.peers.iter().copied().map(Subject::Peer);
                std::iter::once(Subject::Relay).chain(peers).collect()
            }
            Place::Target { .. } => vec![Subject::Target],
        }
    }

    /// What the lab must have.
    pub(super) fn testbed(&self, place: &LabPlace) -> TestbedSpec {
        let idle_connections = self.idle_connections.unwrap_or(0);
        let (engine, replicas) = match self.load.mix {
            // Every storage node may answer, as the peers let it.
            None => (Engine::Synthetic, Some(place.storage_nodes.min(REPLICAS_MAX))),
            Some(_) => (Engine::Disk, None),
        };
        TestbedSpec {
            engine,
            replicas,
            https: self.schemes.contains(&Scheme::Https),
            connections_max: self.load.connections.max(idle_connections),
            spread: false,
        }
    }

    /// The measurements of memory.
    pub(super) fn memory_plan(&self, subjects: &[Subject]) -> MemoryPlan {
        match (self.idle_connections, &self.place) {
            (Some(connections), Place::Lab(_)) => {
                MemoryPlan::new(self.rounds, &self.schemes, subjects, connections)
            }
            _ => MemoryPlan::default(),
        }
    }

    /// Refuses what cannot be measured; otherwise the cases.
    pub(super) fn check(&self) -> Result<Vec<Case>, ComparisonError> {
        check_rounds_and_cases(self.rounds, &self.schemes, &self.sizes)?;
        match &self.place {
            Place::Lab(place) => {
                check_peers(&place.peers)?;
                if self.load.mix.is_some() && !place.peers.is_empty() {
                    let reason = "a proxy that does not know which storage node holds a key cannot \
                                  be measured with keyed objects; leave out --peer or --mix";
                    return refuse("peer", reason);
                }
            }
            Place::Target { url, .. } => {
                let scheme = url.split("://").next().unwrap_or_default();
                if self.schemes.iter().any(|given| given.to_string() != scheme) {
                    return refuse("schemes", format!("the target's scheme is {scheme}"));
                }
                if self.idle_connections.is_some() {
                    let reason = "memory is measured in a lab only; leave out --target";
                    return refuse("idle-connections", reason);
                }
            }
        }
        let cases = cases(&self.schemes, &self.sizes);
        if cases.is_empty() && self.idle_connections.is_none() {
            return refuse("sizes", "there is nothing to measure");
        }
        Ok(cases)
    }
}
