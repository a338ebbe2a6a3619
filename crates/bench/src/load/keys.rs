//! Which key an operation touches: uniform, zipfian, or the latest inserted.

use rand::RngExt;
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The exponent of YCSB's zipfian distribution.
pub const ZIPF_EXPONENT: f64 = 0.99;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyChoice {
    /// Every key equally often.
    Uniform,
    /// Key 0 most often, the others by YCSB's zipfian law. (Keys are spread over partitions by a
    /// hash of their name, so that neighbours in popularity need no scrambling.)
    Zipfian,
    /// As zipfian, but counted backwards from the key inserted last.
    Latest,
}

/// Draws key numbers, for one thread.
#[derive(Debug)]
pub(super) struct KeyChooser {
    choice: KeyChoice,
    /// Ranks by popularity, 1 the most popular.
    zipf: Zipf<f64>,
    /// How many keys exist, and which ones inserts add.
    population: Population,
}

impl KeyChooser {
    /// Draws among `population`, which holds at least one key.
    pub(super) fn new(choice: KeyChoice, population: Population) -> Self {
        let keys = population.readable();
        assert!(keys > 0, "there is a key to choose");
        let zipf = Zipf::new(keys as f64, ZIPF_EXPONENT)
            .expect("the number of keys and the exponent are positive");
        Self { choice, zipf, population }
    }

    /// The key of the next read or update.
    pub(super) fn draw(&self, random: &mut Pcg64Mcg) -> u64 {
        match self.choice {
            KeyChoice::Uniform => random.random_range(0..self.population.readable()),
            KeyChoice::Zipfian => self.rank(random),
            // Ranks reach as far back as the number of keys at the start: never below key 0.
            KeyChoice::Latest => self.population.readable() - 1 - self.rank(random),
        }
    }

    /// The key of the next insert.
    pub(super) fn insert(&self) -> u64 {
        self.population.insert()
    }

    /// Makes an inserted key readable.
    pub(super) fn inserted(&self, key: u64) {
        self.population.inserted(key);
    }

    /// Popularity from 0.
    fn rank(&self, random: &mut Pcg64Mcg) -> u64 {
        self.zipf.sample(random) as u64 - 1
    }
}

/// The keys that exist, shared by all threads: inserts take new numbers, and a number can be read
/// once the insert and all before it have been acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Population {
    counters: Arc<Mutex<Counters>>,
}

#[derive(Debug)]
struct Counters {
    /// The number of the next insert.
    next: u64,
    /// Keys below this exist.
    readable: u64,
    /// Acknowledged inserts above a gap; as many as there are connections at most.
    ahead: BTreeSet<u64>,
}

impl Population {
    /// Keys `0..keys` exist.
    pub(super) fn new(keys: u64) -> Self {
        let counters = Counters { next: keys, readable: keys, ahead: BTreeSet::new() };
        Self { counters: Arc::new(Mutex::new(counters)) }
    }

    fn readable(&self) -> u64 {
        self.with(|counters| counters.readable)
    }

    fn insert(&self) -> u64 {
        self.with(|counters| {
            counters.next += 1;
            counters.next - 1
        })
    }

    fn inserted(&self, key: u64) {
        self.with(|counters| {
            counters.ahead.insert(key);
            while counters.ahead.remove(&counters.readable) {
                counters.readable += 1;
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counters) -> T) -> T {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 1000;
    const DRAWS: usize = 100_000;

    /// How often each key was drawn, from a fixed seed.
    fn counts(choice: KeyChoice) -> Vec<u64> {
        let chooser = KeyChooser::new(choice, Population::new(KEYS));
        let mut random = Pcg64Mcg::new(7);
        let mut counts = vec![0; KEYS as usize];
        for _ in 0..DRAWS {
            counts[chooser.draw(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_zipfian_law_holds_for_the_popular_keys() {
        let counts = counts(KeyChoice::Zipfian);
        // P(rank) = rank^-0.99 / sum: 13.0 % for the first of a thousand keys.
        let normaliser: f64 = (1..=KEYS).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).sum();
        for (rank, count) in counts.iter().take(20).enumerate() {
            let expected = DRAWS as f64 * ((rank + 1) as f64).powf(-ZIPF_EXPONENT) / normaliser;
            let deviation = (*count as f64 - expected).abs();
            assert!(deviation < 5.0 * expected.sqrt(), "rank {rank}: {count} of {expected}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_draws_for_ever() {
        let zipfian = counts(KeyChoice::Zipfian);
        assert_eq!(zipfian[..4], [12_803, 6411, 4431, 3272]);
        let uniform = counts(KeyChoice::Uniform);
        assert_eq!(uniform[..4], [90, 107, 98, 104]);
    }

    #[test]
    fn the_latest_keys_are_the_popular_ones() {
        let mut latest = counts(KeyChoice::Latest);
        latest.reverse();
        assert_eq!(latest, counts(KeyChoice::Zipfian));
    }

    #[test]
    fn an_insert_can_be_read_once_all_before_it_are_acknowledged() {
        let population = Population::new(10);
        let (first, second) = (population.insert(), population.insert());
        assert_eq!((first, second), (10, 11));
        population.inserted(second);
        assert_eq!(population.readable(), 10);
        population.inserted(first);
        assert_eq!(population.readable(), 12);
    }

    #[test]
    fn inserts_move_the_latest_key() {
        let population = Population::new(1);
        let chooser = KeyChooser::new(KeyChoice::Latest, population);
        let mut random = Pcg64Mcg::new(1);
        assert_eq!(chooser.draw(&mut random), 0);
        let key = chooser.insert();
        chooser.inserted(key);
        assert_eq!(chooser.draw(&mut random), key);
    }
}
