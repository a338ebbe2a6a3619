//! The flow table of the steering program, driven by the process that owns it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::steering::{
    Counter, Description, FlowState, Operation, PassReason, ResultCode, Settings, Steering,
    TCP_ACK, TCP_FIN, TCP_SYN, Verdict, memory_bytes, now_ns,
};
use ashlar_kernel::testing::ledger;
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};
use support::REQUIREMENTS;
use support::steering::{ONE, TWO, flow, owner, point, settings};

const HOUR_NS: u64 = 3_600_000_000_000;

fn load(flows_max: u32) -> Steering {
    Steering::load(&Settings { flows_max, ..settings() }).unwrap()
}

fn result(steering: &mut Steering, operation: &Operation) -> ResultCode {
    steering.execute(operation).unwrap().result
}

#[test]
fn operations_are_answered_with_the_resulting_state() {
    if !ledger("operations_are_answered_with_the_resulting_state", &REQUIREMENTS) {
        return;
    }
    let mut steering = load(8);
    let flow = flow(1);
    assert_eq!(result(&mut steering, &Operation::Query { flow }), ResultCode::UnknownFlow);
    let before_ns = now_ns();
    let reply = steering.execute(&point(1, ONE, 5)).unwrap();
    let state = reply.state.unwrap();
    assert_eq!((reply.result, reply.flow), (ResultCode::Applied, flow));
    assert_eq!((state.owner, state.epoch, state.closing), (ONE, 5, false));
    // The kernel stamps by its coarse clock, which lags behind by a tick; and the machine may be busy.
    assert!(state.last_seen_ns.abs_diff(before_ns) < 5_000_000_000, "{state:?}");
    assert_eq!(reply.incarnation, steering.incarnation());

    assert_eq!(result(&mut steering, &point(1, ONE, 5)), ResultCode::Same);
    assert_eq!(result(&mut steering, &point(1, TWO, 5)), ResultCode::StaleEpoch);
    assert_eq!(result(&mut steering, &point(1, TWO, 4)), ResultCode::StaleEpoch);
    assert_eq!(result(&mut steering, &point(1, TWO, 6)), ResultCode::Applied);
    let reply = steering.execute(&Operation::Query { flow }).unwrap();
    assert_eq!(reply.state.unwrap().owner, TWO);
    assert_eq!(
        result(&mut steering, &Operation::Forget { flow, epoch: 5 }),
        ResultCode::StaleEpoch
    );
    let reply = steering.execute(&Operation::Forget { flow, epoch: 6 }).unwrap();
    assert_eq!((reply.result, reply.state), (ResultCode::Applied, None));
    assert_eq!(
        result(&mut steering, &Operation::Forget { flow, epoch: 6 }),
        ResultCode::UnknownFlow
    );

    let counters = steering.counters().unwrap();
    let of = |result| counters.get(Counter::of_result(result));
    assert_eq!(of(ResultCode::Applied), 3);
    assert_eq!((of(ResultCode::Same), of(ResultCode::StaleEpoch)), (2, 3));
    assert_eq!(of(ResultCode::UnknownFlow), 2);
}

#[test]
fn a_full_table_says_so_and_keeps_what_it_has() {
    if !ledger("a_full_table_says_so_and_keeps_what_it_has", &REQUIREMENTS) {
        return;
    }
    const FLOWS: u32 = 16;
    let mut steering = load(FLOWS);
    for number in 0..FLOWS {
        assert_eq!(result(&mut steering, &point(number, ONE, 1)), ResultCode::Applied);
    }
    let reply = steering.execute(&point(FLOWS, ONE, 1)).unwrap();
    assert_eq!((reply.result, reply.state), (ResultCode::TableFull, None));
    assert_eq!(result(&mut steering, &point(3, TWO, 2)), ResultCode::Applied, "no new flow");
    let forget = Operation::Forget { flow: flow(3), epoch: 2 };
    assert_eq!(result(&mut steering, &forget), ResultCode::Applied);
    assert_eq!(result(&mut steering, &point(FLOWS, ONE, 1)), ResultCode::Applied);
    assert_eq!(steering.flows().unwrap().count(), FLOWS as usize);
    assert_eq!(steering.counters().unwrap().get(Counter::ControlTableFull), 1);
}

#[test]
fn idle_flows_age_and_ending_ones_sooner() {
    if !ledger("idle_flows_age_and_ending_ones_sooner", &REQUIREMENTS) {
        return;
    }
    let mut steering = load(1_024);
    for number in 0..100 {
        let operation =
            Operation::Point { flow: flow(number), owner: ONE, epoch: 1, closing: number < 10 };
        steering.execute(&operation).unwrap();
    }
    let sweep_all = |steering: &mut Steering, later_ns: u64| {
        let mut removed = 0;
        for _ in 0..16 {
            let sweep = steering.sweep(now_ns() + later_ns).unwrap();
            removed += sweep.removed;
            if sweep.is_complete {
                return removed;
            }
        }
        panic!("a small table takes so many calls");
    };
    assert_eq!(sweep_all(&mut steering, 0), 0);
    assert_eq!(sweep_all(&mut steering, 29_000_000_000), 0);
    assert_eq!(sweep_all(&mut steering, 31_000_000_000), 10);
    assert_eq!(sweep_all(&mut steering, HOUR_NS - 60_000_000_000), 0);
    assert_eq!(sweep_all(&mut steering, HOUR_NS), 90);
    assert_eq!(steering.flows().unwrap().count(), 0);
}

#[test]
fn a_flow_that_was_seen_meanwhile_is_not_expired() {
    if !ledger("a_flow_that_was_seen_meanwhile_is_not_expired", &REQUIREMENTS) {
        return;
    }
    let mut steering = load(8);
    let state = steering.execute(&point(1, ONE, 1)).unwrap().state.unwrap();
    let expire = |last_seen_ns| Operation::Expire { flow: flow(1), epoch: 1, last_seen_ns };
    let stale = expire(state.last_seen_ns - 1);
    assert_eq!(result(&mut steering, &stale), ResultCode::StaleEpoch);
    assert_eq!(result(&mut steering, &expire(state.last_seen_ns)), ResultCode::Applied);
}

#[test]
fn the_flows_of_a_dead_owner_are_forgotten() {
    if !ledger("the_flows_of_a_dead_owner_are_forgotten", &REQUIREMENTS) {
        return;
    }
    const FLOWS: u32 = 10_000;
    let mut steering = load(FLOWS);
    for number in 0..FLOWS {
        steering.execute(&point(number, owner(number as u16 % 4), u64::from(number) + 1)).unwrap();
    }
    assert_eq!(steering.forget_owner(2).unwrap(), u64::from(FLOWS) / 4);
    assert_eq!(steering.forget_owner(2).unwrap(), 0);
    let mut left = HashMap::<u16, u32>::new();
    for flow in steering.flows().unwrap() {
        *left.entry(flow.unwrap().1.owner.id).or_default() += 1;
    }
    assert_eq!(left, HashMap::from([(0, FLOWS / 4), (1, FLOWS / 4), (3, FLOWS / 4)]));
}

#[test]
fn executors_of_several_threads_lose_nothing() {
    if !ledger("executors_of_several_threads_lose_nothing", &REQUIREMENTS) {
        return;
    }
    const THREADS: u32 = 4;
    const POINTS: u32 = 3_000;
    let steering = load(THREADS * POINTS + 1);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut executor = steering.executor();
            scope.spawn(move || {
                for number in 0..POINTS {
                    let own = executor.execute(&point(thread * POINTS + number, ONE, 1)).unwrap();
                    assert_eq!(own.result, ResultCode::Applied);
                    // All on one flow: the epochs of one thread lie between those of the others.
                    let epoch = u64::from(number * THREADS + thread + 1);
                    let shared = executor
                        .execute(&point(THREADS * POINTS, owner(thread as u16), epoch))
                        .unwrap();
                    assert!(shared.state.unwrap().epoch >= epoch, "{shared:?}");
                }
            });
        }
    });
    let states: HashMap<_, FlowState> = steering.flows().unwrap().map(Result::unwrap).collect();
    assert_eq!(states.len() as u32, THREADS * POINTS + 1);
    let shared = states[&flow(THREADS * POINTS)];
    assert_eq!(shared.epoch, u64::from(THREADS * POINTS));
    assert_eq!(shared.owner, owner(THREADS as u16 - 1));
}

#[test]
fn explaining_changes_nothing() {
    if !ledger("explaining_changes_nothing", &REQUIREMENTS) {
        return;
    }
    let mut steering = load(8);
    let explain = |steering: &Steering, number, tcp_flags| {
        steering.explain(&Description { flow: flow(number), tcp_flags }).unwrap()
    };
    let unknown = explain(&steering, 1, TCP_SYN);
    assert_eq!(unknown.verdict, Verdict::Pass(PassReason::NoFlow));
    assert!(unknown.to_string().contains("not in the table"), "{unknown}");

    let state = steering.execute(&point(1, ONE, 5)).unwrap().state;
    let steered = explain(&steering, 1, TCP_ACK | TCP_FIN);
    assert_eq!((steered.verdict, steered.state), (Verdict::Steer(ONE.mac), state));
    assert!(steered.closes);
    let expected = "leaves for 02:00:00:00:00:01; owner 1, epoch 5; the flow would be ending";
    assert!(steered.to_string().contains(expected), "{steered}");
    assert_eq!(steering.execute(&Operation::Query { flow: flow(1) }).unwrap().state, state);

    let ended = Operation::Point { flow: flow(2), owner: TWO, epoch: 1, closing: true };
    steering.execute(&ended).unwrap();
    assert_eq!(explain(&steering, 2, TCP_SYN).verdict, Verdict::PassAndForget);
    assert_eq!(steering.flows().unwrap().count(), 2);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Steering::load(&settings).unwrap_err().to_string()
    };
    for (field, change) in [
        (
            "flows_max",
            &(|settings: &mut Settings| settings.flows_max = 0) as &dyn Fn(&mut Settings),
        ),
        ("flows_max", &|settings| settings.flows_max = u32::MAX),
        ("senders_max", &|settings| settings.senders_max = 0),
        ("senders_max", &|settings| settings.senders_max = (1 << 16) + 1),
        ("sender", &|settings| settings.sender = u16::MAX),
        ("control", &|settings| (settings.control.ipv4, settings.control.ipv6) = (None, None)),
        ("control", &|settings| settings.control.port = 0),
        ("idle_timeout", &|settings| settings.idle_timeout = Duration::ZERO),
        ("closing_timeout", &|settings| settings.closing_timeout = Duration::from_millis(999)),
    ] {
        let message = refused(change);
        assert!(message.starts_with(&format!("{field}: expected ")), "{message}");
    }
}

#[test]
fn a_million_flows_fit() {
    if !ledger("a_million_flows_fit", &REQUIREMENTS) {
        return;
    }
    const FLOWS: u32 = 1_000_000;
    let mut steering = load(FLOWS);
    let estimate = memory_bytes(FLOWS);
    let empty_bytes = steering.flow_table_bytes().unwrap();
    let start = Instant::now();
    for number in 0..FLOWS {
        assert_eq!(result(&mut steering, &point(number, ONE, 1)), ResultCode::Applied);
    }
    let each = start.elapsed() / FLOWS;
    let full_bytes = steering.flow_table_bytes().unwrap();
    let start = Instant::now();
    assert_eq!(steering.flows().unwrap().map(Result::unwrap).count(), FLOWS as usize);
    let reading = start.elapsed();
    println!(
        "{FLOWS} flows: {empty_bytes} bytes when empty, {full_bytes} when full, estimated {estimate:?}; \
         {each:?} to point each, {reading:?} to read all"
    );
    // The kernel counts some for itself, and what its allocator rounds up not at all.
    let is_close = |counted: u64, estimated: u64| counted.abs_diff(estimated) < estimated / 8;
    assert!(is_close(empty_bytes, estimate.empty_bytes), "{empty_bytes}");
    assert!(is_close(full_bytes, estimate.full_bytes), "{full_bytes}");
}
