//! Which groups may have something to do.

/// Groups by their places at the node, each once, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    order: Vec<usize>,
    /// Whether a group is among them, by its place.
    has: Vec<bool>,
}

impl Dirty {
    /// All of so many groups.
    pub(crate) fn all(groups: usize) -> Self {
        Self { order: (0..groups).collect(), has: vec![true; groups] }
    }

    /// Adds a group, if it is not there.
    pub(crate) fn add(&mut self, group: usize) {
        if !std::mem::replace(&mut self.has[group], true) {
            self.order.push(group);
        }
    }

    /// Takes them, one after the other.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = usize> {
        let Self { order, has } = self;
        order.drain(..).inspect(|group| has[*group] = false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_there_once_and_in_their_order() {
        let mut dirty = Dirty::all(3);
        dirty.add(1);
        assert_eq!(dirty.drain().collect::<Vec<_>>(), [0, 1, 2]);
        for group in [2, 0, 2, 0] {
            dirty.add(group);
        }
        assert_eq!(dirty.drain().collect::<Vec<_>>(), [2, 0]);
        assert_eq!(dirty.drain().next(), None);
    }
}
