//! The client table: every request is executed once, and its result is kept until it is acknowledged.
//!
//! It is part of the replicated state: all of it follows from the log, so every replica has the same.

use crate::ClientId;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Requests of one session that may wait for their results to be acknowledged.
pub const OUTSTANDING_MAX: u64 = 64;

/// The sessions of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    sessions: HashMap<ClientId, Session>,
    /// Clients by the place of their last entry: the first one is the next to be evicted.
    by_use: BTreeMap<u64, ClientId>,
    /// Beyond, the session that was used least recently ends.
    count_max: usize,
}

/// One client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// The place of the entry that began it.
    begun_op: u64,
    /// The place of its last entry.
    used_op: u64,
    /// The number of the last request that was executed.
    executed: u64,
    /// The results of the last requests that were executed, the last one at the end.
    results: VecDeque<Bytes>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The session is unknown: it was evicted, or never began.
    NoSession,
    /// It was executed, with this result.
    Executed(Bytes),
    /// It was executed, and its result was acknowledged.
    Acknowledged,
    /// It was not executed.
    New,
}

impl Sessions {
    /// No session. At most `count_max` will be kept.
    pub fn new(count_max: usize) -> Self {
        assert!(count_max > 0, "room for a session");
        Self { sessions: HashMap::new(), by_use: BTreeMap::new(), count_max }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The place of the entry that began a client's session; none without one.
    pub fn begun(&self, client: ClientId) -> Option<u64> {
        self.sessions.get(&client).map(|session| session.begun_op)
    }

    /// What is known of a request of the session that began at `begun_op`.
    pub fn lookup(&self, client: ClientId, begun_op: u64, number: u64) -> Known {
        let session = self.sessions.get(&client).filter(|session| session.begun_op == begun_op);
        let Some(session) = session else { return Known::NoSession };
        let Some(back) = session.executed.checked_sub(number) else { return Known::New };
        let index = session.results.len().checked_sub(back as usize + 1);
        match index.and_then(|index| session.results.get(index)) {
            Some(result) => Known::Executed(result.clone()),
            None => Known::Acknowledged,
        }
    }

    /// The last request of a client that was executed; none without a session.
    pub fn executed(&self, client: ClientId) -> Option<u64> {
        self.sessions.get(&client).map(|session| session.executed)
    }

    /// Begins a session at `op`, unless the client has one, and gives the client whose session ends for it.
    pub fn register(&mut self, client: ClientId, op: u64) -> Option<ClientId> {
        if self.sessions.contains_key(&client) {
            self.touch(client, op);
            return None;
        }
        let evicted = (self.sessions.len() >= self.count_max).then(|| {
            let (_, evicted) = self.by_use.pop_first().expect("the table is full");
            self.sessions.remove(&evicted);
            evicted
        });
        let results = VecDeque::new();
        self.sessions.insert(client, Session { begun_op: op, used_op: op, executed: 0, results });
        self.by_use.insert(op, client);
        evicted
    }

    /// Notes the result of a client's next request, executed at `op`; results up to `acknowledged` are
    /// forgotten.
    ///
    /// # Panics
    /// When there is no session, or `number` is not the next.
    pub fn note(
        &mut self,
        client: ClientId,
        number: u64,
        acknowledged: u64,
        op: u64,
        result: Bytes,
    ) {
        self.touch(client, op);
        let session = self.sessions.get_mut(&client).expect("the session was looked up");
        assert_eq!(number, session.executed + 1, "requests are executed in their order");
        session.executed = number;
        session.results.push_back(result);
        let kept = number.saturating_sub(acknowledged).clamp(1, OUTSTANDING_MAX);
        while session.results.len() as u64 > kept {
            session.results.pop_front();
        }
    }

    fn touch(&mut self, client: ClientId, op: u64) {
        let session = self.sessions.get_mut(&client).expect("the session was looked up");
        self.by_use.remove(&session.used_op);
        session.used_op = op;
        self.by_use.insert(op, client);
    }

    /// For a snapshot: every session, in the order of their last use.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, [u64; 3], impl Iterator<Item = &Bytes>)> {
        self.by_use.iter().map(|(used_op, client)| {
            let session = &self.sessions[client];
            let numbers = [session.begun_op, *used_op, session.executed];
            (*client, numbers, session.results.iter())
        })
    }

    /// From a snapshot: the session that was used after those that were restored before. False if it cannot
    /// be one.
    pub fn restore(&mut self, client: ClientId, numbers: [u64; 3], results: Vec<Bytes>) -> bool {
        let [begun_op, used_op, executed] = numbers;
        let follows = self.by_use.last_key_value().is_none_or(|(last, _)| *last < used_op);
        let fits = results.len() as u64 <= OUTSTANDING_MAX.min(executed) && begun_op <= used_op;
        if !follows || !fits || self.sessions.len() >= self.count_max {
            return false;
        }
        let session = Session { begun_op, used_op, executed, results: results.into() };
        self.by_use.insert(used_op, client);
        self.sessions.insert(client, session).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u64) -> ClientId {
        ClientId(number)
    }

    fn result(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn results_are_kept_until_they_are_acknowledged() {
        let mut sessions = Sessions::new(9);
        assert_eq!(sessions.lookup(client(1), 1, 1), Known::NoSession);
        assert_eq!(sessions.register(client(1), 1), None);
        assert_eq!((sessions.begun(client(1)), sessions.begun(client(2))), (Some(1), None));
        for (number, op) in [(1, 2), (2, 5), (3, 6)] {
            assert_eq!(sessions.lookup(client(1), 1, number), Known::New);
            sessions.note(client(1), number, 0, op, result("old"));
        }
        sessions.note(client(1), 4, 2, 7, result("new"));
        assert_eq!(sessions.lookup(client(1), 9, 4), Known::NoSession, "of another session");
        assert_eq!(sessions.lookup(client(1), 1, 2), Known::Acknowledged);
        assert_eq!(sessions.lookup(client(1), 1, 3), Known::Executed(result("old")));
        assert_eq!(sessions.lookup(client(1), 1, 4), Known::Executed(result("new")));
    }

    #[test]
    fn the_session_that_was_used_least_recently_makes_room() {
        let mut sessions = Sessions::new(2);
        sessions.register(client(1), 1);
        sessions.register(client(2), 2);
        sessions.note(client(1), 1, 0, 3, result("r"));
        assert_eq!(sessions.register(client(3), 4), Some(client(2)));
        assert_eq!(sessions.register(client(1), 5), None, "it has one");
        assert_eq!(sessions.executed(client(1)), Some(1));
        assert_eq!(sessions.lookup(client(2), 2, 1), Known::NoSession);
    }

    #[test]
    fn a_copy_is_restored_from_what_it_gives_out() {
        let mut sessions = Sessions::new(3);
        sessions.register(client(7), 1);
        sessions.register(client(5), 2);
        sessions.note(client(7), 1, 0, 3, result("r"));
        let mut copy = Sessions::new(3);
        for (client, numbers, results) in sessions.iter() {
            assert!(copy.restore(client, numbers, results.cloned().collect()));
        }
        assert_eq!(copy, sessions);
        assert!(!copy.restore(client(1), [3, 3, 0], vec![]), "out of order");
    }
}
