//! What a run of `ashlar bench handoff` is to do, and the checks that make it measurable.

use crate::comparison::{
    Case, ComparisonError, LabPlace, LoadShape, Scheme, Subject, TestbedSpec, cases, check_peers,
    check_rounds_and_cases, has_repeats, refuse,
};
use crate::load::Arrival;
use crate::units::ByteSize;
use ashlar_lab::Engine;

/// What to measure.
#[derive(Clone, Debug)]
pub struct HandoffSpec {
    /// The object sizes, each a case of its own.
    pub sizes: Vec<ByteSize>,
    /// The schemes, each a case of its own.
    pub schemes: Vec<Scheme>,
    /// Which of our own ways to answer are measured, of [`Subject::OURS`].
    pub subjects: Vec<Subject>,
    /// Rounds: 1 to [`crate::experiment::ROUNDS_MAX`].
    pub rounds: usize,
    /// What each measurement asks for: a closed loop of GETs.
    pub load: LoadShape,
    /// The lab, and the peers.
    pub place: LabPlace,
}

impl HandoffSpec {
    /// Ours, then the peers.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let peers = self.place.peers.iter().copied().map(Subject::Peer);
        self.subjects.iter().copied().chain(peers).collect()
    }

    /// What the lab must have.
    pub(super) fn testbed(&self) -> TestbedSpec {
        TestbedSpec {
            engine: Engine::Synthetic,
            // An object has one owner, so that it is known where a request goes.
            replicas: Some(1),
            https: self.schemes.contains(&Scheme::Https),
            connections_max: self.load.connections,
            spread: true,
        }
    }

    /// Refuses what cannot be measured; otherwise the cases.
    pub(super) fn check(&self) -> Result<Vec<Case>, ComparisonError> {
        check_rounds_and_cases(self.rounds, &self.schemes, &self.sizes)?;
        check_peers(&self.place.peers)?;
        if self.subjects.iter().any(|subject| !Subject::OURS.contains(subject)) {
            return refuse("subjects", "a peer is given with --peer");
        }
        if has_repeats(&self.subjects) {
            return refuse("subjects", "a subject is given twice");
        }
        if self.load.arrival != Arrival::Closed || self.load.mix.is_some() {
            return refuse("rate", "hand-off is measured in a closed loop of GETs");
        }
        if self.load.connections < usize::from(self.place.storage_nodes) {
            return refuse("connections", "must be one for each storage node at least");
        }
        let cases = cases(&self.schemes, &self.sizes);
        if cases.is_empty() || self.subjects().is_empty() {
            return refuse("sizes", "there is nothing to measure");
        }
        Ok(cases)
    }
}
