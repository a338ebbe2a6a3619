//! As many connections at one storage node as there can be, all at the same time.

use crate::{
    http_client::{Incoming, Outgoing, Server, read_synthetic},
    laboratory::{LOST, eventually, is_possible, metric, metric_of, number, spec},
    program::{Program, command, finish},
};
use ashlar_lab::{CLIENT, Engine, FRONT_END, Lab, Role};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::{
    io,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How many connections, if it is not the usual number.
const CONNECTIONS: &str = "ASHLAR_TEST_CONNECTIONS";
/// A process opens a few other descriptors.
const OTHER_DESCRIPTORS: u64 = 300;
/// Clients' processes: each has a limit of descriptors, and event loop, of its own.
const PROCESSES: u64 = 2;
/// Connections of a process that are at work at the same time.
const AT_WORK: usize = 64;
/// The object's size: above the threshold, so that its reader moves.
const OBJECT_BYTES: u64 = 3_000;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;

/// Clients that hold many connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) server: Server,
    pub(crate) connections: u64,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Connections that were answered twice, and rightly.
    pub(crate) answered_twice: u64,
    /// Until all were answered once.
    pub(crate) first_seconds: f64,
    /// For the second answers.
    pub(crate) second_seconds: f64,
}

impl Crowd {
    pub(crate) async fn run(self) -> Report {
        let started = Instant::now();
        let at_work = Arc::new(Semaphore::new(AT_WORK));
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..self.connections {
            let at_work = Arc::clone(&at_work);
            opening.spawn(async move {
                let _turn = at_work.acquire().await.unwrap();
                let (mut incoming, mut outgoing) = self.server.connect(PATIENCE).await?;
                ask(&mut incoming, &mut outgoing).await?;
                Ok::<_, io::Error>((incoming, outgoing))
            });
        }
        let mut open = Vec::new();
        while let Some(connection) = opening.join_next().await {
            open.push(connection.unwrap().unwrap());
        }
        let first_seconds = started.elapsed().as_secs_f64();
        // They hold them until whoever started them has seen enough, and closes their input.
        let told = || io::copy(&mut io::stdin(), &mut io::sink());
        tokio::task::spawn_blocking(told).await.unwrap().unwrap();
        let again = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for (mut incoming, mut outgoing) in open {
            let at_work = Arc::clone(&at_work);
            asking.spawn(async move {
                let _turn = at_work.acquire().await.unwrap();
                ask(&mut incoming, &mut outgoing).await.unwrap();
                (incoming, outgoing)
            });
        }
        let open = asking.join_all().await;
        let second_seconds = again.elapsed().as_secs_f64();
        Report { answered_twice: open.len() as u64, first_seconds, second_seconds }
    }
}

async fn ask(incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<()> {
    let path = format!("/{OBJECT_BYTES}");
    let closes = read_synthetic(&path, OBJECT_BYTES, (incoming, outgoing), PATIENCE).await?;
    assert!(!closes, "a crowd's connections stay open");
    Ok(())
}

#[test]
fn a_storage_node_holds_a_crowd_of_connections_that_moved() {
    if !is_possible("a_storage_node_holds_a_crowd_of_connections_that_moved") {
        return;
    }
    // A process inherits its limit, and the storage node needs a descriptor for each connection.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = number(CONNECTIONS, 1_000);
    let connections = wanted.min(limit - OTHER_DESCRIPTORS) / PROCESSES * PROCESSES;
    if connections < wanted {
        println!("only {connections}: a process may have {limit} descriptors here");
    }
    let spec = spec('i').storage_nodes(1).replicas(1).engine(Engine::Synthetic);
    let lab = Lab::up(&spec.threshold_bytes(2_000)).unwrap().down_on_drop();
    let memory = |host| lab.resident_bytes(host).unwrap() / KIB;
    let before = ["fe", "s1"].map(memory);
    for secure in [false, true] {
        let server = Server { address: lab.address(FRONT_END).unwrap(), secure };
        let crowd = Crowd { server, connections: connections / PROCESSES };
        let program = Program::Crowd(crowd);
        let mut clients: Vec<_> = (0..PROCESSES)
            .map(|_| {
                let mut command = command(&lab, CLIENT, &program);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let flows = || metric_of(&lab, FRONT_END, "ashlar_steering_flows").unwrap();
        let held = || metric_of(&lab, "s1", "ashlar_storage_http_connections").unwrap();
        eventually("all have moved", || flows() >= connections && held() >= connections);
        let during = ["fe", "s1"].map(memory);
        clients.iter_mut().for_each(|client| drop(client.stdin.take()));
        let reports: Vec<Report> =
            clients.into_iter().map(|client| finish(&program, client)).collect();
        println!("{connections}, secure: {secure}: {reports:?}");
        println!("KiB of front end and storage node before {before:?}, with them {during:?}");
        let answered: u64 = reports.iter().map(|report| report.answered_twice).sum();
        assert_eq!(answered, connections);
        eventually("all are forgotten", || flows() == 0);
    }
    for role in [Role::FrontEnd, Role::Storage] {
        assert_eq!(metric(&lab, role, LOST), 0);
    }
}
