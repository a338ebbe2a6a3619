//! What a leader does: gives requests their places, hands them out, counts who has them.

use super::{
    Answer, Output, Replica, Reply, Status, Write, execute::Reconfiguration, has_room, reads::Reads,
};
use crate::{
    ClientId, Entry, Kind, Known, Log, Members, Message, Mode, OUTSTANDING_MAX, Options, Request,
    Service, View, entry::entry_bytes,
};
use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use std::{collections::VecDeque, net::SocketAddr};

/// Messages that may be under way to one backup.
const FLIGHT_MAX: usize = 64;
/// How often the time between two repetitions doubles.
pub(super) const BACKOFF_MAX: u32 = 5;

/// What only a leader knows.
#[derive(Debug)]
pub(super) struct Leading {
    /// By place; its own is not used.
    peers: Vec<Peer>,
    /// Requests that have no place yet.
    queue: VecDeque<Request>,
    /// Their bytes in entries.
    queue_bytes: usize,
    /// For each client the last request that was taken and is not executed.
    taken: HashMap<ClientId, u64>,
    /// When it began to lead, in microseconds.
    pub(super) began_us: u64,
    /// The last place when the view began: everything up to here is from earlier views.
    pub(super) start_op: u64,
    /// The place of an entry that ends the epoch: nothing comes behind it.
    ends_at: Option<u64>,
    /// Messages with entries that are not committed: the last place in each, and its bytes.
    batches: VecDeque<(u64, usize)>,
    /// The bytes of these.
    batch_bytes: usize,
    /// The shell's clock, in milliseconds since 1970.
    time_ms: u64,
    /// The other members have been told that the view has begun.
    is_announced: bool,
    pub(super) reads: Reads,
}

/// What a leader knows of a backup.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// It has everything up to here; none if it is not known to be in this view.
    acked: Option<u64>,
    /// The next place to send.
    next: u64,
    /// What is under way: the last place of each message, and its bytes.
    flight: VecDeque<(u64, usize)>,
    /// The bytes of these.
    flight_bytes: usize,
    /// When it was last sent something for the first time or acknowledged something, in microseconds.
    progress_us: u64,
    /// How often it was silent since.
    silences: u32,
}

impl Peer {
    /// It is sent everything behind `op` (again).
    fn rewind(&mut self, op: u64) {
        self.next = op + 1;
        self.flight.clear();
        self.flight_bytes = 0;
    }

    fn has_room(&self, bytes: usize, window_bytes: usize) -> bool {
        let fits = self.flight_bytes + bytes <= window_bytes || self.flight.is_empty();
        fits && self.flight.len() < FLIGHT_MAX
    }

    fn sent(&mut self, now_us: u64, last_op: u64, bytes: usize) {
        if self.flight.is_empty() {
            self.progress_us = now_us;
        }
        self.flight.push_back((last_op, bytes));
        self.flight_bytes += bytes;
        self.next = last_op + 1;
    }

    fn acknowledged(&mut self, now_us: u64, op: u64) {
        if self.acked.is_none_or(|acked| op > acked) {
            (self.progress_us, self.silences) = (now_us, 0);
        }
        self.acked = self.acked.max(Some(op));
        self.next = self.next.max(op + 1);
        while let Some((last_op, bytes)) = self.flight.front().copied()
            && last_op <= op
        {
            self.flight.pop_front();
            self.flight_bytes -= bytes;
        }
    }
}

impl Leading {
    /// Up to where each member has acknowledged, by place.
    pub(super) fn acked(&self) -> impl Iterator<Item = Option<u64>> {
        self.peers.iter().map(|peer| peer.acked)
    }
}

impl<S: Service> Replica<S> {
    /// Leads its view from now on, whose log it has. `joined` members are in the view already.
    pub(super) fn lead(&mut self, now_us: u64, joined: bool) {
        assert!(self.status == Status::Normal && self.log.holes().is_empty());
        let head_op = self.log.head_op();
        let acked = joined.then_some(head_op);
        let peer = Peer { acked, next: head_op + 1, progress_us: now_us, ..Peer::default() };
        let mut taken = HashMap::new();
        let mut ends_at = None;
        let mut batches = VecDeque::new();
        let mut batch_bytes = 0;
        for entry in self.log.from(self.executed + 1) {
            // What earlier leaders left counts for the window, or it would grow from view to view.
            batches.push_back((entry.op, entry.bytes()));
            batch_bytes += entry.bytes();
            taken.insert(entry.request.client, entry.request.number);
            if Reconfiguration::of(&entry.request).is_some() {
                ends_at = Some(entry.op);
            }
        }
        self.leading = Some(Leading {
            peers: vec![peer; self.configuration.count()],
            queue: VecDeque::new(),
            queue_bytes: 0,
            taken,
            began_us: now_us,
            start_op: head_op,
            ends_at,
            batches,
            batch_bytes,
            time_ms: 0,
            is_announced: joined,
            reads: Reads::default(),
        });
        // A leader that hears no quorum would have somebody else lead.
        self.timers.suspect = Some(self.suspect_at(now_us));
        self.timers.resend = Some(now_us + self.options.resend_us);
        self.heartbeat(now_us);
        self.acknowledged_by_itself(now_us);
    }

    /// A client asks for something.
    pub(super) fn request(&mut self, now_us: u64, time_ms: u64, request: Request) {
        let Some(leading) = self.leading.as_mut() else {
            let leader = self.leader();
            self.answer(request.client, request.number, Answer::NotLeader(leader));
            return;
        };
        leading.time_ms = leading.time_ms.max(time_ms);
        self.now_us = now_us;
        let Request { client, session, number, acknowledged, kind, .. } = request;
        let taken = leading.taken.get(&client).copied();
        if kind == Kind::Register
            && let Some(begun_op) = self.sessions.begun(client)
        {
            let result = Bytes::copy_from_slice(&begun_op.to_le_bytes());
            return self.answer(client, 0, Answer::Executed(result));
        }
        match self.sessions.lookup(client, session, number) {
            Known::Executed(result) => {
                return self.answer(client, number, Answer::Executed(result));
            }
            Known::Acknowledged => return,
            Known::NoSession if kind == Kind::Register && number == 0 && taken.is_none() => {}
            // Its registration may be under way.
            Known::NoSession if taken.is_some() => return,
            Known::NoSession if kind == Kind::Register => return,
            Known::NoSession => return self.answer(client, number, Answer::NoSession),
            Known::New { executed } => {
                let is_next = number == taken.unwrap_or(executed) + 1;
                let has_room = number <= acknowledged.saturating_add(OUTSTANDING_MAX);
                if !is_next || !has_room || acknowledged >= number || kind == Kind::Register {
                    return;
                }
            }
        }
        let bytes = leading.queue_bytes + entry_bytes(&request);
        let fits = leading.queue.is_empty() || bytes <= self.options.queue_bytes_max;
        if leading.queue.len() < self.options.queue_max && fits {
            leading.queue_bytes = bytes;
            leading.taken.insert(client, number);
            leading.queue.push_back(request);
        }
    }

    /// Gives the requests that wait their places, as many as may be under way.
    pub(super) fn flush(&mut self) {
        let now_us = self.now_us;
        // What is sent only when it is known whether more follows.
        let mut last: Option<(Members, Message)> = None;
        while let Some(entries) = self.next_batch() {
            let bytes = entries.iter().map(Entry::bytes).sum();
            let (first_op, last_op) = (entries[0].op, self.log.head_op());
            if self.options.mode == Mode::Durable {
                let number = self.outputs.write(Write::Append(entries.clone()));
                self.unpersisted.push_back((number, last_op));
            }
            let window_bytes = self.options.window_bytes;
            let leading = self.leading.as_mut().expect("only a leader has batches");
            leading.batches.push_back((last_op, bytes));
            leading.batch_bytes += bytes;
            let mut to = Members::NONE;
            for (place, peer) in leading.peers.iter_mut().enumerate() {
                let is_here = Some(place) == self.place;
                let is_near = peer.acked.is_some() && peer.next == first_op;
                if !is_here && is_near && peer.has_room(bytes, window_bytes) {
                    peer.sent(now_us, last_op, bytes);
                    to = to.with(place);
                }
            }
            let (view, commit) = (self.view, self.commit);
            let message = prepare(&self.log, view, commit, entries);
            if let Some((receivers, message)) = last.replace((to, message)) {
                let all_get_more = receivers.iter().all(|place| to.contains(place));
                self.multicast(receivers, followed(message, all_get_more));
            }
            self.advance_commit(now_us);
        }
        if let Some((receivers, message)) = last {
            self.multicast(receivers, message);
        }
    }

    /// Appends what waits to the log, as much as a message takes; none if nothing may be appended now.
    fn next_batch(&mut self) -> Option<Vec<Entry>> {
        let is_certain = self.may_speak();
        let Self { options, log, commit, view, time_ms, .. } = self;
        let leading = self.leading.as_mut().filter(|leading| !leading.queue.is_empty())?;
        let is_open = log.head_op() - *commit < options.window_entries
            && leading.batch_bytes < options.window_bytes
            && ((leading.batches.len() as u64) < options.pipeline_max
                || fills_message(&leading.queue, options))
            && has_room(log, options);
        if !is_open || !is_certain || leading.ends_at.is_some() || !self.is_settled {
            return None;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(request) = leading.queue.pop_front() {
            leading.queue_bytes -= entry_bytes(&request);
            let (op, previous) =
                (log.head_op() + 1, log.head_digest().expect("a leader's log is whole"));
            let last_ms = log.get(op - 1).map_or(*time_ms, |entry| entry.time_ms);
            let is_last = Reconfiguration::of(&request).is_some();
            let entry = Entry::new(op, *view, leading.time_ms.max(last_ms), request, previous);
            bytes += entry.bytes();
            log.append(entry.clone());
            entries.push(entry);
            if is_last {
                // What waits is lost with this leader, and asked for again in the next epoch.
                leading.ends_at = Some(op);
                break;
            }
            let next_bytes = leading.queue.front().map_or(0, entry_bytes);
            if entries.len() >= options.batch_entries_max
                || bytes + next_bytes > options.batch_bytes_max
            {
                break;
            }
        }
        Some(entries)
    }

    /// A backup has everything up to `op`.
    pub(super) fn on_prepare_ok(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        op: u64,
        digest: u64,
    ) {
        let Some(place) = self.backup_of(from, view) else { return };
        // What was released was committed, and is the same everywhere.
        let is_same = op < self.log.base_op() || self.log.digest_at(op) == Some(digest);
        if !is_same {
            return;
        }
        let leading = self.leading.as_mut().expect("only a leader has backups");
        leading.peers[place].acknowledged(now_us, op);
        self.advance_commit(now_us);
        if view == self.view {
            self.pump(now_us, place);
        }
    }

    /// A backup lacks what comes behind `op`.
    pub(super) fn on_missing(&mut self, now_us: u64, from: SocketAddr, view: View, op: u64) {
        let Some(place) = self.backup_of(from, view) else { return };
        let leading = self.leading.as_mut().expect("only a leader has backups");
        if op <= self.log.head_op() {
            leading.peers[place].rewind(op);
            self.pump(now_us, place);
        }
    }

    /// The place of a backup that says something in the view that this replica leads.
    pub(super) fn backup_of(&mut self, from: SocketAddr, view: View) -> Option<usize> {
        let place = self.place_of(from)?;
        (self.leading.is_some() && view == self.view && Some(place) != self.place).then_some(place)
    }

    /// Sends a backup what it was not sent yet, as much as may be under way.
    fn pump(&mut self, now_us: u64, place: usize) {
        let Self { options, log, view, commit, .. } = self;
        let Some(leading) = self.leading.as_mut() else { return };
        let peer = &mut leading.peers[place];
        let mut messages = Vec::new();
        let mut is_behind = false;
        while peer.next <= log.head_op() {
            if peer.next <= log.base_op() {
                is_behind = true;
                break;
            }
            let (entries, bytes) =
                piece(log.from(peer.next), options.batch_entries_max, options.batch_bytes_max);
            if !peer.has_room(bytes, options.window_bytes) {
                break;
            }
            peer.sent(now_us, entries.last().expect("the log reaches there").op, bytes);
            messages.push(prepare(log, *view, *commit, entries));
        }
        let count = messages.len();
        for (message, number) in messages.into_iter().zip(1..) {
            self.send(place, followed(message, number < count));
        }
        if is_behind {
            let to = self.configuration.members()[place];
            self.offer_snapshot(now_us, to);
        }
    }

    /// Commits what a quorum has (VR Revisited, section 4.1, step 5).
    pub(super) fn advance_commit(&mut self, now_us: u64) {
        let certain_op = self.certain_op();
        let quorum = self.configuration.quorum();
        let Some(leading) = self.leading.as_mut() else { return };
        let place = self.place;
        let others = leading.peers.iter().enumerate().filter(|(at, _)| Some(*at) != place);
        let mut acked: Vec<u64> = others.filter_map(|(_, peer)| peer.acked).collect();
        acked.push(certain_op);
        acked.sort_unstable_by(|one, other| other.cmp(one));
        let Some(committed) = acked.get(quorum - 1).copied() else { return };
        if committed <= self.commit {
            return;
        }
        while let Some((last_op, bytes)) = leading.batches.front().copied()
            && last_op <= committed
        {
            leading.batches.pop_front();
            leading.batch_bytes -= bytes;
        }
        self.advance(now_us, committed);
    }

    /// What this replica wrote itself is persistent.
    pub(super) fn acknowledged_by_itself(&mut self, now_us: u64) {
        if !self.may_speak() {
            return;
        }
        if let Some(leading) = self.leading.as_mut().filter(|leading| !leading.is_announced) {
            leading.is_announced = true;
            let to = self.others();
            to.iter().for_each(|place| self.announce(place));
            self.heartbeat(now_us);
        }
        self.advance_commit(now_us);
    }

    /// Tells a member that the view has begun.
    pub(super) fn announce(&mut self, place: usize) {
        if !self.may_speak() {
            return;
        }
        if self.view.epoch() > 0 {
            let epoch = self.epoch.clone();
            self.send(place, Message::StartEpoch(epoch));
        }
        let (head_op, head_digest) = self.head();
        let (view, commit) = (self.view, self.commit);
        self.send(place, Message::StartView { view, commit, head_op, head_digest });
    }

    /// The last place of a leader's log, and its digest.
    pub(super) fn head(&self) -> (u64, u64) {
        let digest = self.log.head_digest().expect("a leader's log is whole");
        (self.log.head_op(), digest)
    }

    /// Repeats what was not answered.
    pub(super) fn resend(&mut self, now_us: u64) {
        let head_op = self.log.head_op();
        let resend_us = self.options.resend_us;
        let Some(leading) = self.leading.as_mut() else { return };
        self.timers.resend = Some(now_us + resend_us);
        let mut silent = Members::NONE;
        for (place, peer) in leading.peers.iter_mut().enumerate() {
            let is_done = peer.acked == Some(head_op);
            let wait_us = resend_us << peer.silences.min(BACKOFF_MAX);
            if Some(place) == self.place || is_done || now_us < peer.progress_us + wait_us {
                continue;
            }
            peer.progress_us = now_us;
            peer.silences += 1;
            silent = silent.with(place);
        }
        for place in silent.iter() {
            let leading = self.leading.as_mut().expect("nothing has changed it");
            match leading.peers[place].acked {
                None => self.announce(place),
                Some(acked) => {
                    leading.peers[place].rewind(acked);
                    self.probe(now_us, place);
                }
            }
        }
    }

    /// Sends a silent backup one message with what it lacks.
    fn probe(&mut self, now_us: u64, place: usize) {
        let Self { options, log, view, commit, .. } = self;
        let Some(leading) = self.leading.as_mut() else { return };
        let peer = &mut leading.peers[place];
        if peer.next <= log.base_op() {
            let to = self.configuration.members()[place];
            return self.offer_snapshot(now_us, to);
        }
        let (entries, bytes) =
            piece(log.from(peer.next), options.batch_entries_max, options.batch_bytes_max);
        let Some(last) = entries.last() else { return };
        let (progress_us, last_op) = (peer.progress_us, last.op);
        peer.sent(now_us, last_op, bytes);
        peer.progress_us = progress_us;
        let message = prepare(log, *view, *commit, entries);
        self.send(place, message);
    }

    /// A request is executed: the next one of its client may be taken for new.
    pub(super) fn executed_for(&mut self, client: ClientId, number: u64) {
        if let Some(leading) = self.leading.as_mut()
            && leading.taken.get(&client).is_some_and(|taken| *taken <= number)
        {
            leading.taken.remove(&client);
        }
    }

    /// An entry is executed. One that was to end the epoch did not if its client has no session any more.
    pub(super) fn executed_at(&mut self, op: u64) {
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.ends_at == Some(op)) {
            leading.ends_at = None;
        }
    }

    /// Tells a client something.
    pub(super) fn answer(&mut self, client: ClientId, number: u64, answer: Answer) {
        let view = self.view;
        self.outputs.push(Output::Reply(Reply { client, number, view, answer }));
    }
}

/// Hands out entries of a leader's log.
fn prepare(log: &Log, view: View, commit: u64, entries: Vec<Entry>) -> Message {
    let first_op = entries.first().expect("one entry at least").op;
    let previous = log.digest_at(first_op - 1).expect("a leader's log is whole");
    Message::Prepare { view, commit, previous, is_followed: false, entries }
}

/// The same message, if more is sent right behind it.
fn followed(mut message: Message, by_more: bool) -> Message {
    if let Message::Prepare { is_followed, .. } = &mut message {
        *is_followed = by_more;
    }
    message
}

/// Whether requests that wait are enough for a message: more of them would not share it.
fn fills_message(queue: &VecDeque<Request>, options: &Options) -> bool {
    let mut bytes = 0;
    let mut is_full = |request: &Request| {
        bytes += entry_bytes(request);
        bytes > options.batch_bytes_max
    };
    queue.len() >= options.batch_entries_max || queue.iter().any(&mut is_full)
}

/// The entries of one message, and their bytes.
pub(super) fn piece<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    entries_max: usize,
    bytes_max: usize,
) -> (Vec<Entry>, usize) {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let is_first = bytes == 0;
        bytes += entry.bytes();
        is_first || bytes <= bytes_max
    };
    let taken: Vec<Entry> = entries.take(entries_max).take_while(fits).cloned().collect();
    let bytes = taken.iter().map(Entry::bytes).sum();
    (taken, bytes)
}
