//! Every write is answered at most once, and by the replica that took it.
//!
//! That each is answered at least once while its process lives is the liveness phase's to see.

use ashlar_object::{Version, chain::Ticket};

/// The oracle's name.
pub(crate) const NAME: &str = "replies";

/// All tickets ever given out; a ticket's number is its place.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    given: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    node: usize,
    partition: usize,
    /// The client's operation.
    operation: usize,
    /// The number that the write got, if it is known.
    version: Option<Version>,
    answered: bool,
    /// Only for sabotage: the client has an answer that the replica did not give.
    early: bool,
    /// The process that took it is gone.
    void: bool,
}

impl Replies {
    /// A ticket for a client's operation at a replica.
    pub(crate) fn open(&mut self, node: usize, partition: usize, operation: usize) -> Ticket {
        self.given.push(Given {
            node,
            partition,
            operation,
            version: None,
            answered: false,
            early: false,
            void: false,
        });
        Ticket(self.given.len() as u64 - 1)
    }

    /// The replica answers; says which operation it was.
    pub(crate) fn answer(
        &mut self,
        node: usize,
        partition: usize,
        ticket: Ticket,
    ) -> (Result<(), String>, Option<usize>) {
        let Some(given) = self.given.get_mut(ticket.0 as usize) else {
            return (Err(format!("nobody holds {ticket:?}")), None);
        };
        if (given.node, given.partition, given.void) != (node, partition, false) {
            return (Err(format!("n{node} answers the {ticket:?} of another")), None);
        }
        if std::mem::replace(&mut given.answered, true) {
            return (Err(format!("{ticket:?} is answered twice")), None);
        }
        (Ok(()), Some(given.operation))
    }

    /// The write got this number, or none.
    pub(crate) fn numbered(&mut self, ticket: Ticket, version: Option<Version>) {
        self.given[ticket.0 as usize].version = version;
    }

    /// Whether the ticket waits for its answer.
    pub(crate) fn is_open(&self, ticket: Ticket) -> bool {
        !self.given[ticket.0 as usize].answered
    }

    /// The process at `node` is gone, and its tickets with it.
    pub(crate) fn void(&mut self, node: usize) {
        let held = self.given.iter_mut().filter(|given| given.node == node);
        held.for_each(|given| given.void = true);
    }

    /// An operation whose ticket is open at a replica.
    pub(crate) fn open_at(&self, node: usize, partition: usize) -> Option<usize> {
        let place = (node, partition);
        let open = |given: &&Given| {
            (given.node, given.partition) == place && !given.answered && !given.void
        };
        self.given.iter().find(open).map(|given| given.operation)
    }

    /// Only for sabotage: the client is answered without the replica.
    pub(crate) fn answer_early(&mut self, ticket: Ticket) {
        self.given[ticket.0 as usize].early = true;
    }

    /// Only for sabotage: whether the client has an answer already.
    pub(crate) fn was_answered_early(&self, ticket: Ticket) -> bool {
        self.given[ticket.0 as usize].early
    }

    /// Only for sabotage: tickets, operations and numbers of the writes at `node` up to `through`
    /// whose clients wait.
    pub(crate) fn numbered_up_to(
        &self,
        node: usize,
        through: Version,
    ) -> Vec<(Ticket, usize, Version)> {
        let waiting = |(place, given): (usize, &Given)| {
            let waits = given.node == node && !given.answered && !given.early && !given.void;
            let version = given.version.filter(|version| waits && *version <= through)?;
            Some((Ticket(place as u64), given.operation, version))
        };
        self.given.iter().enumerate().filter_map(waiting).collect()
    }
}
