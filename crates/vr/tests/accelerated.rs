//! A replica and programs that decide for it in turns.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_vr::{
    Accelerated, Allowed, ClientId, Configuration, DoViewChange, Entry, FastPath, Kind, Message,
    Options, Output, Replica, Request, Share, Start, Taken, View, kv::KeyValue,
};
use bytes::Bytes;
use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc};

/// What programs would see and do.
#[derive(Debug, Default)]
struct Programs {
    /// None while they are shut out.
    terms: Option<Share>,
    kept: VecDeque<Taken>,
    acknowledged: [Option<(u64, u64)>; 7],
    /// They were shut out so often.
    closed: u32,
}

#[derive(Clone, Debug, Default)]
struct Memory(Rc<RefCell<Programs>>);

impl FastPath for Memory {
    fn close(&mut self) {
        let mut programs = self.0.borrow_mut();
        (programs.terms, programs.closed) = (None, programs.closed + 1);
    }

    fn open(&mut self, _now_us: u64, share: &Share, _configuration: &Configuration) {
        assert!(self.0.borrow().kept.is_empty(), "all that was kept has been taken");
        self.0.borrow_mut().terms = Some(*share);
    }

    fn keep_open(&mut self, _now_us: u64, _commit: u64) {}

    fn take(&mut self) -> Option<Taken> {
        self.0.borrow_mut().kept.pop_front()
    }

    fn acknowledged(&mut self, place: usize) -> Option<(u64, u64)> {
        self.0.borrow().acknowledged[place]
    }

    fn fall_asleep(&mut self) -> bool {
        true
    }

    fn wake_up(&mut self) {}
}

impl Memory {
    fn terms(&self) -> Option<Share> {
        self.0.borrow().terms
    }

    /// A program takes an entry of the leader.
    fn keep(&self, commit: u64, entry: &Entry) {
        let entries = vec![entry.clone()];
        self.0.borrow_mut().kept.push_back(Taken::Prepare { commit, entries });
    }
}

type Member = Accelerated<KeyValue, Memory>;

fn members() -> Vec<SocketAddr> {
    (1..=3).map(|host| SocketAddr::from(([10, 0, 0, host], 7_000))).collect()
}

/// A member of a new group of three, with programs that may do everything. The first one leads.
fn member(place: usize) -> (Member, Memory) {
    let start = Start::New(Configuration::new(0, members()).unwrap());
    let (options, service) = (Options::default(), KeyValue::default());
    let replica = Replica::new(0, members()[place], options, 1, start, service).unwrap();
    let (mut member, memory) = (Accelerated::new(replica), Memory::default());
    let all = Allowed { early_acknowledgement: true, quorum: true };
    member.accelerate(memory.clone(), all);
    perform(&mut member, 0);
    (member, memory)
}

/// Does what the member wants done, and lets programs in again; what it says.
fn perform(member: &mut Member, now_us: u64) -> Vec<Message> {
    let mut said = Vec::new();
    while let Some(output) = member.poll_output() {
        match output {
            Output::Send { message, .. } | Output::Multicast { message, .. } => said.push(message),
            Output::Persist { number, .. } => {
                member.input(now_us, |replica| replica.handle_persisted(now_us, number));
            }
            Output::Reply(_) | Output::Read { .. } => {}
        }
    }
    member.settle(now_us);
    said
}

fn entry(op: u64, previous: u64, kind: Kind, body: &'static [u8]) -> Entry {
    let (client, body) = (ClientId(1), Bytes::from_static(body));
    let request = Request { client, session: 1, number: op - 1, acknowledged: 0, kind, body };
    Entry::new(op, View::new(0, 0), 5, request, previous)
}

/// The first two entries of the first view.
fn entries() -> [Entry; 2] {
    let first = entry(1, 0, Kind::Register, b"");
    let second = entry(2, first.digest, Kind::Operation, b"");
    [first, second]
}

/// The third member votes for a view, with an empty log.
fn vote(member: &mut Member, now_us: u64, view: View) -> Vec<Message> {
    let last_normal = View::new(0, 0);
    let vote = DoViewChange { view, last_normal, commit: 0, head_op: 0, holes: Vec::new() };
    let vote = Message::DoViewChange(vote);
    member.input(now_us, |replica| replica.handle_message(now_us, members()[2], vote));
    perform(member, now_us)
}

#[test]
fn who_leads_next_has_everything_that_its_programs_have_taken() {
    let (mut member, memory) = member(1);
    assert!(matches!(memory.terms(), Some(Share::Follow { leader: 0, op: 0, .. })));
    for entry in &entries() {
        memory.keep(0, entry);
    }
    // What was taken shows that the leader lived a moment ago: nobody else may lead for a while.
    let next = View::new(0, 1);
    assert_eq!(vote(&mut member, 1_000_000, next), []);
    let said = vote(&mut member, 2_000_000, next);
    let head = said.iter().find_map(|message| match message {
        Message::StartView { view, head_op, .. } => Some((*view, *head_op)),
        _ => None,
    });
    assert_eq!(head, Some((next, 2)));
    assert!(matches!(memory.terms(), Some(Share::Lead { view, .. }) if view == next));
}

#[test]
fn programs_are_shut_out_while_anything_is_put_in() {
    let (mut member, memory) = member(2);
    let open = memory.clone();
    member.input(10, move |_| assert_eq!(open.terms(), None));
    perform(&mut member, 10);
    assert!(matches!(memory.terms(), Some(Share::Follow { .. })));
    let closed = memory.0.borrow().closed;
    memory.keep(0, &entries()[0]);
    member.look(20);
    perform(&mut member, 20);
    assert_eq!(member.replica().log().head_op(), 1);
    assert_eq!(memory.0.borrow().closed, closed, "taking needs no lock");
}

#[test]
fn what_programs_have_acknowledged_is_not_acknowledged_again() {
    let (mut member, memory) = member(2);
    memory.keep(0, &entries()[0]);
    member.look(20);
    assert_eq!(perform(&mut member, 20), []);
}

#[test]
fn both_append_to_one_log() {
    let (mut member, memory) = member(2);
    let [first, second] = entries();
    memory.keep(0, &first);
    let view = View::new(0, 0);
    let message = Message::Prepare {
        view,
        commit: 0,
        previous: first.digest,
        is_followed: false,
        entries: vec![second.clone()],
    };
    member.input(10, |replica| replica.handle_message(10, members()[0], message));
    let digest = second.digest;
    assert_eq!(perform(&mut member, 10), [Message::PrepareOk { view, op: 2, digest }]);
    let Some(Share::Follow { op, digest: told, .. }) = memory.terms() else { panic!("they go on") };
    assert_eq!((op, told), (2, digest));
}

#[test]
fn a_leader_counts_what_programs_keep_without_being_told() {
    let (mut member, memory) = member(0);
    assert!(matches!(memory.terms(), Some(Share::Lead { needed: 1, .. })));
    let Entry { request, .. } = entries()[0].clone();
    let request = Request { session: 0, number: 0, ..request };
    member.handle_request(10, 5, request);
    perform(&mut member, 10);
    let digest = member.replica().log().head_digest().unwrap();
    // A backup that has another log proves nothing.
    memory.0.borrow_mut().acknowledged[1] = Some((1, digest + 1));
    let look_us = member.poll_timeout().unwrap();
    assert_eq!(look_us, 10 + 1_000);
    member.handle_timeout(look_us);
    assert_eq!(member.replica().commit(), 0);
    memory.0.borrow_mut().acknowledged[2] = Some((1, digest));
    member.handle_timeout(look_us + 1_000);
    assert_eq!(member.replica().commit(), 1);
}

#[test]
fn an_entry_that_ends_the_epoch_shuts_programs_out_before_it_is_executed() {
    let (mut member, memory) = member(2);
    let first = &entries()[0];
    let last = entry(2, first.digest, Kind::Reconfigure, b"10.0.0.1:7000 10.0.0.2:7000");
    memory.keep(0, first);
    memory.keep(1, &last);
    member.look(10);
    assert_eq!(memory.terms(), None);
    perform(&mut member, 10);
    assert_eq!(memory.terms(), Some(Share::Nothing), "until it is executed");
}

#[test]
fn much_is_put_in_piece_by_piece_unless_programs_are_shut_out() {
    for (kind, at_once) in [(Kind::Operation, 256), (Kind::Reconfigure, 300)] {
        let (mut member, memory) = member(2);
        let mut previous = 0;
        for op in 1..=300 {
            let first = op == 1 && kind == Kind::Reconfigure;
            let kind = if first { kind } else { Kind::Operation };
            let next = entry(op, previous, kind, b"10.0.0.1:7000 10.0.0.2:7000");
            memory.keep(0, &next);
            previous = next.digest;
        }
        member.look(10);
        assert_eq!(member.replica().log().head_op(), at_once);
        perform(&mut member, 10);
        if kind == Kind::Operation {
            assert_eq!(member.poll_timeout(), Some(10), "the rest waits");
            member.handle_timeout(10);
        }
        assert_eq!(member.replica().log().head_op(), 300);
    }
}

#[test]
fn what_cannot_be_read_or_does_not_follow_is_told() {
    let [first, second] = entries();
    for (kept, lost_op) in [(Taken::Unreadable, 1), (taken(second), 1)] {
        let (mut member, memory) = member(2);
        memory.0.borrow_mut().kept.push_back(kept);
        memory.0.borrow_mut().kept.push_back(taken(first.clone()));
        member.look(10);
        assert_eq!(member.replica().divergence(), Some(lost_op));
    }
}

fn taken(entry: Entry) -> Taken {
    Taken::Prepare { commit: 0, entries: vec![entry] }
}

#[test]
fn a_backup_sleeps_when_nothing_comes() {
    let (mut member, memory) = member(2);
    memory.keep(0, &entries()[0]);
    member.look(100);
    perform(&mut member, 100);
    assert_eq!(member.poll_timeout(), Some(600), "more may come soon");
    member.handle_timeout(2_200);
    perform(&mut member, 2_200);
    assert!(member.poll_timeout().unwrap() > 100_000, "only the leader's silence wakes it");
}
