//! A register: one key, as an object store's clients see it.

use super::Model;

/// What names a value. Every write of a history should write another, so that a read tells which
/// write it saw.
pub type Value = u64;

/// The model. It starts out empty.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// One operation, and what the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The client read this value, or nothing.
    Read(Option<Value>),
    /// The client asked for a change.
    Write {
        /// The value to put, or none for a deletion.
        put: Option<Value>,
        /// Under which condition.
        condition: Condition,
        /// What it was told.
        outcome: Outcome,
    },
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Always,
    /// The key names nothing (`If-None-Match: *`).
    Absent,
    /// The key names something (`If-Match: *`).
    Present,
    /// The key names this value (`If-Match`).
    Equals(Value),
    /// The key does not name this value (`If-None-Match`).
    Differs(Value),
}

/// What the client of a write was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done {
        /// Whether it replaced or removed a value.
        replaced: bool,
    },
    /// The condition does not hold.
    PreconditionFailed,
    /// There is nothing to delete.
    NotFound,
    /// Nothing: it may take effect at any time, or never.
    Unknown,
}

impl Condition {
    fn holds(self, state: Option<Value>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => state.is_none(),
            Self::Present => state.is_some(),
            Self::Equals(value) => state == Some(value),
            Self::Differs(value) => state != Some(value),
        }
    }
}

impl Model for Register {
    type State = Option<Value>;
    type Operation = Operation;

    fn start(&self) -> Option<Value> {
        None
    }

    fn step(&self, state: &Option<Value>, operation: &Operation) -> Option<Option<Value>> {
        match *operation {
            Operation::Read(value) => (value == *state).then_some(*state),
            Operation::Write { put, condition, outcome } => {
                let holds = condition.holds(*state);
                let finds = put.is_some() || state.is_some();
                match outcome {
                    Outcome::Done { replaced } => {
                        (holds && finds && replaced == state.is_some()).then_some(put)
                    }
                    Outcome::PreconditionFailed => (!holds).then_some(*state),
                    Outcome::NotFound => (holds && !finds).then_some(*state),
                    Outcome::Unknown => (holds && finds).then_some(put),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    struct History(Vec<Event<Operation>>);

    impl History {
        fn then(mut self, operation: Operation) -> Self {
            let invoked = 2 * self.0.len() as u64;
            self.0.push(Event { invoked, returned: Some(invoked + 1), operation });
            self
        }

        fn meanwhile_unknown(mut self, put: Option<Value>, condition: Condition) -> Self {
            let invoked = 2 * self.0.len() as u64;
            self.0.push(Event {
                invoked,
                returned: None,
                operation: Operation::Write { put, condition, outcome: Outcome::Unknown },
            });
            self
        }

        fn is_linearizable(&self) -> bool {
            match check(&Register, &self.0, 10_000) {
                Verdict::Linearizable => true,
                Verdict::Violated { .. } => false,
                Verdict::Undecided => panic!("a history this small is decided"),
            }
        }
    }

    fn history() -> History {
        History(Vec::new())
    }

    fn put(value: Value, condition: Condition, outcome: Outcome) -> Operation {
        Operation::Write { put: Some(value), condition, outcome }
    }

    fn delete(outcome: Outcome) -> Operation {
        Operation::Write { put: None, condition: Condition::Always, outcome }
    }

    const CREATED: Outcome = Outcome::Done { replaced: false };
    const REPLACED: Outcome = Outcome::Done { replaced: true };

    #[test]
    fn a_read_sees_the_last_write() {
        let written = || {
            history().then(put(1, Condition::Always, CREATED)).then(put(
                2,
                Condition::Always,
                REPLACED,
            ))
        };
        assert!(written().then(Operation::Read(Some(2))).is_linearizable());
        assert!(!written().then(Operation::Read(Some(1))).is_linearizable());
        assert!(!written().then(Operation::Read(None)).is_linearizable());
        let deleted = || written().then(delete(REPLACED));
        assert!(deleted().then(Operation::Read(None)).is_linearizable());
        assert!(deleted().then(delete(Outcome::NotFound)).is_linearizable());
        assert!(!deleted().then(delete(REPLACED)).is_linearizable());
    }

    #[test]
    fn conditions_are_judged_at_one_moment() {
        let one = || history().then(put(1, Condition::Absent, CREATED));
        let failed = Outcome::PreconditionFailed;
        assert!(one().then(put(2, Condition::Absent, failed)).is_linearizable());
        assert!(!one().then(put(2, Condition::Absent, CREATED)).is_linearizable());
        assert!(one().then(put(2, Condition::Equals(1), REPLACED)).is_linearizable());
        assert!(!one().then(put(2, Condition::Equals(1), failed)).is_linearizable());
        assert!(!one().then(put(2, Condition::Differs(1), REPLACED)).is_linearizable());
        assert!(!history().then(put(2, Condition::Present, CREATED)).is_linearizable());
    }

    #[test]
    fn a_write_of_unknown_outcome_explains_at_most_one_change() {
        let unknown = || {
            history()
                .then(put(1, Condition::Always, CREATED))
                .meanwhile_unknown(Some(2), Condition::Equals(1))
        };
        assert!(unknown().then(Operation::Read(Some(1))).is_linearizable());
        assert!(unknown().then(Operation::Read(Some(2))).is_linearizable());
        let late = unknown().then(Operation::Read(Some(1))).then(Operation::Read(Some(2)));
        assert!(late.is_linearizable());
        assert!(!late.then(Operation::Read(Some(1))).is_linearizable());
        let overwritten = unknown().then(put(3, Condition::Always, REPLACED));
        assert!(!overwritten.then(Operation::Read(Some(2))).is_linearizable());
    }
}
