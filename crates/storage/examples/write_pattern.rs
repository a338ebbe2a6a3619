//! How fast the disk engine takes and gives small objects on this machine.
//!
//! Usage: `cargo run --release -p ashlar-storage --example write_pattern -- DIR [KEYS]`
//!
//! Overwrites objects of 1 KiB in batches of 1, 8 and 64, each batch with the releases of the one
//! before and one sync; then reads random ones from one and from two threads; then tells the size
//! on disk. The figures are only good for comparing two runs on one machine.

use anyhow::Context as _;
use ashlar_object::{
    Body, Change, ETag, Entry, Key, ObjectMeta, Operation, PartitionIndex, Version,
};
use ashlar_storage::{Batch, DiskEngine, DiskOptions, Engine as _, Item, open_disk};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const BODY_BYTES: usize = 1024;
const PARTITIONS: u64 = 64;
const FILL_BATCH: usize = 256;
const READS: usize = 200_000;

/// What is to be written next.
struct Writer {
    random: Pcg64,
    /// The last version of each partition.
    versions: Vec<u64>,
    /// What the last batch wrote: released with the next one.
    written: Vec<(PartitionIndex, Entry)>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("usage: write_pattern DIR [KEYS]")?;
    let keys: u64 = arguments.next().map_or(Ok(50_000), |keys| keys.parse())?;
    let engine = open_disk(Path::new(&dir), DiskOptions::default())?;
    let mut writer = Writer {
        random: Pcg64::seed_from_u64(1),
        versions: (0..PARTITIONS)
            .map(|p| engine.recover(PartitionIndex(p as u16)).map(|r| r.applied.0))
            .collect::<Result<_, _>>()?,
        written: Vec::new(),
    };
    let all: Vec<u64> = (0..keys).collect();
    for numbers in all.chunks(FILL_BATCH) {
        writer.apply(&engine, numbers)?;
    }
    for (size, batches) in [(1, 4000), (8, 1500), (64, 400)] {
        let mut times = Vec::new();
        for _ in 0..batches {
            let numbers: Vec<u64> =
                (0..size).map(|_| writer.random.random_range(0..keys)).collect();
            times.push(writer.apply(&engine, &numbers)?);
        }
        report_batches(size, times);
    }
    for threads in [1, 2] {
        let rate = read(&engine, keys, threads);
        println!("{threads} reader(s): {rate:.0} reads/s");
    }
    let live = keys as usize * (BODY_BYTES + 100);
    println!("{} MiB on disk for {} MiB", size_on_disk(Path::new(&dir))? >> 20, live >> 20);
    Ok(())
}

impl Writer {
    fn apply(&mut self, engine: &DiskEngine, numbers: &[u64]) -> anyhow::Result<Duration> {
        let written: Vec<_> = numbers.iter().map(|number| self.entry(*number)).collect();
        let entries = written.iter().cloned();
        let released = std::mem::replace(&mut self.written, written.clone()).into_iter();
        let items = entries
            .map(|(partition, entry)| Item::Entry { partition, entry })
            .chain(released.map(|(partition, entry)| Item::Release { partition, entry }))
            .collect();
        let start = Instant::now();
        engine.apply(&Batch { items })?;
        Ok(start.elapsed())
    }

    fn entry(&mut self, number: u64) -> (PartitionIndex, Entry) {
        let partition = number % PARTITIONS;
        let version = &mut self.versions[partition as usize];
        *version += 1;
        let mut body = vec![0; BODY_BYTES];
        self.random.fill(&mut body[..]);
        let meta = ObjectMeta {
            size_bytes: BODY_BYTES as u64,
            etag: ETag([0; 16]),
            modified_ms: 0,
            content_type: Some("application/octet-stream".into()),
            user: Vec::new(),
        };
        let change = Change::Put { meta, body: Body::Inline(body.into()) };
        let operation = Arc::new(Operation { key: key(number), change });
        let entry = Entry { version: Version(*version), operation };
        (PartitionIndex(partition as u16), entry)
    }
}

/// Neighbours in number are far apart in the keys' order.
fn key(number: u64) -> Key {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Key::new(&format!("bucket/{spread:016x}/object-{number}")).expect("a key")
}

fn report_batches(size: usize, mut times: Vec<Duration>) {
    times.sort();
    let total: Duration = times.iter().sum();
    println!(
        "batches of {size}: {:.0} writes/s, median {:?}, 99% below {:?}, longest {:?}",
        (size * times.len()) as f64 / total.as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
}

/// Reads random objects as a GET does; returns the rate of all threads together.
fn read(engine: &DiskEngine, keys: u64, threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut random = Pcg64::seed_from_u64(thread as u64);
                for _ in 0..READS / threads {
                    let key = key(random.random_range(0..keys));
                    let snapshot = engine.snapshot().expect("a snapshot");
                    let versions = snapshot.versions(&key).expect("versions");
                    let newest = versions.last().expect("the object");
                    let body = snapshot.inline_body(&key, newest).expect("the body");
                    assert_eq!(body.len(), BODY_BYTES);
                }
            });
        }
    });
    READS as f64 / start.elapsed().as_secs_f64()
}

fn size_on_disk(path: &Path) -> std::io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    fs::read_dir(path)?.map(|entry| size_on_disk(&entry?.path())).sum()
}
