//! Campaigns in bad weather: links that lose, repeat and reorder frames, rude users, and nodes that are killed at any moment.

use crate::{
    http_client::Server,
    laboratory::{
        MOVED, RaiseOnDrop, SEED, eventually, is_possible, lose_and_repeat, metric_of, moved,
        number, spec,
    },
    leftovers::{Leftovers, end_and_look},
    program::{Program, run},
    user::{Campaign, Report, Work},
};
use ashlar_lab::{Delay, FRONT_END, FaultAction, Lab, LabSpec, Role};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

/// How many requests a campaign in bad weather has, if it is not the usual number.
const REQUESTS: &str = "ASHLAR_TEST_STORM_REQUESTS";
/// Of so many requests, at least one moves its connection; about every second does where no node dies.
const MOVES_SHARE: u64 = 8;
/// How many connections move from one death to the next.
const MOVES_BETWEEN_DEATHS: Range<u64> = 5..50;
/// A client has its answer, an error or the connection's end within this time, however bad the links are.
const PATIENCE: Duration = Duration::from_secs(30);

fn cluster(letter: char) -> LabSpec {
    spec(letter).storage_nodes(5).replicas(3).threshold_bytes(0)
}

fn campaign(lab: &Lab, secure: bool, requests: u64) -> Campaign {
    Campaign {
        server: Server { address: lab.address(FRONT_END).unwrap(), secure },
        work: Work::Objects,
        users: 16,
        requests,
        seed: 2 * number(SEED, 1) + u64::from(secure),
        rude: true,
        may_break: true,
        patience: PATIENCE,
        transcript: None,
    }
}

/// What there is at rest, when some connections have come and gone: what nodes open once and keep is open.
fn idle(lab: &Lab) -> Leftovers {
    for secure in [false, true] {
        let seed = (1 << 20) + u64::from(secure);
        let calm = Campaign { seed, rude: false, ..campaign(lab, secure, 320) };
        let report: Report = run(lab, &Program::Users(calm));
        assert_eq!(report.broken + report.silent, 0, "{report:?}");
    }
    Leftovers::at_rest(lab)
}

/// Makes every link lose, repeat and reorder frames.
fn disturb(lab: &Lab) {
    for (host, seed) in lab.hosts().filter(|host| host.role != Role::Switch).zip(1..) {
        let delay = Delay {
            delay: Duration::from_millis(1),
            jitter: Duration::from_micros(500),
            reorder: "2%".parse().unwrap(),
            seed,
        };
        lab.fault(&host.name, &FaultAction::Delay(delay)).unwrap();
    }
    lose_and_repeat(lab);
}

fn calm_down(lab: &Lab) {
    for host in lab.hosts().filter(|host| host.role != Role::Switch) {
        lab.fault(&host.name, &FaultAction::Clear).unwrap();
    }
}

/// Plays over HTTP and HTTPS at once, and says what became of it.
fn play(lab: &Lab, requests: u64) -> Report {
    let started = Instant::now();
    let reports = std::thread::scope(|scope| {
        [false, true]
            .map(|secure| {
                let campaign = campaign(lab, secure, requests / 2);
                scope.spawn(move || run::<Report>(lab, &Program::Users(campaign)))
            })
            .map(|thread| thread.join().unwrap())
    });
    let mut sum = Report::default();
    reports.into_iter().for_each(|report| sum += report);
    println!("{:.1} s: {sum:?}", started.elapsed().as_secs_f64());
    sum
}

/// What became of a storm's victims.
#[derive(Clone, Copy, Debug, Default)]
struct Deaths {
    killed: usize,
    /// Connections that the victims had moved: their counts die with them.
    moved: u64,
}

/// Kills nodes at random moments and starts them again, until told to stop.
fn kill_nodes(lab: &Lab, stop: &AtomicBool) -> Deaths {
    let mut random = Pcg64Mcg::seed_from_u64(number(SEED, 1));
    let storage: Vec<_> =
        lab.hosts().filter(|host| host.role == Role::Storage).map(|host| &*host.name).collect();
    let mut deaths = Deaths::default();
    loop {
        // Deaths come where there is something to lose.
        let (before, more) = (moved(lab), random.random_range(MOVES_BETWEEN_DEATHS));
        eventually("connections move", || stop.load(Relaxed) || moved(lab) >= before + more);
        if stop.load(Relaxed) {
            break;
        }
        let mut victims = Vec::new();
        if random.random_bool(0.8) {
            victims.push(storage[random.random_range(0..storage.len())]);
        }
        if victims.is_empty() || random.random_bool(0.2) {
            victims.push(FRONT_END);
        }
        for host in &victims {
            deaths.moved += metric_of(lab, host, MOVED).unwrap();
            lab.fault(host, &FaultAction::Kill).unwrap();
        }
        // Others find out in their own time that a node is dead, or not at all: both must do.
        sleep(Duration::from_millis(random.random_range(0..1_000)));
        for host in &victims {
            lab.fault(host, &FaultAction::Start).unwrap();
        }
        deaths.killed += victims.len();
    }
    deaths
}

/// A storm in which everything is relayed proves nothing: some of all answers come with a move.
fn assert_moves(moves: u64, requests: u64) {
    println!("{moves} moves for {requests} requests");
    assert!(moves * MOVES_SHARE >= requests, "{moves} moves for {requests} requests");
}

#[test]
fn rude_users_on_bad_links_get_right_bytes_and_leave_nothing_behind() {
    if !is_possible("rude_users_on_bad_links_get_right_bytes_and_leave_nothing_behind") {
        return;
    }
    let lab = Lab::up(&cluster('g')).unwrap().down_on_drop();
    let idle = idle(&lab);
    disturb(&lab);
    let requests = number(REQUESTS, 320);
    let before = moved(&lab);
    let report = play(&lab, requests);
    assert_moves(moved(&lab) - before, requests);
    calm_down(&lab);
    assert_eq!(report.silent, 0, "nobody died, so everybody is answered: {report:?}");
    assert!(report.answered * 10 >= requests * 7, "{report:?}");
    Leftovers::vanish(&lab, &idle);
    end_and_look(&lab, false);
}

/// Plays while nodes are killed. Returns the report, and how many were.
fn play_with_deaths(lab: &Lab, requests: u64) -> (Report, usize) {
    let stop = AtomicBool::new(false);
    let before = moved(lab);
    let (report, deaths) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_nodes(lab, &stop));
        let stops = RaiseOnDrop(&stop);
        let report = play(lab, requests);
        drop(stops);
        (report, killer.join().unwrap())
    });
    // Those between the last look at a victim and its death are not counted.
    assert_moves(moved(lab) + deaths.moved - before, requests);
    let killed = deaths.killed;
    println!("{killed} nodes were killed");
    assert!(killed > 0 && report.answered * 4 >= requests, "{killed} killed, {report:?}");
    (report, killed)
}

#[test]
fn users_of_nodes_that_are_killed_get_right_bytes_or_none() {
    if !is_possible("users_of_nodes_that_are_killed_get_right_bytes_or_none") {
        return;
    }
    let lab = Lab::up(&cluster('h')).unwrap().down_on_drop();
    let idle = idle(&lab);
    let (report, killed) = play_with_deaths(&lab, number(REQUESTS, 800));
    // An owner that dies in the middle of a move is silent: its frozen socket goes with it without a word.
    assert!(report.silent <= 2 + killed as u64 / 4, "{report:?}");
    Leftovers::vanish(&lab, &idle);
    end_and_look(&lab, true);
}

#[test]
#[ignore = "minutes: `make soak` runs it"]
fn users_of_nodes_that_are_killed_behind_bad_links_get_right_bytes_or_none() {
    if !is_possible("users_of_nodes_that_are_killed_behind_bad_links_get_right_bytes_or_none") {
        return;
    }
    let lab = Lab::up(&cluster('m')).unwrap().down_on_drop();
    let idle = idle(&lab);
    disturb(&lab);
    let (report, killed) = play_with_deaths(&lab, number(REQUESTS, 800));
    calm_down(&lab);
    // A dead host's kernel says it once: a client that only listens may miss it.
    assert!(report.silent <= 2 + killed as u64, "{report:?}");
    Leftovers::vanish(&lab, &idle);
    end_and_look(&lab, true);
}
