//! What a seed decides before its run begins: sizes, times and the mix of faults.

use super::tcp::Sizes;
use crate::{
    network::Conditions,
    random::Random,
    shrink::{Shrink, with_fewer_weights, with_less},
};
use ashlar_handoff::protocol::Timeouts;
use std::{fmt, ops::Range};

/// The most storage nodes.
const STORAGE_NODES_MAX: u64 = 4;
/// The most clients, each with one flow.
const CLIENTS_MAX: u64 = 4;
/// Sequence numbers of one connection: those of the next begin behind them.
const SEQUENCES: u32 = 1 << 24;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process is killed: its kernel resets its connections.
    Kill,
    /// A host is gone without a word.
    PowerLoss,
    /// Steering's table is empty, in a new life.
    SteeringRestart,
    /// A channel between two nodes breaks.
    ChannelBreak,
    /// A process stands still for a while.
    Pause,
    /// A node gives its connections away for a while.
    Drain,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Kill,
        Self::PowerLoss,
        Self::SteeringRestart,
        Self::ChannelBreak,
        Self::Pause,
        Self::Drain,
    ];
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The front end is node 0, the others are storage nodes.
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    /// Nothing fails: every move must succeed.
    pub(crate) is_calm: bool,
    /// Steering runs on a host of its own, not on the front end.
    pub(crate) remote_steering: bool,
    /// How many flows steering's table has room for.
    pub(crate) flows_max: usize,
    /// The probability that steering is busy.
    pub(crate) busy: f64,
    /// When entries without frames go.
    pub(crate) idle_us: u64,
    /// The same for connections that are ending.
    pub(crate) closing_us: u64,
    /// What clients' segments and control frames suffer.
    pub(crate) network: Conditions,
    /// How fast channels are.
    pub(crate) channels: Conditions,
    /// How long ends need to notice that a channel is gone, at most.
    pub(crate) detection_us: u64,
    pub(crate) timeouts: Timeouts,
    /// Segments may pass the filter of a socket that is being frozen.
    pub(crate) slips: bool,
    /// How long such a segment is under way, at most.
    pub(crate) slip_us: u64,
    /// The probability that a step of a shell fails.
    pub(crate) shell_failure: f64,
    /// How long making a socket takes, at most.
    pub(crate) import_us: u64,
    /// How long a process takes to look at a connection, at most.
    pub(crate) service_us: u64,
    /// How much a process reads at once, at most.
    pub(crate) read_bytes_max: usize,
    pub(crate) service_sizes: Sizes,
    pub(crate) client_sizes: Sizes,
    /// Where each flow's sequence numbers begin.
    sequences: Vec<u32>,
    /// Connections of each client.
    pub(crate) connections: usize,
    pub(crate) requests_max: u64,
    pub(crate) body_bytes_max: u64,
    pub(crate) response_bytes_max: u64,
    /// The probability that a request is the front end's own.
    pub(crate) home: f64,
    pub(crate) pipelines: f64,
    pub(crate) half_closes: f64,
    /// The probability that a client breaks its connection off.
    pub(crate) aborts: f64,
    /// How long clients pause between requests, and between connections, at most.
    pub(crate) think_us: u64,
    /// How long clients take to read, at most.
    pub(crate) client_read_us: u64,
    /// When clients give up on an answer.
    pub(crate) patience_us: u64,
    /// How long the safety phase lasts at most.
    pub(crate) safety_us: u64,
    pub(crate) faults: [u64; Fault::ALL.len()],
    /// The mean time between faults.
    pub(crate) fault_interval_us: u64,
    pub(crate) fault_us: Range<u64>,
}

impl Plan {
    /// Draws a plan.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let is_calm = random.chance(0.25);
        let rough = |random: &mut Random, one_in: f64| !is_calm && random.chance(one_in);
        let clients = random.range(1..CLIENTS_MAX + 1) as usize;
        let window = random.magnitude(2_000..65_536) as usize;
        let queue_bytes_max = random.magnitude(1_500..60_000) as usize;
        let patience_us = if is_calm { 20_000_000 } else { random.magnitude(50_000..8_000_000) };
        let import_us_max = if rough(random, 0.2) { 1_000_000 } else { 1_000 };
        // No move may have to wait for a repetition if none is to fail.
        let first_pause_us = random.magnitude(5_000..if is_calm { 20_000 } else { 300_000 });
        Self {
            nodes: random.range(2..STORAGE_NODES_MAX + 2) as usize,
            clients,
            is_calm,
            remote_steering: random.chance(0.4),
            flows_max: if rough(random, 0.15) { random.range(0..3) as usize } else { 64 },
            busy: if rough(random, 0.2) { 0.2 } else { 0.0 },
            idle_us: 40_000_000,
            closing_us: random.magnitude(2_000_000..30_000_000),
            network: conditions(random, is_calm),
            channels: Conditions {
                latency_us: 100..random.magnitude(200..if is_calm { 500 } else { 20_000 }),
                loss: 0.0,
                duplication: 0.0,
                reordering: 0.0,
            },
            detection_us: random.magnitude(1..500_000),
            timeouts: timeouts(random, is_calm),
            slips: random.chance(0.4),
            slip_us: if random.chance(0.5) { 150 } else { random.magnitude(2_000..60_000) },
            shell_failure: if rough(random, 0.2) { 0.05 } else { 0.0 },
            import_us: random.magnitude(1..import_us_max),
            service_us: random.magnitude(1..5_000),
            read_bytes_max: random.magnitude(1..4_000) as usize,
            service_sizes: Sizes { queue_bytes_max, receive_bytes_max: window, first_pause_us },
            client_sizes: Sizes {
                queue_bytes_max: 65_536,
                receive_bytes_max: random.magnitude(2_000..65_536) as usize,
                first_pause_us,
            },
            sequences: (0..clients).map(|_| random.below(1 << 32) as u32).collect(),
            connections: random.range(1..8) as usize,
            requests_max: random.magnitude(1..16),
            body_bytes_max: random.magnitude(1..8_000),
            response_bytes_max: random.magnitude(1..40_000),
            home: *random.pick(&[0.0, 0.1, 0.5]),
            pipelines: *random.pick(&[0.0, 0.3, 1.0]),
            half_closes: *random.pick(&[0.0, 0.3, 1.0]),
            aborts: if rough(random, 0.4) { 0.4 } else { 0.0 },
            think_us: random.magnitude(1..500_000),
            client_read_us: random.magnitude(1..if is_calm { 1_000 } else { 20_000 }),
            patience_us,
            safety_us: 15_000_000,
            faults: faults(random, is_calm),
            fault_interval_us: random.magnitude(20_000..3_000_000),
            fault_us: 100..random.magnitude(1000..2_000_000),
        }
    }

    /// Where a flow's connection begins to count its bytes, so that nothing of an earlier connection
    /// fits into the window of a later one.
    pub(crate) fn sequence(&self, flow: usize, connection: usize) -> u32 {
        self.sequences[flow].wrapping_add((connection as u32).wrapping_mul(SEQUENCES))
    }
}

impl Shrink for Plan {
    fn smaller(&self) -> Vec<Self> {
        let mut smaller =
            with_fewer_weights(self, &self.faults, |plan, place| plan.faults[place] = 0);
        smaller.extend(with_less(self, self.clients as u64, 1, |plan, count| {
            plan.clients = count as usize;
            plan.sequences.truncate(plan.clients);
        }));
        smaller.extend(with_less(self, self.connections as u64, 1, |plan, count| {
            plan.connections = count as usize;
        }));
        smaller.extend(with_less(self, self.requests_max, 1, |plan, count| {
            plan.requests_max = count;
        }));
        smaller.extend(with_less(self, self.nodes as u64, 2, |plan, count| {
            plan.nodes = count as usize;
        }));
        let better = self.network.better().into_iter();
        smaller.extend(better.map(|network| Self { network, ..self.clone() }));
        smaller
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

fn conditions(random: &mut Random, is_calm: bool) -> Conditions {
    let faulty = !is_calm && random.chance(0.7);
    let mut rate = |most: f64| {
        if faulty && random.chance(0.6) { most * random.range(1..101) as f64 / 100.0 } else { 0.0 }
    };
    let (loss, duplication, reordering) = (rate(0.2), rate(0.2), rate(0.4));
    let latency_us = 20..random.magnitude(21..if is_calm { 500 } else { 10_000 });
    Conditions { latency_us, loss, duplication, reordering }
}

/// The real ones, or such that deadlines pass in the middle of things.
fn timeouts(random: &mut Random, is_calm: bool) -> Timeouts {
    let real = Timeouts::default();
    if is_calm || random.chance(0.5) {
        return real;
    }
    let mut short = |most: u64| random.magnitude(1..most + 1);
    let (import_ms, claim_ms) = (short(real.import_ms), short(real.claim_ms));
    let leave_ms = short(real.leave_ms);
    let claim_pause_ms = short(40);
    Timeouts {
        introduce_ms: short(real.introduce_ms),
        freeze_ms: short(real.freeze_ms),
        export_ms: short(real.export_ms),
        offer_ms: import_ms + claim_ms + leave_ms + short(real.offer_ms) - 1,
        check_ms: short(real.check_ms),
        take_back_ms: short(real.take_back_ms),
        linger_ms: short(real.linger_ms),
        import_ms,
        claim_ms,
        claim_pause_ms,
        claim_pause_max_ms: claim_pause_ms + short(80),
        leave_ms,
        remember_ms: short(real.remember_ms),
    }
}

fn faults(random: &mut Random, is_calm: bool) -> [u64; Fault::ALL.len()] {
    let none = is_calm || random.chance(0.2);
    std::array::from_fn(|_| if none || random.chance(0.5) { 0 } else { random.range(1..10) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_consistent_and_some_are_calm() {
        let plans: Vec<Plan> = (0..200).map(|seed| Plan::draw(&mut Random::new(seed))).collect();
        assert!(plans.iter().all(|plan| plan.timeouts.is_consistent()));
        let calm = plans.iter().filter(|plan| plan.is_calm);
        assert!(calm.clone().all(|plan| plan.faults.iter().sum::<u64>() == 0));
        assert!((20..100).contains(&calm.count()));
    }
}
