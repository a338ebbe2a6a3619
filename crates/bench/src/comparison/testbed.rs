//! The lab of a run: one front end at a time before the same storage nodes, and its meters.

use super::generator::{self, Task};
use super::measurement::{HostCpu, Measurement};
use super::memory::{MemorySample, MemoryTrial};
use super::{Case, ComparisonError, LabPlace, LoadShape, Progress, Scheme, Subject};
use crate::load::{Arrival, Event};
use crate::peers::{HttpsSpec, ProxySpec};
use crate::units::ByteSize;
use ashlar_lab::{
    CLIENT, Engine, FRONT_END, HTTP_PORT, HTTPS_PORT, Lab, LabSpec, Mode, Observer, Role,
    STORAGE_HTTP_PORT,
};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Where, in its data directory, a node keeps its self-signed certificate and the key.
const CERTIFICATE: &str = "tls/certificate.pem";
const PRIVATE_KEY: &str = "tls/private-key.pem";
/// What a connection of the memory measurement asks for.
const MEMORY_OBJECT: ByteSize = ByteSize(1024);
/// How long memory may settle before it is read.
const MEMORY_SETTLE_TIME: Duration = Duration::from_millis(500);

/// What a lab must have for a run.
pub(crate) struct TestbedSpec {
    /// What the storage nodes keep objects in.
    pub(crate) engine: Engine,
    /// Length of the chains; the lab's default if none is given.
    pub(crate) replicas: Option<u8>,
    /// Whether HTTPS is measured.
    pub(crate) https: bool,
    /// The most connections of a measurement.
    pub(crate) connections_max: usize,
}

/// A lab with storage nodes and a front end that can be exchanged.
pub(crate) struct Testbed {
    // Dropped first: the lab's processes use the files.
    lab: Lab,
    /// Data of the nodes, configurations of the peers.
    files: TempDir,
    /// What a peer is told to do.
    proxy: ProxySpec,
    /// What runs on the front end's host.
    active: Option<Subject>,
}

impl Testbed {
    /// Builds the lab, with ours running.
    pub(crate) fn build(
        place: &LabPlace,
        spec: &TestbedSpec,
        progress: &mut dyn Progress,
    ) -> Result<Self, ComparisonError> {
        let files = tempfile::tempdir().map_err(|source| ComparisonError::System {
            what: "make a temporary directory".to_owned(),
            source,
        })?;
        let mut lab_spec = LabSpec::new(place.name.clone())
            .storage_nodes(place.storage_nodes)
            .engine(spec.engine)
            .https(spec.https)
            .mode(Mode::Relay)
            .threads(place.server_threads)
            .data(files.path().join("data"));
        if let Some(replicas) = spec.replicas {
            lab_spec = lab_spec.replicas(replicas);
        }
        if let Some(quota) = place.server_quota {
            lab_spec = lab_spec.server_quota(quota);
        }
        let lab = Lab::up_observed(&lab_spec, &mut Watch(progress))?.down_on_drop();
        let front_end = lab.address(FRONT_END)?;
        let storage = lab.hosts().filter(|host| host.role == Role::Storage);
        let upstreams = storage.filter_map(|host| host.address);
        let certificate = files.path().join("data").join(FRONT_END);
        let proxy = ProxySpec {
            http: SocketAddr::from((front_end, HTTP_PORT)),
            https: spec.https.then(|| HttpsSpec {
                address: SocketAddr::from((front_end, HTTPS_PORT)),
                certificate: certificate.join(CERTIFICATE),
                private_key: certificate.join(PRIVATE_KEY),
            }),
            upstreams: upstreams
                .map(|address| SocketAddr::from((address, STORAGE_HTTP_PORT)))
                .collect(),
            threads: usize::from(place.server_threads),
            connections_max: spec.connections_max,
        };
        Ok(Self { lab, files, proxy, active: Some(Subject::Relay) })
    }

    /// Removes the lab.
    pub(crate) fn remove(self) -> Result<(), ComparisonError> {
        Ok(self.lab.down()?)
    }

    /// Measures `subject` under `case`.
    pub(crate) fn measure(
        &mut self,
        subject: Subject,
        case: Case,
        load: &LoadShape,
    ) -> Result<Measurement, ComparisonError> {
        self.activate(subject)?;
        let command = self.generator(Task::Load, load, case)?;
        let mut at_start = None;
        let mut at_end = None;
        let report = generator::run_load(command, |event| match event {
            Event::WindowStarted => at_start = self.cpu_seconds(),
            Event::WindowEnded => at_end = self.cpu_seconds(),
            Event::Holding => {}
        });
        let report = report.map_err(|reason| ComparisonError::Generator {
            subject: subject.name(),
            case: case.to_string(),
            reason: self.with_log(subject, reason),
        })?;
        let cpu = at_start.zip(at_end).map(|(start, end)| difference(&start, end));
        Ok(Measurement { load: report, cpu })
    }

    /// Measures the memory of `trial`'s subject, freshly started.
    pub(super) fn measure_memory(
        &mut self,
        trial: &MemoryTrial,
        load: &LoadShape,
    ) -> Result<MemorySample, ComparisonError> {
        self.deactivate()?;
        self.activate(trial.subject)?;
        thread::sleep(MEMORY_SETTLE_TIME);
        let resident_bytes_before = self.lab.resident_bytes(FRONT_END)?;
        let idle = LoadShape {
            connections: trial.connections,
            threads: 1,
            arrival: Arrival::Closed,
            mix: None,
            ..load.clone()
        };
        let case = Case { scheme: trial.scheme, size: MEMORY_OBJECT };
        let failed = |reason: String| ComparisonError::Generator {
            subject: trial.subject.name(),
            case: format!("{} idle {} connections", trial.connections, trial.scheme),
            reason: self.with_log(trial.subject, reason),
        };
        let command = self.generator(Task::Hold, &idle, case)?;
        let mut resident = None;
        let report = generator::run_hold(command, || {
            thread::sleep(MEMORY_SETTLE_TIME);
            resident = Some(self.lab.resident_bytes(FRONT_END));
        })
        .map_err(failed)?;
        if report.broken > 0 {
            return Err(failed(format!("{} connections broke while idle", report.broken)));
        }
        let Some(resident) = resident else {
            return Err(failed("the generator never held its connections".to_owned()));
        };
        Ok(MemorySample {
            trial: *trial,
            connections: report.connections,
            resident_bytes_before,
            resident_bytes: resident?,
        })
    }

    /// Has `subject`, and nothing else, run on the front end's host.
    fn activate(&mut self, subject: Subject) -> Result<(), ComparisonError> {
        if self.active == Some(subject) {
            return Ok(());
        }
        self.deactivate()?;
        match subject {
            Subject::Relay => self.lab.start_node(FRONT_END)?,
            Subject::Target => unreachable!("a target is not in the lab"),
            Subject::Peer(peer) => {
                let command = peer.prepare(&self.proxy, self.files.path())?;
                self.lab.spawn_in(FRONT_END, peer.name(), &command)?;
            }
        }
        self.active = Some(subject);
        Ok(())
    }

    fn deactivate(&mut self) -> Result<(), ComparisonError> {
        match self.active.take() {
            None | Some(Subject::Target) => {}
            Some(Subject::Relay) => self.lab.stop_node(FRONT_END)?,
            Some(Subject::Peer(peer)) => self.lab.stop(FRONT_END, peer.name())?,
        }
        Ok(())
    }

    /// The generator on the client's host.
    fn generator(
        &self,
        task: Task,
        load: &LoadShape,
        case: Case,
    ) -> Result<Command, ComparisonError> {
        let program = std::env::current_exe().map_err(|source| ComparisonError::System {
            what: "find this program".to_owned(),
            source,
        })?;
        let front_end = self.lab.address(FRONT_END)?;
        let certificate = match (case.scheme, &self.proxy.https) {
            (Scheme::Https, Some(https)) => Some(https.certificate.as_path()),
            _ => None,
        };
        let mut command = self.lab.command(CLIENT, program)?;
        command.args(generator::arguments(task, load, case, front_end, certificate));
        Ok(command)
    }

    /// What every host has used so far; `None` where it is not counted.
    fn cpu_seconds(&self) -> Option<HostCpu> {
        let hosts = self.lab.hosts().filter(|host| host.role != Role::Switch);
        hosts
            .map(|host| Some((host.name.clone(), self.lab.cpu_seconds(&host.name).ok()?)))
            .collect()
    }

    /// Adds the last line of the subject's log to a complaint: it often names the cause.
    fn with_log(&self, subject: Subject, reason: String) -> String {
        let log = match subject {
            Subject::Relay | Subject::Target => self.lab.node_log(FRONT_END),
            Subject::Peer(peer) => self.lab.log(FRONT_END, peer.name()),
        };
        let text = std::fs::read_to_string(log).unwrap_or_default();
        match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{reason} (its log ends: {})", line.trim()),
            None => reason,
        }
    }
}

/// Lets the user call off the building of a lab.
struct Watch<'a>(&'a mut dyn Progress);

impl Observer for Watch<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

fn difference(start: &HostCpu, end: HostCpu) -> HostCpu {
    let used = |host: &String, seconds: f64| seconds - start.get(host).copied().unwrap_or(0.0);
    end.into_iter().map(|(host, seconds)| (host.clone(), used(&host, seconds))).collect()
}
