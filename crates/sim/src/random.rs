//! The only source of chance in a simulated world.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::ops::Range;

/// A seeded generator with the few draws that a world needs.
///
/// The draws are made of whole numbers here, not by a library's distributions, whose values may
/// change from release to release: a seed that found a bug must find it again.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Pcg64Mcg,
}

impl Random {
    /// The generator that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        Self { generator: Pcg64Mcg::seed_from_u64(seed) }
    }

    /// An independent generator: what is drawn from it does not shift the draws from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.generator.next_u64())
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        let product = u128::from(self.generator.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// A place in a sequence of `length` elements.
    ///
    /// # Panics
    /// When `length` is zero.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number in `range`; all are equally likely.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "the range {range:?} is empty");
        range.start + self.below(range.end - range.start)
    }

    /// A number in `range`, whose orders of magnitude (base 2) are equally likely: for times and
    /// sizes, where 10 against 20 matters as much as 1,000 against 2,000.
    ///
    /// # Panics
    /// When the range is empty or starts at zero.
    pub fn magnitude(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start > 0, "zero has no order of magnitude");
        assert!(range.start < range.end, "the range {range:?} is empty");
        let doublings = u64::from(((range.end - 1) / range.start).ilog2());
        let low = range.start << self.below(doublings + 1);
        self.range(low..low.saturating_mul(2).min(range.end))
    }

    /// Whether something of that probability (0 to 1) happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 2^32 steps are fine enough, and exact in a double.
        (self.below(1 << 32) as f64) < probability * (1_u64 << 32) as f64
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// The place of one of `weights`, each as likely as its share of their sum.
    ///
    /// # Panics
    /// When they sum up to zero.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            match rest.checked_sub(*weight) {
                Some(less) => rest = less,
                None => return index,
            }
        }
        unreachable!("a number below the sum falls on one of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_one_sequence_on_every_machine_and_release() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..6).map(|_| random.below(1000)).collect();
        assert_eq!(drawn, [689, 476, 270, 930, 291, 217]);
    }

    #[test]
    fn a_fork_leaves_its_origin_alone() {
        let (mut one, mut other) = (Random::new(1), Random::new(1));
        let mut fork = one.fork();
        let _ = other.fork();
        (0..100).for_each(|_| {
            fork.below(9);
        });
        assert_eq!(one.below(1 << 60), other.below(1 << 60));
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::new(2);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[random.range(10..15) as usize - 10] = true;
            let drawn = random.magnitude(3..1000);
            assert!((3..1000).contains(&drawn), "{drawn}");
            assert!(!random.chance(0.0) && random.chance(1.0));
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn orders_of_magnitude_are_equally_likely() {
        let mut random = Random::new(3);
        let small = (0..10_000).filter(|_| random.magnitude(1..1025) < 32).count();
        assert!((4200..5200).contains(&small), "{small}");
    }

    #[test]
    fn weights_are_heeded() {
        let mut random = Random::new(4);
        let mut counts = [0; 3];
        (0..4000).for_each(|_| counts[random.weighted(&[1, 0, 3])] += 1);
        assert_eq!(counts[1], 0);
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
    }
}
