//! What bounds a group on this machine: UDP's round trip, and the disk's syncs.

use super::exchange::{KEY_BYTES, request_bytes};
use super::spec::Case;
use super::window::Window;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nobody on this machine answers later.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// Bytes that an operation has in a journal beside its value: its record, its entry, the key
/// (`docs/replication.md`).
const JOURNAL_OVERHEAD_BYTES: usize = 96 + 72 + KEY_BYTES;
/// Writes begin at multiples of this.
const BLOCK_BYTES: usize = 4 << 10;
/// Files have their length before anything is measured, and are written over: a sync then changes data only.
const FILE_BYTES: u64 = 64 << 20;

/// Sends a datagram as long as a request to another thread, which sends it back, again and again.
pub(super) fn udp(case: &Case, window: &mut Window) -> io::Result<()> {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (near, far) = (bind()?, bind()?);
    near.connect(far.local_addr()?)?;
    far.connect(near.local_addr()?)?;
    far.set_read_timeout(Some(LOST_AFTER))?;
    near.set_read_timeout(Some(LOST_AFTER))?;
    let echo = thread::spawn(move || {
        let mut buffer = [0; 65_536];
        // Until nothing comes any more.
        while let Ok(length) = far.recv(&mut buffer) {
            if far.send(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    let mut datagram = vec![0; request_bytes(case)];
    while Instant::now() < window.closes {
        let began = Instant::now();
        near.send(&datagram)?;
        near.recv(&mut datagram)?;
        window.record(began, Instant::now());
    }
    drop(near);
    echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(())
}

/// Keeps as many operations under way as there are clients; each is done when a quorum of as many threads as members has
/// written and synced it, which take together what waits.
pub(super) fn sync(
    case: &Case,
    directory: &Path,
    window: impl FnOnce() -> Window,
) -> io::Result<Window> {
    let (tell, told) = channel();
    let mut writers = Vec::new();
    let mut threads = Vec::new();
    for member in 0..case.members {
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(directory.join(format!("sync-{member}")))?;
        fill(&file)?;
        let (order, orders) = channel();
        let (tell, entry_bytes) =
            (tell.clone(), JOURNAL_OVERHEAD_BYTES + case.value.bytes() as usize);
        threads.push(thread::spawn(move || {
            write_and_sync(&file, entry_bytes, &orders, &tell, member)
        }));
        writers.push(order);
    }
    drop(tell);
    let mut window = window();
    drive(case, &writers, &told, &mut window);
    drop(writers);
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(window)
}

fn fill(file: &File) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for place in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, place)?;
    }
    file.sync_all()
}

/// Writes what was ordered, all that waits at once, and tells up to which operation it is synced.
fn write_and_sync(
    file: &File,
    entry_bytes: usize,
    orders: &Receiver<u64>,
    tell: &Sender<(usize, u64)>,
    member: usize,
) -> io::Result<()> {
    let (mut written, mut place) = (0, 0);
    while let Ok(first) = orders.recv() {
        let last = orders.try_iter().last().unwrap_or(first);
        let length = (last - written) as usize * entry_bytes;
        let bytes = vec![member as u8; length.next_multiple_of(BLOCK_BYTES)];
        if place + bytes.len() as u64 > FILE_BYTES {
            place = 0;
        }
        file.write_all_at(&bytes, place)?;
        file.sync_data()?;
        (written, place) = (last, place + bytes.len() as u64);
        if tell.send((member, written)).is_err() {
            break;
        }
    }
    Ok(())
}

fn drive(case: &Case, writers: &[Sender<u64>], told: &Receiver<(usize, u64)>, window: &mut Window) {
    let mut synced = vec![0; case.members];
    let mut began = std::collections::VecDeque::new();
    let (mut ordered, mut done) = (0, 0);
    while Instant::now() < window.closes {
        let now = Instant::now();
        while began.len() < case.clients {
            began.push_back(now);
            ordered += 1;
        }
        for writer in writers {
            // One that has ended has failed: the join says why.
            let _ = writer.send(ordered);
        }
        match told.recv_timeout(window.closes.saturating_duration_since(now)) {
            Ok((member, to)) => synced[member] = to,
            // Late, or every writer has ended.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
        for (member, to) in told.try_iter() {
            synced[member] = to;
        }
        let committed = committed(&synced);
        for began in began.drain(..(committed - done) as usize) {
            window.record(began, Instant::now());
        }
        done = committed;
    }
}

/// Up to where a quorum has everything.
fn committed(synced: &[u64]) -> u64 {
    let mut sorted = synced.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_more_than_half() {
        assert_eq!(committed(&[7]), 7);
        assert_eq!(committed(&[1, 5, 3]), 3);
        assert_eq!(committed(&[9, 1, 2, 8, 3]), 3);
    }
}
