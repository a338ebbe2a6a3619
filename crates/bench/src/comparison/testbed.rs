//! The lab of a run: one front end at a time before the same storage nodes, and its meters.

use super::ceiling::Ceiling;
use super::configuration::{Spread, with_hand_off};
use super::generator::{self, Aim, Task};
use super::measurement::{HostCpu, Measurement};
use super::memory::{MemorySample, MemoryTrial};
use super::meters;
use super::moves::{MoveCounts, Moves};
use super::subject::FrontEnd;
use super::{Case, ComparisonError, LabPlace, LoadShape, Progress, Scheme, Subject};
use crate::load::{Arrival, Event};
use crate::peers::{HttpsSpec, ProxySpec};
use crate::units::ByteSize;
use ashlar_lab::{
    CLIENT, Engine, FRONT_END, HTTP_PORT, HTTPS_PORT, Lab, LabSpec, Mode, Observer, Role,
    STORAGE_HTTP_PORT,
};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
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
    /// Whether requests are spread evenly over the storage nodes, by the objects' names. Chains
    /// must then have one node.
    pub(crate) spread: bool,
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
    active: Option<FrontEnd>,
    /// The names that spread requests.
    spread: Option<Spread>,
    /// The servers of files on the storage nodes' hosts, once they run.
    ceiling: Option<Ceiling>,
}

impl Testbed {
    /// Builds the lab, with ours running.
    pub(crate) fn build(
        place: &LabPlace,
        spec: &TestbedSpec,
        progress: &mut dyn Progress,
    ) -> Result<Self, ComparisonError> {
        let files =
            tempfile::tempdir().map_err(|source| system("make a temporary directory", source))?;
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
        let mut testbed =
            Self { lab, files, proxy, active: Some(FrontEnd::RELAY), spread: None, ceiling: None };
        if spec.spread {
            testbed.spread = Some(Spread::of(&testbed.configuration()?.1)?);
        }
        Ok(testbed)
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
        let names = match &self.spread {
            Some(spread) => spread.names(case.size)?,
            None => Vec::new(),
        };
        let connect_to = self.connect_to(subject, case, &names)?;
        let aim = Aim { names: &names, connect_to: &connect_to, ..self.aim(case, subject) };
        let command = self.generator(Task::Load, load, &aim)?;
        let mut at_start = None;
        let mut at_end = None;
        let report = generator::run_load(command, |event| match event {
            Event::WindowStarted => at_start = Some(self.read_meters(subject)),
            Event::WindowEnded => at_end = Some(self.read_meters(subject)),
            Event::Holding => {}
        });
        let report = report.map_err(|reason| ComparisonError::Generator {
            subject: subject.name(),
            case: case.to_string(),
            reason: self.with_log(subject, reason),
        })?;
        let (Some(start), Some(end)) = (at_start, at_end) else {
            return Ok(Measurement { load: report, cpu: None, moves: None });
        };
        let (cpu, moves) = start?.until(end?);
        Ok(Measurement { load: report, cpu, moves })
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
        let aim = self.aim(Case { scheme: trial.scheme, size: MEMORY_OBJECT }, trial.subject);
        let failed = |reason: String| ComparisonError::Generator {
            subject: trial.subject.name(),
            case: format!("{} idle {} connections", trial.connections, trial.scheme),
            reason: self.with_log(trial.subject, reason),
        };
        let command = self.generator(Task::Hold, &idle, &aim)?;
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

    /// Has what `subject` needs, and nothing else, run on the front end's host.
    fn activate(&mut self, subject: Subject) -> Result<(), ComparisonError> {
        let Some(front_end) = subject.front_end() else {
            return Ok(());
        };
        if self.active == Some(front_end) {
            return Ok(());
        }
        self.deactivate()?;
        match front_end {
            FrontEnd::Ashlar { mode, threshold_bytes } => {
                let (path, text) = self.configuration()?;
                let text = with_hand_off(&text, mode, threshold_bytes)?;
                fs::write(&path, text)
                    .map_err(|source| system("configure the front end", source))?;
                self.lab.start_node(FRONT_END)?;
            }
            FrontEnd::Peer(peer) => {
                let command = peer.prepare(&self.proxy, self.files.path())?;
                self.lab.spawn_in(FRONT_END, peer.name(), &command)?;
            }
        }
        self.active = Some(front_end);
        Ok(())
    }

    fn deactivate(&mut self) -> Result<(), ComparisonError> {
        match self.active.take() {
            None => {}
            Some(FrontEnd::Ashlar { .. }) => self.lab.stop_node(FRONT_END)?,
            Some(FrontEnd::Peer(peer)) => self.lab.stop(FRONT_END, peer.name())?,
        }
        Ok(())
    }

    /// The front end's configuration file and its text.
    fn configuration(&self) -> Result<(PathBuf, String), ComparisonError> {
        let path = self
            .lab
            .node_configuration(FRONT_END)?
            .ok_or_else(|| ComparisonError::Configuration("the front end has none".to_owned()))?;
        let text = fs::read_to_string(&path)
            .map_err(|source| system("read the front end's configuration", source))?;
        Ok((path, text))
    }

    /// Where the generator connects in place of the front end, in the order of the storage nodes.
    fn connect_to(
        &mut self,
        subject: Subject,
        case: Case,
        names: &[String],
    ) -> Result<Vec<SocketAddr>, ComparisonError> {
        match (subject, case.scheme) {
            (Subject::Direct, Scheme::Http) => Ok(self.proxy.upstreams.clone()),
            (Subject::Direct, Scheme::Https) => {
                if self.ceiling.is_none() {
                    self.ceiling = Some(Ceiling::start(&self.lab, &self.proxy, self.files.path())?);
                }
                let ceiling = self.ceiling.as_ref().expect("it was started just now");
                ceiling.provide(names, case.size)?;
                Ok(ceiling.addresses().to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What a subject's generator asks for, without names.
    fn aim(&self, case: Case, subject: Subject) -> Aim<'_> {
        let https = self.proxy.https.as_ref().filter(|_| case.scheme == Scheme::Https);
        Aim {
            case,
            host: self.proxy.http.ip(),
            certificate: https.map(|https| https.certificate.as_path()),
            names: &[],
            stays: subject.stays(),
            connect_to: &[],
        }
    }

    /// The generator on the client's host.
    fn generator(
        &self,
        task: Task,
        load: &LoadShape,
        aim: &Aim<'_>,
    ) -> Result<Command, ComparisonError> {
        let program =
            std::env::current_exe().map_err(|source| system("find this program", source))?;
        let mut command = self.lab.command(CLIENT, program)?;
        command.args(generator::arguments(task, load, aim));
        Ok(command)
    }

    /// What everything has used and counted so far.
    fn read_meters(&self, subject: Subject) -> Result<Reading, ComparisonError> {
        let cpu = self.cpu_seconds();
        let at = Instant::now();
        let moves = subject.may_move().then(|| meters::move_counts(&self.lab)).transpose()?;
        Ok(Reading { cpu, at, moves })
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
            Subject::Peer(peer) => self.lab.log(FRONT_END, peer.name()),
            _ => self.lab.node_log(FRONT_END),
        };
        let text = fs::read_to_string(log).unwrap_or_default();
        match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{reason} (its log ends: {})", line.trim()),
            None => reason,
        }
    }
}

/// What the meters show at one moment.
struct Reading {
    cpu: Option<HostCpu>,
    /// When moves began to be counted.
    at: Instant,
    /// Present if the subject can move connections.
    moves: Option<MoveCounts>,
}

impl Reading {
    /// What was used and counted from here to `end`.
    fn until(self, end: Self) -> (Option<HostCpu>, Option<Moves>) {
        let cpu = self.cpu.zip(end.cpu).map(|(start, end)| difference(&start, end));
        let elapsed_seconds = end.at.duration_since(self.at).as_secs_f64();
        let moves = self
            .moves
            .zip(end.moves)
            .map(|(start, end)| Moves { counts: end.since(&start), elapsed_seconds });
        (cpu, moves)
    }
}

fn system(what: &str, source: io::Error) -> ComparisonError {
    ComparisonError::System { what: what.to_owned(), source }
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
