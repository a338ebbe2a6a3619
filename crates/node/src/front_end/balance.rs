//! Which replica a read goes to.

use ashlar_object::NodeIndex;
use std::cell::Cell;

/// Replicas of a chain that have been tried, by their place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried(u8);

// One bit for each place.
const _: () = assert!(ashlar_object::map::REPLICAS_MAX <= u8::BITS as usize);

impl Tried {
    /// Whether the replica at `place` has been tried.
    pub(super) fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    /// Notes that it has.
    pub(super) fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }
}

/// The place in `chain` of the replica to ask: not tried, usable, and with the fewest requests
/// outstanding. Among equals the first from `turn` on.
pub(super) fn choose(
    chain: &[NodeIndex],
    tried: Tried,
    usable: impl Fn(NodeIndex) -> bool,
    outstanding: impl Fn(NodeIndex) -> usize,
    turn: usize,
) -> Option<usize> {
    let places = (0..chain.len()).map(|offset| (turn.wrapping_add(offset)) % chain.len());
    places
        .filter(|place| !tried.contains(*place) && usable(chain[*place]))
        .min_by_key(|place| outstanding(chain[*place]))
}

/// Another number for each call on this thread.
pub(super) fn next_turn() -> usize {
    thread_local! {
        static TURN: Cell<usize> = const { Cell::new(0) };
    }
    TURN.replace(TURN.get().wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: [NodeIndex; 3] = [NodeIndex(4), NodeIndex(7), NodeIndex(2)];

    fn chosen(tried: Tried, down: &[u16], outstanding: [usize; 3], turn: usize) -> Option<usize> {
        let load = |node| CHAIN.iter().position(|n| *n == node).map_or(0, |i| outstanding[i]);
        choose(&CHAIN, tried, |node| !down.contains(&node.0), load, turn)
    }

    #[test]
    fn the_least_busy_usable_replica_is_asked() {
        assert_eq!(chosen(Tried::default(), &[], [3, 1, 2], 0), Some(1));
        assert_eq!(chosen(Tried::default(), &[7], [3, 1, 2], 0), Some(2));
        assert_eq!(chosen(Tried::default(), &[7, 2, 4], [0; 3], 0), None);
    }

    #[test]
    fn equals_take_turns() {
        let turns = [0, 1, 2, 3, usize::MAX];
        let places = turns.map(|turn| chosen(Tried::default(), &[], [5; 3], turn));
        assert_eq!(places, [Some(0), Some(1), Some(2), Some(0), Some(0)]);
    }

    #[test]
    fn no_replica_is_tried_twice() {
        let mut tried = Tried::default();
        let mut places = Vec::new();
        while let Some(place) = chosen(tried, &[], [2, 1, 3], 0) {
            places.push(place);
            tried.add(place);
        }
        assert_eq!(places, [1, 0, 2]);
    }
}
