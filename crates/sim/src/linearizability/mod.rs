//! Is there an order of the operations that explains what clients saw?
//!
//! The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) with Lowe's
//! memory ("Testing for Linearizability", 2017): a set of operations already placed, together with
//! the state they led to, is tried once. The problem is NP-complete, hence the work is bounded, and
//! a history that exceeds the bound is reported as undecided, never as correct.

pub mod register;

use std::{collections::HashSet, hash::Hash};

/// The most operations in one history.
pub const OPERATIONS_MAX: usize = 64 * WORDS;

/// Words of the set of placed operations.
const WORDS: usize = 6;

/// What is being checked.
pub trait Model {
    /// What the object holds.
    type State: Clone + Eq + Hash;
    /// An operation and, unless its outcome is unknown, what came of it.
    type Operation;

    /// The state before all operations.
    fn start(&self) -> Self::State;

    /// The state after `operation`, or none if its outcome cannot come about in `state`. An
    /// operation of unknown outcome that would change nothing may answer none.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Clone, Copy, Debug)]
pub struct Event<O> {
    /// When the client began it, on a clock that never shows the same time twice.
    pub invoked: u64,
    /// When the client learned its outcome; none if it never did. Such an operation may take
    /// effect at any time after `invoked`, or never.
    pub returned: Option<u64>,
    /// The operation.
    pub operation: O,
}

/// What the check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order exists.
    Linearizable,
    /// No order exists.
    Violated {
        /// The most operations that could be placed.
        placed_max: usize,
    },
    /// The bound was reached first.
    Undecided,
}

/// Checks a history, trying at most `steps_max` placements.
pub fn check<M: Model>(model: &M, history: &[Event<M::Operation>], steps_max: usize) -> Verdict {
    if history.len() > OPERATIONS_MAX {
        return Verdict::Undecided;
    }
    Search::new(model, history).run(steps_max)
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Placed([u64; WORDS]);

impl Placed {
    fn toggle(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

/// A moment in the list of those not yet passed.
#[derive(Clone, Copy)]
struct Moment {
    operation: usize,
    /// Whether the operation begins or returns here.
    begins: bool,
    /// Neighbours in the list; the list's ends are the place after the last moment.
    previous: usize,
    next: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Event<M::Operation>],
    /// Begins and returns by time, as a doubly linked list from which placed operations are lifted.
    moments: Vec<Moment>,
    /// For each operation the places of its begin and its return.
    places: Vec<(usize, Option<usize>)>,
    /// Operations of known outcome that are not placed.
    open: usize,
    placed: Placed,
    state: M::State,
    /// Placed operations with the state before, to take back.
    path: Vec<(usize, M::State)>,
    tried: HashSet<(Placed, M::State)>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Event<M::Operation>]) -> Self {
        let mut order: Vec<(u64, usize, bool)> = Vec::with_capacity(2 * history.len());
        for (operation, event) in history.iter().enumerate() {
            order.push((event.invoked, operation, true));
            order.extend(event.returned.map(|at| (at, operation, false)));
        }
        order.sort_unstable();
        let end = order.len();
        let mut moments = Vec::with_capacity(end + 1);
        let mut places = vec![(end, None); history.len()];
        for (place, (_, operation, begins)) in order.into_iter().enumerate() {
            if begins {
                places[operation].0 = place;
            } else {
                places[operation].1 = Some(place);
            }
            moments.push(Moment {
                operation,
                begins,
                previous: place.checked_sub(1).unwrap_or(end),
                next: place + 1,
            });
        }
        // The sentinel closes the list to a ring.
        moments.push(Moment {
            operation: usize::MAX,
            begins: false,
            previous: end.saturating_sub(1),
            next: 0,
        });
        Self {
            model,
            history,
            moments,
            places,
            open: history.iter().filter(|e| e.returned.is_some()).count(),
            placed: Placed::default(),
            state: model.start(),
            path: Vec::new(),
            tried: HashSet::new(),
        }
    }

    fn run(mut self, steps_max: usize) -> Verdict {
        let end = self.moments.len() - 1;
        let mut at = self.moments[end].next;
        // Operations of unknown outcome could come at any time: each is tried only when no other
        // operation can be placed, or else the search would try most of their subsets.
        let mut known = true;
        let (mut steps, mut placed_max) = (0, 0);
        while self.open > 0 {
            let moment = self.moments[at];
            if moment.begins && at != end {
                steps += 1;
                if steps > steps_max {
                    return Verdict::Undecided;
                }
                if known == self.is_known(moment.operation) && self.place(moment.operation) {
                    placed_max = placed_max.max(self.path.len());
                    (at, known) = (self.moments[end].next, true);
                } else {
                    at = moment.next;
                }
            } else if known {
                (at, known) = (self.moments[end].next, false);
            } else {
                // What returned here had to be placed before, and could not be.
                let Some(operation) = self.take_back() else {
                    return Verdict::Violated { placed_max };
                };
                at = self.moments[self.places[operation].0].next;
                known = self.is_known(operation);
            }
        }
        Verdict::Linearizable
    }

    fn is_known(&self, operation: usize) -> bool {
        self.history[operation].returned.is_some()
    }

    /// Places the operation next if its outcome allows that and it leads to something new.
    fn place(&mut self, operation: usize) -> bool {
        let event = &self.history[operation];
        let Some(state) = self.model.step(&self.state, &event.operation) else {
            return false;
        };
        let mut placed = self.placed;
        placed.toggle(operation);
        if !self.tried.insert((placed, state.clone())) {
            return false;
        }
        self.placed = placed;
        let before = std::mem::replace(&mut self.state, state);
        self.path.push((operation, before));
        self.open -= usize::from(event.returned.is_some());
        let (begin, end) = self.places[operation];
        [Some(begin), end].into_iter().flatten().for_each(|place| self.lift(place));
        true
    }

    /// Takes the operation placed last back, and names it.
    fn take_back(&mut self) -> Option<usize> {
        let (operation, before) = self.path.pop()?;
        self.state = before;
        self.placed.toggle(operation);
        self.open += usize::from(self.history[operation].returned.is_some());
        let (begin, end) = self.places[operation];
        [end, Some(begin)].into_iter().flatten().for_each(|place| self.put_back(place));
        Some(operation)
    }

    fn lift(&mut self, place: usize) {
        let Moment { previous, next, .. } = self.moments[place];
        self.moments[previous].next = next;
        self.moments[next].previous = previous;
    }

    /// Undoes the last `lift`.
    fn put_back(&mut self, place: usize) {
        let Moment { previous, next, .. } = self.moments[place];
        self.moments[previous].next = place;
        self.moments[next].previous = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter: `Add` returns the sum.
    struct Counter;

    impl Model for Counter {
        type State = u64;
        /// What is added, and the sum if it is known.
        type Operation = (u64, Option<u64>);

        fn start(&self) -> u64 {
            0
        }

        fn step(&self, state: &u64, (added, sum): &Self::Operation) -> Option<u64> {
            let next = state + added;
            (sum.is_none() || *sum == Some(next)).then_some(next)
        }
    }

    fn add(invoked: u64, returned: u64, added: u64, sum: u64) -> Event<(u64, Option<u64>)> {
        Event { invoked, returned: Some(returned), operation: (added, Some(sum)) }
    }

    fn verdict(history: &[Event<(u64, Option<u64>)>]) -> Verdict {
        check(&Counter, history, 10_000)
    }

    #[test]
    fn an_order_that_respects_real_time_is_found() {
        assert_eq!(verdict(&[]), Verdict::Linearizable);
        let overlapping = [add(1, 6, 1, 11), add(2, 5, 10, 10), add(3, 4, 0, 0)];
        assert_eq!(verdict(&overlapping), Verdict::Linearizable);
        let in_sequence = [add(1, 2, 1, 11), add(3, 4, 10, 10)];
        assert_eq!(verdict(&in_sequence), Verdict::Violated { placed_max: 0 });
    }

    #[test]
    fn an_unknown_outcome_may_have_happened_or_not_but_not_before_it_began() {
        let unknown = |invoked| Event { invoked, returned: None, operation: (5, None) };
        assert_eq!(verdict(&[unknown(1), add(2, 3, 0, 0)]), Verdict::Linearizable);
        assert_eq!(verdict(&[unknown(1), add(2, 3, 0, 0), add(4, 5, 0, 5)]), Verdict::Linearizable);
        assert_eq!(verdict(&[unknown(4), add(2, 3, 0, 5)]), Verdict::Violated { placed_max: 0 });
        let gone = [unknown(1), add(2, 3, 0, 5), add(4, 5, 0, 0)];
        assert_eq!(verdict(&gone), Verdict::Violated { placed_max: 2 });
    }

    #[test]
    fn work_beyond_the_bound_is_undecided() {
        let concurrent: Vec<_> = (0..20).map(|at| add(at, 100 + at, 1 << at, 7)).collect();
        assert_eq!(check(&Counter, &concurrent, 10), Verdict::Undecided);
        let long: Vec<_> =
            (0..OPERATIONS_MAX as u64 + 1).map(|at| add(2 * at, 2 * at + 1, 0, 0)).collect();
        assert_eq!(verdict(&long), Verdict::Undecided);
        assert_eq!(verdict(&long[1..]), Verdict::Linearizable);
    }

    /// Every order of up to four concurrent operations, tried one by one, agrees with the search.
    #[test]
    fn the_search_agrees_with_trying_every_order() {
        let mut random = crate::random::Random::new(5);
        let mut violated = 0;
        for _ in 0..3000 {
            let history: Vec<_> = (0..4)
                .map(|_| {
                    let invoked = random.below(1000);
                    let returned = invoked + 1 + random.below(600);
                    add(invoked, returned, random.below(3), random.below(6))
                })
                .collect();
            let found = verdict(&history) == Verdict::Linearizable;
            assert_eq!(found, some_order(&history, 0, 0), "{history:?}");
            violated += usize::from(!found);
        }
        assert!((100..2999).contains(&violated), "{violated}");
    }

    fn some_order(history: &[Event<(u64, Option<u64>)>], placed: u64, state: u64) -> bool {
        let open = || (0..history.len()).filter(|at| placed & (1 << at) == 0);
        let Some(first_return) = open().filter_map(|at| history[at].returned).min() else {
            return true;
        };
        open().filter(|at| history[*at].invoked <= first_return).any(|at| {
            Counter
                .step(&state, &history[at].operation)
                .is_some_and(|next| some_order(history, placed | 1 << at, next))
        })
    }
}
