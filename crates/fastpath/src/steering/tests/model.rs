//! Random requests, lost, repeated, late and forged, against the plainest possible table.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Small numbers everywhere, so that requests meet.
fn any_operation() -> impl Strategy<Value = Operation> {
    let flow = (1..4_u16).prop_map(flow);
    let owner = prop_oneof![Just(ONE), Just(TWO)];
    let closing = prop_oneof![Just(false), Just(true)];
    (0..5, flow, owner, 1..6_u64, 0..4_u64, closing).prop_map(
        |(kind, flow, owner, epoch, last_seen_ns, closing)| match kind {
            0 => Operation::Point { flow, owner, epoch, closing },
            1 => Operation::Forget { flow, epoch },
            2 => Operation::Expire { flow, epoch, last_seen_ns },
            3 => Operation::Claim { flow, owner, epoch, closing },
            _ => Operation::Query { flow },
        },
    )
}

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug)]
enum Way {
    Arrives,
    Lost,
    /// It comes again after this many others.
    Repeated(usize),
    Forged(usize),
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        4 => Just(Way::Arrives),
        1 => Just(Way::Lost),
        2 => (0..10_usize).prop_map(Way::Repeated),
        1 => (0..CONTROL_FRAME_BYTES).prop_map(Way::Forged),
    ]
}

/// What the kernel's shell does, with a map in place of the kernel's.
#[derive(Default)]
struct Table {
    flows: BTreeMap<FlowKey, Entry>,
    window: ReplayWindow,
}

impl Table {
    /// The reply, if there is one.
    fn receive(&mut self, mut frame: ControlFrame, now_ns: u64) -> Option<Reply> {
        frame.check(key().words()).ok()?;
        let Freshness::Fresh(window) = self.window.accept(frame.counter()) else {
            return None;
        };
        self.window = window;
        let flow = frame.flow();
        let found =
            self.flows.get(&flow).map_or(EntryOrNone::NONE, |entry| EntryOrNone::some(*entry));
        let decision = decide(&found, &frame, identity(&flow), now_ns);
        match decision.effect {
            Effect::None => {}
            Effect::Insert => assert!(self.flows.insert(flow, decision.after.entry).is_none()),
            Effect::Update => assert!(self.flows.insert(flow, decision.after.entry).is_some()),
            Effect::Remove => assert!(self.flows.remove(&flow).is_some()),
        }
        frame.turn(decision.result, &decision.after, INCARNATION, key().words());
        Some(Reply::open(frame.bytes(), &key()).unwrap())
    }
}

/// What the operations mean, said as plainly as possible: owner, epoch, closing, time.
type Model = BTreeMap<FlowKey, FlowState>;

fn apply(model: &mut Model, operation: Operation, now_ns: u64) -> ResultCode {
    let flow = operation.flow();
    let present = model.get(&flow).copied();
    match (operation, present) {
        (Operation::Claim { .. }, None) => ResultCode::UnknownFlow,
        (
            Operation::Point { owner, epoch, closing, .. }
            | Operation::Claim { owner, epoch, closing, .. },
            before,
        ) if before.is_none_or(|before| epoch > before.epoch) => {
            let closing = closing || before.is_some_and(|before| before.closing);
            model.insert(flow, FlowState { owner, epoch, closing, last_seen_ns: now_ns });
            ResultCode::Applied
        }
        (
            Operation::Point { owner, epoch, .. } | Operation::Claim { owner, epoch, .. },
            Some(before),
        ) => {
            let same = (before.owner, before.epoch) == (owner, epoch);
            if same { ResultCode::Same } else { ResultCode::StaleEpoch }
        }
        (_, None) => ResultCode::UnknownFlow,
        (Operation::Query { .. }, Some(_)) => ResultCode::Same,
        (Operation::Forget { epoch, .. }, Some(before)) if epoch >= before.epoch => {
            model.remove(&flow);
            ResultCode::Applied
        }
        (Operation::Expire { epoch, last_seen_ns, .. }, Some(before))
            if (epoch, last_seen_ns) == (before.epoch, before.last_seen_ns) =>
        {
            model.remove(&flow);
            ResultCode::Applied
        }
        (Operation::Forget { .. } | Operation::Expire { .. }, Some(_)) => ResultCode::StaleEpoch,
    }
}

fn compare(table: &Table, model: &Model) {
    let states: Model =
        table.flows.iter().map(|(flow, entry)| (*flow, FlowState::from(*entry))).collect();
    assert_eq!(&states, model);
    assert!(table.flows.iter().all(|(flow, entry)| entry.identity == identity(flow)));
}

proptest! {
    #[test]
    fn the_table_holds_what_the_model_holds(
        requests in proptest::collection::vec((any_operation(), any_way()), 0..200),
    ) {
        let (mut table, mut model) = (Table::default(), Model::new());
        let mut late: Vec<(usize, ControlFrame)> = Vec::new();
        for (number, (operation, way)) in requests.into_iter().enumerate() {
            // Time stands still now and then, so that an Expire can fit.
            let now_ns = number as u64 / 4 % 4;
            let counter = number as u64 + 1;
            let request = Request { sender: 1, counter, incarnation: INCARNATION, operation };
            let mut frame = request.seal(&key());
            if let Way::Forged(byte) = way {
                frame.words_mut()[byte / 8] ^= 1 << (byte % 8 * 8);
            }
            if !matches!(way, Way::Lost) {
                let reply = table.receive(frame, now_ns);
                if matches!(way, Way::Forged(_)) {
                    prop_assert_eq!(reply, None);
                } else {
                    let reply = reply.unwrap();
                    prop_assert_eq!(reply.result, apply(&mut model, operation, now_ns));
                    prop_assert_eq!(reply.state, model.get(&operation.flow()).copied());
                    prop_assert_eq!((reply.counter, reply.operation), (counter, operation.code()));
                }
            }
            if let Way::Repeated(after) = way {
                late.push((number + after, frame));
            }
            for (_, frame) in late.iter().filter(|(due, _)| *due == number) {
                prop_assert_eq!(table.receive(*frame, now_ns), None, "a repetition acted again");
            }
            compare(&table, &model);
        }
    }

    /// Requests may overtake each other: the highest epoch wins, whatever the order.
    #[test]
    fn the_newest_point_wins_in_any_order(
        epochs in Just((1..20_u64).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut table = Table::default();
        for (number, epoch) in epochs.into_iter().enumerate() {
            let owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, epoch as u8]), id: epoch as u16 };
            let operation = Operation::Point { flow: flow(1), owner, epoch, closing: false };
            let request =
                Request { sender: 1, counter: number as u64 + 1, incarnation: INCARNATION, operation };
            let reply = table.receive(request.seal(&key()), 0).unwrap();
            prop_assert!(reply.state.unwrap().epoch >= epoch);
        }
        prop_assert_eq!(table.flows[&flow(1)].owner().id, 19);
    }

    /// Claims of one epoch: the first one gets it, the others are told who did, whatever comes twice or late.
    #[test]
    fn one_of_all_who_claim_an_epoch_gets_it(
        claims in proptest::collection::vec((prop_oneof![Just(ONE), Just(TWO)], any_way()), 1..20),
        is_known in proptest::bool::ANY,
    ) {
        let mut table = Table::default();
        let mut ask = |counter, operation| {
            let request = Request { sender: 1, counter, incarnation: INCARNATION, operation };
            table.receive(request.seal(&key()), 0).unwrap()
        };
        if is_known {
            ask(1, Operation::Point { flow: flow(1), owner: ONE, epoch: 1, closing: false });
        }
        let mut winner = None;
        for (number, (owner, way)) in claims.into_iter().enumerate() {
            if matches!(way, Way::Lost | Way::Forged(_)) {
                continue;
            }
            let claim = Operation::Claim { flow: flow(1), owner, epoch: 2, closing: false };
            let reply = ask(number as u64 + 2, claim);
            if !is_known {
                prop_assert_eq!((reply.result, reply.state), (ResultCode::UnknownFlow, None));
                continue;
            }
            let first = *winner.get_or_insert(owner);
            prop_assert_eq!(reply.state.unwrap().owner, first);
            prop_assert_eq!(reply.result == ResultCode::StaleEpoch, owner != first);
        }
    }
}
