//! When which group wants to be woken.

use std::collections::BTreeSet;

/// At most one moment per group.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// The groups' moments, in microseconds, by their place.
    set: Vec<Option<u64>>,
    /// The same in their order.
    order: BTreeSet<(u64, usize)>,
}

impl Timers {
    pub(crate) fn new(groups: usize) -> Self {
        Self { set: vec![None; groups], order: BTreeSet::new() }
    }

    /// Wakes a group then, and not when it was to be before.
    pub(crate) fn set(&mut self, group: usize, at_us: Option<u64>) {
        if self.set[group] == at_us {
            return;
        }
        if let Some(before_us) = std::mem::replace(&mut self.set[group], at_us) {
            self.order.remove(&(before_us, group));
        }
        if let Some(at_us) = at_us {
            self.order.insert((at_us, group));
        }
    }

    /// The first moment.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.order.first().map(|(at_us, _)| *at_us)
    }

    /// A group whose moment has come. It is not woken again before it is set anew.
    pub(crate) fn take_due(&mut self, now_us: u64) -> Option<usize> {
        let (at_us, group) = *self.order.first()?;
        if at_us > now_us {
            return None;
        }
        self.order.pop_first();
        self.set[group] = None;
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_woken_in_the_order_of_their_last_moments() {
        let mut timers = Timers::new(3);
        timers.set(0, Some(30));
        timers.set(1, Some(10));
        timers.set(2, Some(20));
        timers.set(1, Some(40));
        timers.set(2, None);
        assert_eq!(timers.next_us(), Some(30));
        assert_eq!((timers.take_due(29), timers.take_due(30)), (None, Some(0)));
        assert_eq!((timers.take_due(39), timers.take_due(99)), (None, Some(1)));
        assert_eq!((timers.next_us(), timers.take_due(99)), (None, None));
    }
}
