//! Every schedule of one move, for small worlds.
//!
//! The machines run in a world where messages are lost, repeated and overtake each other, where
//! clocks run at any speed (a deadline may pass at any moment), where shells fail, the channel breaks,
//! and each party dies at every step, between any two of its outputs too. All states of that world
//! are visited, and in each of them hold:
//!
//! | invariant | meaning |
//! |---|---|
//! | one continuation | the exporter's socket was thawed, or the importer's came to life: never both, in any order, even if one of them is dead by now |
//! | reachable | who goes on is whom steering follows, unless steering lost its memory |
//! | nobody is stuck | an unfinished machine has a deadline; deadlines alone lead to its end, with no socket left frozen or mute |
//! | liveness | when nobody dies and messages arrive, the move succeeds, and the client's frames meet a socket at every moment |
//!
//! That the oracle sees something is tested as well: with shells that break their duties it finds
//! two continuations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::{
    collections::{BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    rc::Rc,
};
use world::{Action, Faults, Shell, World};

/// More states mean that the world is not as small as it was meant to be.
const STATES_MAX: usize = 3_000_000;

/// How a state was reached.
struct Trace {
    action: Action,
    before: Option<Rc<Self>>,
}

fn story(trace: &Option<Rc<Trace>>) -> String {
    let mut lines = Vec::new();
    let mut step = trace.as_ref();
    while let Some(trace) = step {
        lines.push(format!("{:?}", trace.action));
        step = trace.before.as_ref();
    }
    lines.reverse();
    lines.join("\n")
}

/// What was seen on the way.
#[derive(Default)]
struct Visited {
    states: HashSet<u64>,
    /// What the two owners were, in all of them.
    owners: HashSet<u64>,
    /// States in which nothing can happen any more.
    last: Vec<World>,
    /// The outcomes that were reported.
    outcomes: BTreeSet<String>,
}

/// Visits every state that can be reached, or gives the first violation with its story.
fn explore(start: World) -> Result<Visited, String> {
    let mut visited = Visited::default();
    let mut waiting: Vec<(World, Option<Rc<Trace>>)> = vec![(start, None)];
    while let Some((world, trace)) = waiting.pop() {
        if !visited.states.insert(fingerprint(&world)) {
            continue;
        }
        assert!(visited.states.len() <= STATES_MAX, "the world is too large");
        let mut checked = world.check();
        if visited.owners.insert(fingerprint(&world.owners())) {
            checked = checked.and_then(|()| world.check_nobody_is_stuck());
        }
        checked.map_err(|violation| format!("{violation}\n{}", story(&trace)))?;
        visited.outcomes.extend(world.outcomes());
        let actions = world.actions();
        if actions.is_empty() {
            visited.last.push(world);
            continue;
        }
        for action in actions {
            let mut next = world.clone();
            next.perform(&action);
            let trace = Trace { action, before: trace.clone() };
            waiting.push((next, Some(Rc::new(trace))));
        }
    }
    Ok(visited)
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn safe(start: World) -> Visited {
    explore(start).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn a_move_that_nobody_disturbs_succeeds_in_every_order_of_events() {
    for is_home in [true, false] {
        let visited = safe(World::new(is_home, Faults::NONE, Shell::Dutiful));
        assert!(!visited.last.is_empty());
        for world in visited.last {
            assert!(world.has_moved(), "{world:?}");
        }
    }
}

#[test]
fn no_deadline_at_any_moment_gives_a_connection_two_owners() {
    let faults = Faults { deadlines: true, ..Faults::NONE };
    let visited = safe(World::new(true, faults, Shell::Dutiful));
    for cause in ["Moved", "FreezeTimeout", "SteeringSilent", "Refused(Superseded)"] {
        assert!(visited.outcomes.iter().any(|outcome| outcome.contains(cause)), "{cause}");
    }
    let contested = "Kept { epoch: 2, cause: OfferTimeout }";
    let taken_back = "Kept { epoch: 3, cause: Refused(SteeringSilent) }";
    for kept in [contested, taken_back] {
        assert!(visited.outcomes.contains(kept), "{:?}", visited.outcomes);
    }
}

#[test]
fn no_death_at_any_moment_gives_a_connection_two_owners() {
    for is_home in [true, false] {
        let faults = Faults { deadlines: true, deaths: 2, ..Faults::NONE };
        safe(World::new(is_home, faults, Shell::Dutiful));
    }
}

#[test]
fn no_repetition_gives_a_connection_two_owners() {
    let faults = Faults { deadlines: true, repetitions: 1, ..Faults::NONE };
    safe(World::new(true, faults, Shell::Dutiful));
}

#[test]
fn no_forgetting_gives_a_connection_two_owners() {
    for is_home in [true, false] {
        let faults = Faults { deadlines: true, memory_losses: 1, deaths: 1, ..Faults::NONE };
        let visited = safe(World::new(is_home, faults, Shell::Dutiful));
        assert!(visited.outcomes.iter().any(|outcome| outcome.contains("SteeringForgot")));
    }
}

#[test]
fn no_broken_channel_gives_a_connection_two_owners() {
    let faults = Faults { deadlines: true, breaks: 1, deaths: 1, ..Faults::NONE };
    let visited = safe(World::new(true, faults, Shell::Dutiful));
    assert!(visited.outcomes.iter().any(|outcome| outcome.contains("ChannelLost")));
}

#[test]
fn no_return_gives_a_connection_two_owners() {
    for is_home in [true, false] {
        let faults =
            Faults { deadlines: true, returns: true, breaks: 1, deaths: 1, ..Faults::NONE };
        safe(World::new(is_home, faults, Shell::Dutiful));
    }
}

#[test]
fn no_change_of_mind_gives_a_connection_two_owners() {
    let faults = Faults { deadlines: true, cancellations: 1, deaths: 1, ..Faults::NONE };
    let visited = safe(World::new(true, faults, Shell::Dutiful));
    assert!(visited.outcomes.iter().any(|outcome| outcome.contains("Cancelled")));
}

#[test]
fn no_failure_of_a_shell_gives_a_connection_two_owners() {
    for (is_full, is_late_unknown) in [(false, false), (false, true), (true, false)] {
        for is_home in [true, false] {
            let failures = 2;
            let faults =
                Faults { deadlines: true, failures, is_full, is_late_unknown, ..Faults::NONE };
            let visited = safe(World::new(is_home, faults, Shell::Dutiful));
            let causes: &[&str] = if is_full {
                &[if is_home { "SteeringFull" } else { "SteeringForgot" }]
            } else if is_late_unknown {
                &["NotFrozen", "NotExported", "Refused(Kernel)", "ReceiveSequenceMoved"]
            } else {
                &["NotFrozen", "NotExported", "Refused(Kernel)"]
            };
            for cause in causes {
                assert!(visited.outcomes.iter().any(|outcome| outcome.contains(cause)), "{cause}");
            }
        }
    }
}

/// Failures of the exporter's shell are bytes that came behind the image.
#[test]
fn bytes_behind_the_image_arrive_wherever_they_come() {
    let faults = Faults { failures: 2, ..Faults::NONE };
    let visited = safe(World::new(true, faults, Shell::Dutiful));
    let passed_on = visited.last.iter().filter(|world| world.has_late_bytes()).count();
    assert!(passed_on > 0);
    assert!(visited.last.iter().all(|world| world.has_late_bytes() || !world.lacks_late_bytes()));
}

#[test]
fn an_exporter_that_thaws_instead_of_resetting_is_found_out() {
    let faults = Faults { deadlines: true, ..Faults::NONE };
    let violation =
        explore(World::new(true, faults, Shell::ThawsInsteadOfResetting)).err().unwrap();
    assert!(violation.starts_with("the exporter goes on, steering follows"), "{violation}");
}

#[test]
fn an_importer_that_serves_what_it_should_close_is_found_out() {
    let faults = Faults { deadlines: true, ..Faults::NONE };
    let violation = explore(World::new(true, faults, Shell::ServesInsteadOfClosing)).err().unwrap();
    let found = ["two continuations", "the importer goes on, steering follows"];
    assert!(found.iter().any(|start| violation.starts_with(start)), "{violation}");
}

/// The second copy may make the entry again that was claimed and forgotten.
#[test]
fn a_flow_that_is_introduced_twice_is_found_out() {
    let faults = Faults { deadlines: true, memory_losses: 1, ..Faults::NONE };
    let violation = explore(World::new(true, faults, Shell::IntroducesTwice)).err().unwrap();
    assert!(violation.starts_with("two continuations"), "{violation}");
}
