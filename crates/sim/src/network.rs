//! A network that loses, repeats, delays and reorders, and falls apart.

use crate::random::Random;
use std::ops::Range;

/// A message in this many takes [`TAIL_FACTOR`] times as long: latencies have a long tail.
const TAIL_ONE_IN: u64 = 64;
/// See [`TAIL_ONE_IN`].
const TAIL_FACTOR: u64 = 16;

/// How well messages travel.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// How long a message takes, in microseconds, but for the long tail.
    pub latency_us: Range<u64>,
    /// The probability that a message is lost.
    pub loss: f64,
    /// The probability that a message arrives twice.
    pub duplication: f64,
    /// The probability that a message does not keep its place among those sent before and after.
    pub reordering: f64,
}

impl Conditions {
    /// No message is on its way for longer than this, in microseconds.
    pub fn latency_us_max(&self) -> u64 {
        let (tail, reordered, repeated) = (TAIL_FACTOR, TAIL_FACTOR, TAIL_FACTOR);
        self.latency_us.end * (tail * reordered + repeated)
    }

    /// Better conditions: without all that happens to messages, or without one thing.
    pub(crate) fn better(&self) -> Vec<Self> {
        let faulty = [self.loss, self.duplication, self.reordering].map(|rate| rate > 0.0);
        let one_less = [
            Self { loss: 0.0, ..self.clone() },
            Self { duplication: 0.0, ..self.clone() },
            Self { reordering: 0.0, ..self.clone() },
        ];
        let all = (faulty.iter().filter(|is_faulty| **is_faulty).count() > 1)
            .then(|| self.without_faults());
        let one_less = faulty.into_iter().zip(one_less).filter(|(is_faulty, _)| *is_faulty);
        all.into_iter().chain(one_less.map(|(_, better)| better)).collect()
    }

    /// The same latency, and every message arrives once, in order.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self { latency_us: self.latency_us.clone(), loss: 0.0, duplication: 0.0, reordering: 0.0 }
    }
}

/// When a message arrives, in microseconds: never, once, or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals([Option<u64>; 2]);

impl Arrivals {
    /// The moments.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.0.into_iter().flatten()
    }
}

/// What has happened to messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Handed in.
    pub sent: u64,
    /// Lost by chance or at a cut.
    pub lost: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Let out of order.
    pub reordered: u64,
}

/// Who reaches whom, and how fast.
#[derive(Debug)]
pub struct Network {
    hosts: usize,
    conditions: Conditions,
    /// For each directed pair, whether it is cut.
    cut: Vec<bool>,
    /// For each directed pair, when the latest in-order message arrives.
    latest_us: Vec<u64>,
    counts: Counts,
}

impl Network {
    /// A network without cuts.
    pub fn new(hosts: usize, conditions: Conditions) -> Self {
        Self {
            hosts,
            conditions,
            cut: vec![false; hosts * hosts],
            latest_us: vec![0; hosts * hosts],
            counts: Counts::default(),
        }
    }

    /// Sends a message at `now_us` and says when it arrives. A host always reaches itself.
    pub fn send(&mut self, now_us: u64, from: usize, to: usize, random: &mut Random) -> Arrivals {
        let pair = from * self.hosts + to;
        self.counts.sent += 1;
        let lost = self.cut[pair] || random.chance(self.conditions.loss);
        if lost && from != to {
            self.counts.lost += 1;
            return Arrivals([None; 2]);
        }
        let mut latency_us = random.range(self.conditions.latency_us.clone());
        if random.below(TAIL_ONE_IN) == 0 {
            latency_us *= TAIL_FACTOR;
        }
        if random.chance(self.conditions.reordering) {
            self.counts.reordered += 1;
            latency_us *= random.range(1..TAIL_FACTOR);
            return self.repeated(now_us, latency_us, random);
        }
        let at_us = self.latest_us[pair].max(now_us + latency_us);
        self.latest_us[pair] = at_us;
        self.repeated(now_us, at_us - now_us, random)
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut[from * self.hosts + to] = true;
    }

    /// Cuts `host` off: what it sends if `outward`, what is sent to it if `inward`.
    pub fn isolate(&mut self, host: usize, inward: bool, outward: bool) {
        for other in (0..self.hosts).filter(|other| *other != host) {
            self.cut[other * self.hosts + host] |= inward;
            self.cut[host * self.hosts + other] |= outward;
        }
    }

    /// Cuts the hosts in two: those for which `side` holds, and the others.
    pub fn split(&mut self, side: impl Fn(usize) -> bool) {
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                self.cut[from * self.hosts + to] |= side(from) != side(to);
            }
        }
    }

    /// Mends all cuts.
    pub fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// From now on messages travel without faults, and all cuts are mended.
    pub fn end_faults(&mut self) {
        self.conditions = self.conditions.without_faults();
        self.heal();
    }

    /// Whether neither direction between the two is cut.
    pub fn connects(&self, one: usize, other: usize) -> bool {
        let (there, back) = (one * self.hosts + other, other * self.hosts + one);
        !self.cut[there] && !self.cut[back]
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn repeated(&mut self, now_us: u64, delay_us: u64, random: &mut Random) -> Arrivals {
        let first_us = now_us + delay_us;
        if !random.chance(self.conditions.duplication) {
            return Arrivals([Some(first_us), None]);
        }
        self.counts.duplicated += 1;
        let later_us = random.range(self.conditions.latency_us.clone()) * TAIL_FACTOR;
        Arrivals([Some(first_us), Some(first_us + later_us)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(loss: f64, duplication: f64, reordering: f64) -> Conditions {
        Conditions { latency_us: 10..100, loss, duplication, reordering }
    }

    fn arrivals(network: &mut Network, from: usize, to: usize) -> Vec<Vec<u64>> {
        let mut random = Random::new(1);
        (0..1000)
            .map(|now_us| network.send(now_us, from, to, &mut random).iter().collect())
            .collect()
    }

    #[test]
    fn without_faults_every_message_arrives_once_and_in_order() {
        let mut network = Network::new(2, conditions(0.0, 0.0, 0.0));
        let arrivals = arrivals(&mut network, 0, 1);
        assert!(arrivals.iter().all(|arrival| arrival.len() == 1));
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn messages_are_lost_repeated_and_reordered_as_asked() {
        let mut network = Network::new(2, conditions(0.5, 0.5, 0.5));
        let arrivals = arrivals(&mut network, 0, 1);
        assert!((400..600).contains(&arrivals.iter().filter(|a| a.is_empty()).count()));
        assert!(arrivals.iter().any(|arrival| arrival.len() == 2));
        let first: Vec<_> = arrivals.iter().filter_map(|a| a.first()).collect();
        assert!(!first.is_sorted());
        assert_eq!(network.counts().sent, 1000);
    }

    #[test]
    fn a_cut_has_a_direction_and_is_mended() {
        let mut network = Network::new(3, conditions(0.0, 0.0, 0.0));
        network.isolate(0, true, false);
        assert!(arrivals(&mut network, 1, 0).concat().is_empty());
        assert_eq!(arrivals(&mut network, 0, 1).concat().len(), 1000);
        assert!(!network.connects(0, 1) && network.connects(1, 2));
        network.heal();
        assert!(network.connects(0, 1));
        network.split(|host| host == 2);
        assert!(network.connects(0, 1) && !network.connects(1, 2));
        assert_eq!(arrivals(&mut network, 2, 2).concat().len(), 1000);
    }
}
