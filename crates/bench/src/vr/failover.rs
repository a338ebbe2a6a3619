//! What a killed leader costs clients.

use super::group::Group;
use super::processes::system;
use super::sessions::Sessions;
use crate::comparison::ComparisonError;
use crate::histogram::Latencies;
use std::io;
use std::time::{Duration, Instant};

/// Clients in a closed loop, as far as each is concerned alone.
const CLIENTS: usize = 8;
/// The length of their values.
const VALUE_BYTES: usize = 64;
/// How long all goes well before a leader is killed.
const BEFORE: Duration = Duration::from_millis(500);
/// How long clients are watched after it: longer than any of them should wait.
const AFTER: Duration = Duration::from_secs(3);

/// Kills a group's leader so often, with clients in a closed loop, and has it come back in between. Gives, for each
/// kill and client, how long it had no answer.
pub(super) fn silences(
    group: &mut Group,
    kills: usize,
    mut step: impl FnMut(usize) -> Result<(), ComparisonError>,
) -> Result<Latencies, ComparisonError> {
    let mut silences = Latencies::new();
    for kill in 0..kills {
        step(kill)?;
        let leader = group.leader()?;
        let mut clients = Watched::new(group).map_err(system("clients".to_owned()))?;
        clients.run(Instant::now() + BEFORE).map_err(system("clients".to_owned()))?;
        let killed = Instant::now();
        group.kill(leader);
        clients.run(killed + AFTER).map_err(system("clients".to_owned()))?;
        for silence in clients.longest_since(killed, killed + AFTER) {
            silences.record(silence);
        }
        group.run(leader)?;
        group.wait_for_member(leader)?;
    }
    Ok(silences)
}

/// Clients whose answers are timed.
struct Watched {
    sessions: Sessions,
    /// When each client had its answers.
    answered: Vec<Vec<Instant>>,
}

impl Watched {
    fn new(group: &Group) -> io::Result<Self> {
        let mut sessions = Sessions::new(&group.members, CLIENTS, VALUE_BYTES)?;
        for session in 0..CLIENTS {
            sessions.begin(session, Instant::now());
        }
        Ok(Self { sessions, answered: vec![Vec::new(); CLIENTS] })
    }

    fn run(&mut self, until: Instant) -> io::Result<()> {
        while Instant::now() < until {
            for ended in self.sessions.wait(until)? {
                if !ended.executed {
                    return Err(io::Error::other("a client lost its session"));
                }
                self.answered[ended.session].push(Instant::now());
                self.sessions.begin(ended.session, Instant::now());
            }
        }
        Ok(())
    }

    /// For each client, the longest time without an answer that ended after `moment`, or has not ended at `until`.
    fn longest_since(&self, moment: Instant, until: Instant) -> Vec<Duration> {
        let longest = |answered: &Vec<Instant>| {
            let ends = answered.iter().skip(1).chain([&until]);
            let silences = answered.iter().zip(ends).filter(|(_, end)| **end > moment);
            silences.map(|(begin, end)| *end - *begin).max().unwrap_or(until - moment)
        };
        self.answered.iter().map(longest).collect()
    }
}
