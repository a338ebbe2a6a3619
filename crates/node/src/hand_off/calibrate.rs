//! How large a body must be for a move to be worth it: for the nodes that share the moves to serve more
//! than a front end that relays.
//!
//! Both are tried on the loopback interface at the start, in some tens of milliseconds: relaying in
//! processor time for each byte, a move in processor time for all that its two hosts ask of their
//! kernels. What the owners' conversation costs besides is not measured but taken as constant.

use ashlar_net::repair::{self, RepairError};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// Bytes that are relayed to measure it.
const RELAYED_BYTES: usize = 16 << 20;
/// Bytes that a front end reads and writes in one go.
const PIECE_BYTES: usize = 64 << 10;
/// Connections that are moved to measure it.
const MOVES: u32 = 16;
/// What messages, wake-ups and steering cost the two hosts of a move.
const CONVERSATION: Duration = Duration::from_micros(60);
/// Bounds of what is believed.
const THRESHOLD_BYTES_MIN: u64 = 16 << 10;
const THRESHOLD_BYTES_MAX: u64 = 1 << 20;

/// The costs of this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// Of relaying a body.
    pub(super) relay_ns_per_kib: u64,
    /// Of moving a connection.
    pub(super) move_ns: u64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum CalibrationError {
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error(transparent)]
    Network(#[from] io::Error),
}

impl Costs {
    /// Tries both.
    pub(super) fn measure() -> Result<Self, CalibrationError> {
        let relay = relay()?;
        let relay_ns_per_kib = relay.as_nanos() as u64 / (RELAYED_BYTES as u64 >> 10);
        let moves = (0..MOVES)
            .try_fold(Duration::ZERO, |sum, _| Ok::<_, CalibrationError>(sum + move_once()?))?;
        Ok(Self { relay_ns_per_kib, move_ns: (moves / MOVES + CONVERSATION).as_nanos() as u64 })
    }

    /// From this size on a body is better not relayed: a power of two. All relaying is the front end's
    /// work; moves are that of `storage_nodes`, which share it.
    pub(super) fn threshold_bytes(self, storage_nodes: usize) -> u64 {
        let share_ns = self.move_ns / storage_nodes.max(1) as u64;
        let bytes = (share_ns << 10) / self.relay_ns_per_kib.max(1);
        bytes.next_power_of_two().clamp(THRESHOLD_BYTES_MIN, THRESHOLD_BYTES_MAX)
    }
}

/// The processor time of this thread for relaying so many bytes.
fn relay() -> io::Result<Duration> {
    let (mut source, mut receiver) = pair()?;
    let (mut sender, mut sink) = pair()?;
    let from = thread::spawn(move || source.write_all(&vec![0; RELAYED_BYTES]));
    let to = thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        while sink.read(&mut piece)? > 0 {}
        Ok::<_, io::Error>(())
    });
    let started = processor_time();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = receiver.read(&mut piece)?;
        if bytes == 0 {
            break;
        }
        sender.write_all(&piece[..bytes])?;
    }
    let spent = processor_time() - started;
    drop(sender);
    let joined = [from.join(), to.join()];
    joined.into_iter().try_for_each(|end| end.expect("neither thread panics"))?;
    Ok(spent)
}

/// The processor time of this thread for taking a connection out of the kernel and putting it back.
fn move_once() -> Result<Duration, CalibrationError> {
    let (client, server) = pair()?;
    server.set_nonblocking(true)?;
    let started = processor_time();
    let frozen = repair::freeze(server).map_err(|failed| failed.error)?;
    let export = frozen.export()?;
    frozen.receive_sequence_moved(&export.tcp)?;
    // Two sockets of one connection cannot be on one host.
    frozen.close_silently();
    let moved = repair::import(&export.tcp, export.peer_finished)?.go()?;
    let spent = processor_time() - started;
    drop((moved, client));
    Ok(spent)
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((client, server))
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_where_both_cost_the_same_within_bounds() {
        let threshold =
            |relay_ns_per_kib, move_ns| Costs { relay_ns_per_kib, move_ns }.threshold_bytes(1);
        assert_eq!(threshold(1_000, 60_000), 64 << 10);
        assert_eq!(threshold(1_000, 65_000), 128 << 10);
        let costs = Costs { relay_ns_per_kib: 1_000, move_ns: 480_000 };
        assert_eq!(costs.threshold_bytes(5), 128 << 10);
        assert_eq!(threshold(1_000, 1), THRESHOLD_BYTES_MIN);
        assert_eq!(threshold(0, 1_000_000_000), THRESHOLD_BYTES_MAX);
    }

    #[test]
    fn relaying_can_be_measured() {
        assert!(relay().is_ok_and(|spent| !spent.is_zero()));
    }
}
