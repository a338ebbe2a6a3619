//! What a seed decides before its run begins: sizes, times and the mix of faults.

use super::kernel::draw_allowed;
use crate::{
    disk::SyncTime,
    network::Conditions,
    random::Random,
    shrink::{Shrink, with_less},
};
use ashlar_vr::{Allowed, Mode, Options};
use std::fmt;

/// Members that a group may begin with.
const COUNTS: [usize; 8] = [1, 3, 3, 3, 3, 5, 5, 7];
/// The most hosts that are no members at first.
const SPARES_MAX: u64 = 3;
/// The most clients.
const CLIENTS_MAX: u64 = 6;
/// The most operations: a history must stay short enough to be judged.
const OPERATIONS_MAX: u64 = 240;
/// What writers put before faults end, if they are answered.
const PUTS: std::ops::Range<u64> = 2_000..24_000;
/// More than a put takes in a log besides its value.
const PUT_BYTES: usize = 128;

/// Writers that are slower than this are not made slower when a run is made smaller, in microseconds.
const THINK_US_MAX: u64 = 1_000_000;
/// More faults than strike in nearly all runs.
const STRIKES_GUESS: u64 = 256;
/// By so much the safety phase is cut when a run is made smaller, in microseconds.
const SAFETY_GRAIN_US: u64 = 50_000;
/// Of so many seeds one is restless: leaders are cut off as soon as they lead, so that entries stay with those who
/// took them and compete later. By chance that hardly happens.
const RESTLESS_ONE_IN: u64 = 5;
/// Which ones: none of those that failed before there were any (`seeds/vr.txt`), so that they keep their meaning.
const RESTLESS: u64 = 3;
/// Of so many seeds one is busy: clients write all the time, until all members follow a leader that goes on.
const BUSY_ONE_IN: u64 = 11;
/// Which ones: again, none of those that failed before.
const BUSY: u64 = 4;
/// Of so many seeds one has real journals, over simulated disks, if it is durable.
const JOURNALS_ONE_IN: u64 = 13;
/// Which ones: again, none of those that failed before.
const JOURNALS: u64 = 4;

/// Of so many seeds some have programs in the kernels of their hosts.
const OFFLOAD_IN: u64 = 17;
/// Which ones: again, none of those that failed before.
const OFFLOAD: [u64; 5] = [1, 2, 4, 6, 9];
/// Most of them are volatile: programs acknowledge for nobody whose disk must be waited for.
const OFFLOAD_VOLATILE: f64 = 0.8;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process is killed; what it wrote stays in the page cache.
    Kill,
    /// A host loses power.
    PowerLoss,
    /// All hosts lose power at once.
    Blackout,
    /// A host stands still for a while.
    Pause,
    /// The hosts fall into two halves.
    Split,
    /// A host cannot be reached, or cannot reach others, or both.
    Isolate,
    /// One direction between two hosts is cut.
    CutOneWay,
    /// The leader is cut off.
    IsolateLeader,
    /// The leader's process is killed.
    KillLeader,
    /// All cuts are mended.
    Heal,
    /// A disk is slow for a while.
    SlowDisk,
    /// A disk loses entries that it had; noticed when its host starts again.
    Damage,
    /// The operator changes the members.
    Reconfigure,
    /// The leader is cut off, and who was cut off before is back.
    Relieve,
    /// The next leader is cut off, or loses power, when its view has begun and nobody else knows it.
    Ambush,
    /// The next replica that recovers its memory loses it again.
    Relapse,
    /// What programs in the kernel of a host may do is changed.
    SwitchOffload,
}

impl Fault {
    /// Those that every seed may draw.
    const USUAL: [Self; 13] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Blackout,
        Self::Pause,
        Self::Split,
        Self::Isolate,
        Self::CutOneWay,
        Self::IsolateLeader,
        Self::KillLeader,
        Self::Heal,
        Self::SlowDisk,
        Self::Damage,
        Self::Reconfigure,
    ];
}

/// Clients that write all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) writers: usize,
    /// Keys of each.
    pub(crate) keys: usize,
    /// The longest value.
    pub(crate) value_bytes: usize,
    /// Puts that a writer has open at once.
    pub(crate) depth: u64,
    /// So many members fall behind once more, one after the other, when faults have ended.
    pub(crate) stragglers: u64,
    /// Between two puts of a writer, in microseconds, while there are faults or stragglers are away.
    pub(crate) think_us: u64,
    /// … and when they are back: few enough that who fetches a log at that pace reaches its end.
    pub(crate) calm_think_us: u64,
}

impl Load {
    /// Those that are a little lighter in one respect.
    fn lighter(&self) -> Vec<Self> {
        let mut lighter = with_less(self, self.writers as u64, 1, |load, count| {
            load.writers = count as usize;
        });
        lighter.extend(with_less(self, self.stragglers, 0, |load, count| load.stragglers = count));
        lighter.extend(with_less(self, self.keys as u64, 1, |load, count| {
            load.keys = count as usize;
        }));
        lighter.extend(with_less(self, self.depth, 1, |load, depth| load.depth = depth));
        let slower = Self { think_us: 2 * self.think_us, ..*self };
        lighter.extend((self.think_us < THINK_US_MAX).then_some(slower));
        lighter
    }
}

/// Programs in kernels that decide for replicas.
#[derive(Clone, Debug)]
pub(crate) struct Offload {
    /// Their own source of chance.
    pub(crate) seed: u64,
    /// Slots of a host.
    pub(crate) slots_max: u64,
    /// What those of each host may do.
    pub(crate) allowed: Vec<Allowed>,
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) members: usize,
    pub(crate) spares: usize,
    pub(crate) options: Options,
    pub(crate) network: Conditions,
    pub(crate) sync: SyncTime,
    pub(crate) clients: usize,
    /// Requests that a client has open at once.
    pub(crate) depth: u64,
    pub(crate) keys: u64,
    pub(crate) operations: u64,
    /// Other clients, whose operations are not judged one by one.
    pub(crate) load: Option<Load>,
    /// Of a hundred operations so many are reads.
    pub(crate) reads_percent: u64,
    /// Between two operations of a client, in microseconds.
    pub(crate) think_us: u64,
    pub(crate) faults: Vec<Fault>,
    /// Between two faults, in microseconds.
    pub(crate) fault_every_us: u64,
    /// So many faults strike at most.
    pub(crate) strikes_max: u64,
    /// Disks are simulated below the real journals, not in their place.
    pub(crate) has_journals: bool,
    /// Programs decide for replicas, too.
    pub(crate) offload: Option<Offload>,
    /// When faults end, in microseconds.
    pub(crate) safety_us: u64,
    /// How much faster each host's clock is than true time, in parts of a million.
    pub(crate) drifts_ppm: Vec<i64>,
}

impl Plan {
    /// Draws the plan of a seed.
    pub(crate) fn new(seed: u64, random: &mut Random) -> Self {
        let mut plan = Self::draw(random);
        if seed % RESTLESS_ONE_IN == RESTLESS {
            plan.faults.extend([Fault::Relieve, Fault::Ambush, Fault::Relieve, Fault::Ambush]);
            plan.faults.push(Fault::Relapse);
            plan.fault_every_us = random.range(150_000..800_000);
            plan.safety_us = random.range(3_000_000..8_000_000);
            plan.clients = random.range(2..CLIENTS_MAX + 1) as usize;
            plan.think_us = random.magnitude(5_000..400_000);
            plan.operations = random.range(OPERATIONS_MAX / 2..OPERATIONS_MAX);
        }
        if seed % BUSY_ONE_IN == BUSY {
            plan.make_busy(random);
        }
        if OFFLOAD.contains(&(seed % OFFLOAD_IN)) {
            plan.offload(random);
        }
        plan.has_journals =
            plan.options.mode == Mode::Durable && seed % JOURNALS_ONE_IN == JOURNALS;
        plan
    }

    /// Programs decide for replicas, in groups of all kinds.
    fn offload(&mut self, random: &mut Random) {
        if random.chance(OFFLOAD_VOLATILE) {
            self.options.mode = Mode::Volatile;
        }
        self.faults.push(Fault::SwitchOffload);
        self.offload = Some(Offload {
            seed: random.below(u64::MAX),
            slots_max: random.magnitude(1..64),
            allowed: (0..self.hosts()).map(|_| draw_allowed(random)).collect(),
        });
    }

    /// Logs outgrow what is kept of them, and yet last for as long as a snapshot is on its way.
    fn make_busy(&mut self, random: &mut Random) {
        let writers = random.range(1..5) as usize;
        let keys = random.range(1..9) as usize;
        let value_bytes = random.magnitude(16..1_024) as usize;
        let depth = random.magnitude(1..64);
        let puts = random.magnitude(PUTS);
        let entry_bytes = value_bytes + PUT_BYTES;
        let latency_us = random.magnitude(100..2_000);
        self.network.latency_us = latency_us..latency_us * 2;
        let options = &mut self.options;
        options.resend_us = random.magnitude(1_000..4_000);
        options.batch_entries_max = random.magnitude(2..32) as usize;
        options.batch_bytes_max = random.magnitude(512..8_192) as usize;
        options.window_entries = options.batch_entries_max as u64 * random.range(1..8);
        options.window_bytes = options.batch_bytes_max * random.range(1..8) as usize;
        options.part_bytes = random.magnitude(1_024..8_192) as usize;
        options.sessions_max = options.sessions_max.max(self.clients + writers + 1);
        let results = depth as usize + keys;
        let parts = (writers * results * entry_bytes).div_ceil(options.part_bytes);
        options.log_bytes_max = 2 * options.window_bytes
            + parts * options.batch_bytes_max * random.magnitude(1..16) as usize;
        assert!(options.is_consistent(), "{options:?}");
        // A batch is fetched, and written, in about that time; a quarter of it may be added meanwhile.
        let round_us = 4 * self.network.latency_us.end + 2 * self.sync.usual_us.end;
        let batch = options.batch_entries_max.min(options.batch_bytes_max / entry_bytes).max(1);
        let calm_think_us = 8 * round_us * writers as u64 / batch as u64 + 1;
        let stragglers = random.range(1..4);
        let think_us = 2 * self.safety_us * writers as u64 / puts;
        self.load =
            Some(Load { writers, keys, value_bytes, depth, stragglers, think_us, calm_think_us });
    }

    fn draw(random: &mut Random) -> Self {
        let members = *random.pick(&COUNTS);
        let spares = random.below(SPARES_MAX + 1) as usize;
        let options = draw_options(random);
        let latency_us = random.magnitude(20..2_000);
        let chance = |random: &mut Random, most: f64| {
            if random.chance(0.5) { 0.0 } else { most * random.below(100) as f64 / 100.0 }
        };
        let network = Conditions {
            latency_us: latency_us..latency_us * 2,
            loss: chance(random, 0.2),
            duplication: chance(random, 0.2),
            reordering: chance(random, 0.3),
        };
        let sync_us = random.magnitude(20..5_000);
        let sync = SyncTime { usual_us: sync_us..sync_us * 2, slow_factor: random.range(5..50) };
        let faults = Fault::USUAL.into_iter().filter(|_| random.chance(0.5)).collect();
        let drift_max = options.drift_ppm_max;
        let drift = |random: &mut Random| random.below(2 * drift_max + 1) as i64 - drift_max as i64;
        Self {
            members,
            spares,
            options,
            network,
            sync,
            clients: random.range(1..CLIENTS_MAX + 1) as usize,
            depth: random.range(1..5),
            keys: random.range(1..4),
            operations: random.magnitude(20..OPERATIONS_MAX),
            load: None,
            reads_percent: random.below(70),
            think_us: random.magnitude(10..50_000),
            faults,
            fault_every_us: random.magnitude(20_000..1_000_000),
            strikes_max: u64::MAX,
            has_journals: false,
            offload: None,
            safety_us: random.range(1_000_000..6_000_000),
            drifts_ppm: (0..members + spares).map(|_| drift(random)).collect(),
        }
    }

    /// Members and others.
    pub(crate) fn hosts(&self) -> usize {
        self.members + self.spares
    }

    /// All clients: writers have the last places.
    pub(crate) fn clients(&self) -> usize {
        self.clients + self.load.map_or(0, |load| load.writers)
    }

    /// So many of `members` may be lost at one time.
    pub(crate) fn failures_max(members: usize) -> usize {
        members - (members / 2 + 1)
    }
}

fn draw_options(random: &mut Random) -> Options {
    let batch_bytes_max = random.magnitude(64..4_096) as usize;
    let window_bytes = batch_bytes_max * random.range(1..8) as usize;
    let batch_entries_max = random.magnitude(1..32) as usize;
    let lease_us = if random.chance(0.4) { 0 } else { random.range(20_000..100_000) };
    let options = Options {
        mode: if random.chance(0.5) { Mode::Volatile } else { Mode::Durable },
        lease_us,
        drift_ppm_max: random.magnitude(1..50_000),
        resend_us: random.magnitude(1_000..20_000),
        window_entries: batch_entries_max as u64 * random.range(1..8),
        window_bytes,
        batch_entries_max,
        batch_bytes_max,
        pipeline_max: random.range(1..6),
        queue_max: random.magnitude(1..64) as usize,
        queue_bytes_max: 4 * window_bytes,
        log_bytes_max: window_bytes * random.range(2..10) as usize,
        sessions_max: random.range(1..12) as usize,
        part_bytes: random.magnitude(32..4_096) as usize,
        ..Options::default()
    };
    assert!(options.is_consistent(), "{options:?}");
    options
}

impl Shrink for Plan {
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = self.with_fewer_faults();
        if let Some(load) = self.load {
            smaller.push(Self { load: None, ..self.clone() });
            let lighter = load.lighter().into_iter();
            smaller.extend(lighter.map(|load| Self { load: Some(load), ..self.clone() }));
        }
        for members in COUNTS.into_iter().filter(|count| *count < self.members) {
            let mut plan = self.clone();
            plan.members = members;
            plan.drifts_ppm.truncate(plan.hosts());
            smaller.push(plan);
        }
        smaller.extend(with_less(self, self.spares as u64, 0, |plan, spares| {
            plan.spares = spares as usize;
            plan.drifts_ppm.truncate(plan.hosts());
        }));
        // So many faults did not strike; where to begin is a guess.
        let strikes_max = self.strikes_max.min(STRIKES_GUESS);
        smaller.extend(with_less(self, strikes_max, 0, |plan, strikes| plan.strikes_max = strikes));
        let grains = self.safety_us.div_ceil(SAFETY_GRAIN_US);
        smaller.extend(with_less(self, grains, 1, |plan, grains| {
            plan.safety_us = grains * SAFETY_GRAIN_US;
        }));
        smaller.extend(with_less(self, self.operations, 1, |plan, count| plan.operations = count));
        smaller.extend(with_less(self, self.clients as u64, 1, |plan, count| {
            plan.clients = count as usize;
        }));
        smaller.extend(with_less(self, self.depth, 1, |plan, depth| plan.depth = depth));
        smaller.extend(with_less(self, self.keys, 1, |plan, keys| plan.keys = keys));
        let better = self.network.better().into_iter();
        smaller.extend(better.map(|network| Self { network, ..self.clone() }));
        if self.drifts_ppm.iter().any(|drift| *drift != 0) {
            smaller.push(Self { drifts_ppm: vec![0; self.hosts()], ..self.clone() });
        }
        if self.offload.is_some() {
            smaller.push(Self { offload: None, ..self.clone() });
        }
        if self.has_journals {
            smaller.push(Self { has_journals: false, ..self.clone() });
        }
        if self.options.lease_us > 0 {
            let options = Options { lease_us: 0, ..self.options };
            smaller.push(Self { options, ..self.clone() });
        }
        smaller
    }
}

impl Plan {
    /// None of the kinds of faults, or one kind less.
    fn with_fewer_faults(&self) -> Vec<Self> {
        let mut kinds = Vec::new();
        for fault in &self.faults {
            if !kinds.contains(fault) {
                kinds.push(*fault);
            }
        }
        let without = |gone: &[Fault]| {
            let left = self.faults.iter().filter(|fault| !gone.contains(fault));
            Self { faults: left.copied().collect(), ..self.clone() }
        };
        let halves = kinds.chunks(kinds.len().div_ceil(2).max(1)).filter(|half| half.len() > 1);
        let all = (kinds.len() > 1).then(|| without(&kinds));
        let all = all.into_iter().chain(halves.map(without));
        all.chain(kinds.iter().map(|kind| without(&[*kind]))).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:#?}")
    }
}
