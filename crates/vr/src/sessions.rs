//! The client table: every request is executed once, and its result is kept until it is acknowledged.
//!
//! It is part of the replicated state: all of it follows from the log, so every replica has the same.

use crate::ClientId;
use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use std::collections::VecDeque;

/// Requests of one session that may wait for their results to be acknowledged.
pub const OUTSTANDING_MAX: u64 = 64;

/// Uses that are remembered beyond twice the number of sessions, before stale ones are cleared away.
const STALE_MAX: usize = 64;

/// The sessions of a group.
#[derive(Clone, Debug)]
pub struct Sessions {
    sessions: HashMap<ClientId, Session>,
    /// Uses of sessions, by their entries' places, in their order. All but the last of a session are stale: the first
    /// that is not names the next session to be evicted.
    uses: VecDeque<(u64, ClientId)>,
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
    /// It was not executed; the last one of its session that was.
    New {
        /// Its number.
        executed: u64,
    },
}

impl PartialEq for Sessions {
    /// How uses are remembered does not matter.
    fn eq(&self, other: &Self) -> bool {
        (&self.sessions, self.count_max) == (&other.sessions, other.count_max)
    }
}

impl Eq for Sessions {}

impl Sessions {
    /// No session. At most `count_max` will be kept.
    pub fn new(count_max: usize) -> Self {
        assert!(count_max > 0, "room for a session");
        Self { sessions: HashMap::new(), uses: VecDeque::new(), count_max }
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
        let executed = session.executed;
        let Some(back) = executed.checked_sub(number) else { return Known::New { executed } };
        let index = session.results.len().checked_sub(back as usize + 1);
        match index.and_then(|index| session.results.get(index)) {
            Some(result) => Known::Executed(result.clone()),
            None => Known::Acknowledged,
        }
    }

    /// Begins a session at `op`, unless the client has one, and gives the client whose session ends for it.
    pub fn register(&mut self, client: ClientId, op: u64) -> Option<ClientId> {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.used_op = op;
            self.used(client, op);
            return None;
        }
        let evicted = (self.sessions.len() >= self.count_max).then(|| self.evict());
        let results = VecDeque::new();
        self.sessions.insert(client, Session { begun_op: op, used_op: op, executed: 0, results });
        self.used(client, op);
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
        let session = self.sessions.get_mut(&client).expect("the session was looked up");
        session.used_op = op;
        assert_eq!(number, session.executed + 1, "requests are executed in their order");
        session.executed = number;
        session.results.push_back(result);
        let kept = number.saturating_sub(acknowledged).clamp(1, OUTSTANDING_MAX);
        while session.results.len() as u64 > kept {
            session.results.pop_front();
        }
        self.used(client, op);
    }

    /// Remembers a use.
    fn used(&mut self, client: ClientId, op: u64) {
        self.uses.push_back((op, client));
        if self.uses.len() > 2 * self.sessions.len() + STALE_MAX {
            let sessions = &self.sessions;
            self.uses.retain(|(op, client)| is_last(sessions, *op, *client));
        }
    }

    /// Ends the session that was used least recently.
    fn evict(&mut self) -> ClientId {
        loop {
            let (op, client) = self.uses.pop_front().expect("every session was used");
            if is_last(&self.sessions, op, client) {
                self.sessions.remove(&client);
                return client;
            }
        }
    }

    /// For a snapshot: every session, in the order of their last use.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, [u64; 3], impl Iterator<Item = &Bytes>)> {
        let last = self.uses.iter().filter(|(op, client)| is_last(&self.sessions, *op, *client));
        last.map(|(used_op, client)| {
            let session = &self.sessions[client];
            let numbers = [session.begun_op, *used_op, session.executed];
            (*client, numbers, session.results.iter())
        })
    }

    /// From a snapshot: the session that was used after those that were restored before. False if it cannot
    /// be one.
    pub fn restore(&mut self, client: ClientId, numbers: [u64; 3], results: Vec<Bytes>) -> bool {
        let [begun_op, used_op, executed] = numbers;
        let follows = self.uses.back().is_none_or(|(last, _)| *last < used_op);
        let fits = results.len() as u64 <= OUTSTANDING_MAX.min(executed) && begun_op <= used_op;
        if !follows || !fits || self.sessions.len() >= self.count_max {
            return false;
        }
        let session = Session { begun_op, used_op, executed, results: results.into() };
        self.uses.push_back((used_op, client));
        self.sessions.insert(client, session).is_none()
    }
}

/// Whether a use is the last one of its session.
fn is_last(sessions: &HashMap<ClientId, Session>, op: u64, client: ClientId) -> bool {
    sessions.get(&client).is_some_and(|session| session.used_op == op)
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
            let executed = number - 1;
            assert_eq!(sessions.lookup(client(1), 1, number), Known::New { executed });
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
        assert_eq!(sessions.lookup(client(1), 1, 2), Known::New { executed: 1 });
        assert_eq!(sessions.lookup(client(2), 2, 1), Known::NoSession);
    }

    #[test]
    fn uses_that_are_stale_are_cleared_away_and_change_nothing() {
        let mut sessions = Sessions::new(3);
        for number in 1..=3 {
            sessions.register(client(number), number);
        }
        for number in 1..=1_000 {
            let op = 10 + 2 * number;
            sessions.note(client(2), number, number - 1, op, result("r"));
            sessions.note(client(1), number, number - 1, op + 1, result("r"));
            assert!(sessions.uses.len() <= 2 * 3 + STALE_MAX);
        }
        let order: Vec<_> = sessions.iter().map(|(client, ..)| client.0).collect();
        assert_eq!(order, [3, 2, 1]);
        assert_eq!(sessions.register(client(4), 9_000), Some(client(3)));
        assert_eq!(sessions.register(client(5), 9_001), Some(client(2)));
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
