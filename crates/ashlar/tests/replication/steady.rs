//! A steady load: clients put over a bounded set of keys, so what replicas keep has to stay bounded.

use crate::{clients::sessions_of, group::Group};
use ashlar_replica::{Clients, Outcome};
use ashlar_vr::{
    Kind, Options,
    kv::{Change, Changed},
};
use bytes::Bytes;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Sessions that put at one time.
const SESSIONS: usize = 8;
/// Puts that each of them has under way.
const DEPTH: usize = 8;
/// Keys that they put, over and over again.
const KEYS: u64 = 64;
/// Longer than a batch: few syncs then fill a log, on any disk.
const VALUE_BYTES: usize = 64 << 10;
/// Disks may be slow; links lose nothing here.
const WAIT: Duration = Duration::from_secs(1);
/// How often each half of the time must be enough to fill a replica's log: then nothing is bounded by lack of time.
const LOGS_MIN: u64 = 2;
/// Between two looks at the replicas.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The second half's most may exceed the first half's by this part of it, and by `GROWTH_BYTES`: allocators and
/// file systems round, and checkpoints fall together with full segments by chance.
const GROWTH_PERCENT: u64 = 20;
/// See `GROWTH_PERCENT`.
const GROWTH_BYTES: u64 = 32 << 20;

/// What a replica takes: the most that was seen of any of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
}

impl Usage {
    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_bytes, disk_bytes } = self;
        write!(formatter, "{} MiB of memory, {} MiB on disk", memory_bytes >> 20, disk_bytes >> 20)
    }
}

/// Has clients put for so long, and compares what replicas take in both halves of the time.
pub(crate) fn bear(group: &Group, time: Duration) {
    let load = Load::start(group);
    let [first, second] = [(); 2].map(|()| {
        let (puts_before, end) = (load.puts.load(Relaxed), Instant::now() + time / 2);
        let mut most = Usage::default();
        while Instant::now() < end {
            most = most.most(group.usage());
            assert!(!load.thread.is_finished(), "the clients have failed");
            sleep(LOOK_EVERY);
        }
        let puts = load.puts.load(Relaxed) - puts_before;
        println!("{puts} puts of {VALUE_BYTES} bytes: at most {most}");
        let logs = puts * VALUE_BYTES as u64 / Options::default().log_bytes_max as u64;
        assert!(logs >= LOGS_MIN, "{logs} logs in half of {time:?}: it takes longer");
        most
    });
    load.stop();
    let is_bounded =
        |first: u64, second: u64| second <= first + first * GROWTH_PERCENT / 100 + GROWTH_BYTES;
    assert!(is_bounded(first.memory_bytes, second.memory_bytes), "first {first}, then {second}");
    assert!(is_bounded(first.disk_bytes, second.disk_bytes), "first {first}, then {second}");
}

/// Clients at work.
struct Load {
    stops: Arc<AtomicBool>,
    puts: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(group: &Group) -> Self {
        let (stops, puts) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (namespace, members) = (group.client_namespace(), group.members().to_vec());
        let (told, counted) = (Arc::clone(&stops), Arc::clone(&puts));
        let thread = std::thread::spawn(move || {
            put_until(&mut sessions_of(&namespace, members, SESSIONS, WAIT), &told, &counted);
        });
        Self { stops, puts, thread }
    }

    fn stop(self) {
        self.stops.store(true, Relaxed);
        self.thread.join().unwrap();
    }
}

fn put_until(clients: &mut Clients, stops: &AtomicBool, puts: &AtomicU64) {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let mut made = 0_u64;
    let mut put = |clients: &mut Clients, session| {
        let key = Bytes::copy_from_slice(&(made % KEYS).to_be_bytes());
        made += 1;
        clients.request(session, Kind::Operation, Change::Put(key, Some(value.clone())).encode());
    };
    for session in (0..SESSIONS).flat_map(|session| [session; DEPTH]) {
        put(clients, session);
    }
    while !stops.load(Relaxed) {
        for done in clients.poll(Instant::now() + LOOK_EVERY).unwrap() {
            let Outcome::Executed(result) = done.outcome else { panic!("{:?}", done.outcome) };
            assert!(matches!(Changed::decode(&result), Some(Changed::Done(_))), "it is made");
            puts.fetch_add(1, Relaxed);
            put(clients, done.session);
        }
    }
}
