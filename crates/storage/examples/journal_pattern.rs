//! How fast the journal of a replica takes entries on this machine.
//!
//! Usage: `cargo run --release -p ashlar-storage --example journal_pattern -- DIR [ENTRIES]`
//!
//! Appends operations of 64 bytes in batches of 1, 16, 64 and 256, each batch with one sync, and then opens the
//! journal again. For comparison, writes of 4 KiB to a file that grows and to one that does not, each with
//! one sync. The figures are only good for comparing two runs on one machine.

use anyhow::Context as _;
use ashlar_storage::{Purpose, ReplicaJournal};
use ashlar_vr::{ClientId, Entry, EpochStart, Kind, Promise, Request, View, Write};
use bytes::Bytes;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

const OPERATION_BYTES: usize = 64;
/// The longest that one pattern takes.
const TIME_MAX: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("usage: journal_pattern DIR [ENTRIES]")?;
    let dir = Path::new(&dir);
    let entries_max: u64 = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    fs::create_dir_all(dir)?;
    for grows in [true, false] {
        compare(dir, grows)?;
    }
    for batch in [1, 16, 64, 256] {
        measure(&dir.join(format!("batch-{batch}")), batch, entries_max)?;
    }
    Ok(())
}

/// Writes and syncs, as the journal does at least.
fn compare(dir: &Path, grows: bool) -> anyhow::Result<()> {
    let path = dir.join("plain");
    let file = File::create(&path)?;
    let block = [7; 4096];
    if !grows {
        (0..4096).try_for_each(|index| file.write_all_at(&block, index * 4096))?;
        file.sync_all()?;
    }
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TIME_MAX && count < 4096 {
        file.write_all_at(&block, count * 4096)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("plain file, grows: {grows:5}  {rate:9.0} syncs/s");
    Ok(fs::remove_file(path)?)
}

fn measure(dir: &Path, batch: u64, entries_max: u64) -> anyhow::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    ReplicaJournal::create(dir, Purpose::New, "an example")?;
    let (mut journal, _) = ReplicaJournal::open(dir)?;
    let view = View::new(0, 1);
    let epoch = EpochStart { view, op: 0, digest: 0, members: vec![([10, 0, 0, 1], 1).into()] };
    journal.append(&Write::Promise(Promise { view, last_normal: view, epoch }))?;
    journal.sync()?;
    let body = Bytes::from(vec![7; OPERATION_BYTES]);
    let (mut op, mut digest) = (0, 0);
    let mut next = || {
        op += 1;
        let (client, kind, body) = (ClientId(1), Kind::Operation, body.clone());
        let request = Request { client, session: 1, number: op, acknowledged: 0, kind, body };
        let entry = Entry::new(op, view, 0, request, digest);
        digest = entry.digest;
        entry
    };
    let (mut count, mut writing) = (0, Duration::ZERO);
    while writing < TIME_MAX && count < entries_max {
        let write = Write::Append((0..batch).map(|_| next()).collect());
        let start = Instant::now();
        journal.append(&write)?;
        journal.sync()?;
        writing += start.elapsed();
        count += batch;
    }
    journal.seal()?;
    drop(journal);
    let start = Instant::now();
    drop(ReplicaJournal::open(dir)?);
    let (seconds, syncs) = (writing.as_secs_f64(), count / batch);
    println!(
        "batches of {batch:3}  {:9.0} entries/s  {:7.0} syncs/s  opened {count} entries in {:?}",
        count as f64 / seconds,
        syncs as f64 / seconds,
        start.elapsed(),
    );
    Ok(fs::remove_dir_all(dir)?)
}
