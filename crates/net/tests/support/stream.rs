//! Both ends of a connection that is busy in both directions.

use super::pattern::{PIECE_BYTES_MAX, check, piece};
use super::{Host, Network, PATIENCE};
use ashlar_net::repair::{self, Frozen, unsent_bytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A client that writes until it is told to stop, and reads until the end. Both check every byte.
pub struct BusyClient {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<u64>,
    reader: JoinHandle<u64>,
}

impl BusyClient {
    pub fn start(socket: TcpStream) -> Self {
        const PIECE_BYTES: usize = 30_011;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut writing = socket.try_clone().unwrap();
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                writing.write_all(piece(sent, PIECE_BYTES)).unwrap();
                sent += PIECE_BYTES as u64;
            }
            writing.shutdown(Shutdown::Write).unwrap();
            sent
        });
        let reader = thread::spawn(move || read_to_the_end(socket));
        Self { stop, writer, reader }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The bytes sent and received.
    pub fn join(self) -> (u64, u64) {
        (self.writer.join().unwrap(), self.reader.join().unwrap())
    }
}

/// Reads and checks the stream; the number of its bytes.
pub fn read_to_the_end(mut socket: TcpStream) -> u64 {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut received, mut buffer) = (0, vec![0; PIECE_BYTES_MAX]);
    loop {
        let bytes = socket.read(&mut buffer).unwrap();
        if bytes == 0 {
            return received;
        }
        check("client", received, &buffer[..bytes]);
        received += bytes as u64;
    }
}

/// What a server knows of a connection, wherever its socket lives.
pub struct Server {
    pub socket: OwnedFd,
    pub host: Host,
    pub sent: u64,
    pub received: u64,
    /// The client's end of the stream was seen, by a socket or by a move.
    pub peer_finished: bool,
}

impl Server {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, host: Host::A, sent: 0, received: 0, peer_finished: false }
    }

    /// Waits until the socket is ready for something, then reads and writes what it takes without waiting.
    pub fn pump(&mut self) {
        const PIECE_BYTES: usize = 100_003;
        self.wait_for(PollFlags::IN | PollFlags::OUT);
        self.read();
        self.write(piece(self.sent, PIECE_BYTES));
    }

    fn wait_for(&self, events: PollFlags) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        poll(&mut [PollFd::new(&self.socket, events)], Some(&timeout)).unwrap();
    }

    /// Reads what is there, up to a bound: the client writes faster than bytes are checked.
    pub fn read(&mut self) {
        const READS_MAX: u32 = 4;
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        for _ in 0..READS_MAX {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.peer_finished = true;
                    return;
                }
                Ok((bytes, _)) => self.take(&buffer[..bytes]),
                Err(Errno::AGAIN) => return,
                Err(error) => panic!("server on {:?}: read: {error}", self.host),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            check("server", self.received, piece);
            self.received += piece.len() as u64;
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(taken) => self.sent += taken as u64,
            Err(Errno::AGAIN) => {}
            Err(error) => panic!("server on {:?}: write: {error}", self.host),
        }
    }

    /// Writes so many bytes of the stream, however long that takes.
    pub fn write_all(&mut self, bytes: u64) {
        let (end, deadline) = (self.sent + bytes, Instant::now() + PATIENCE);
        while self.sent < end {
            assert!(Instant::now() < deadline, "the client does not read");
            let rest = usize::try_from(end - self.sent).unwrap();
            self.write(piece(self.sent, rest.min(PIECE_BYTES_MAX)));
            self.wait_for(PollFlags::OUT);
        }
    }

    /// Reads on until everything written was sent.
    pub fn wait_until_sent(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while unsent_bytes(&self.socket).unwrap() > 0 {
            assert!(Instant::now() < deadline, "the client does not read");
            self.wait_for(PollFlags::IN);
            self.read();
        }
    }

    /// Moves the connection to the other host, whatever is in its queues. Bytes that the old kernel had received are received here.
    /// Gives the lengths of the queues that moved: send, receive.
    pub fn move_over(&mut self, network: &Network) -> (usize, usize) {
        self.wait_until_sent();
        let (frozen, export) = loop {
            let frozen = repair::freeze(self.socket.try_clone().unwrap()).unwrap();
            let export = frozen.export().unwrap();
            if !frozen.receive_sequence_moved(&export.tcp).unwrap() {
                break (frozen, export);
            }
            frozen.thaw().unwrap();
        };
        let imported = network.import(self.host.other(), &export);
        if frozen.receive_sequence_moved(&export.tcp).unwrap() {
            // A segment was past the filter: as in life, the connection stays where it is.
            imported.close_silently();
            frozen.thaw().unwrap();
            return (0, 0);
        }
        self.host = self.host.other();
        network.point(self.host);
        // The clone in `frozen` closes when it is dropped; this assignment drops the original, still in repair mode.
        self.socket = imported.go().unwrap();
        frozen.close_silently();
        self.take(&export.received);
        self.peer_finished |= export.peer_finished;
        (export.tcp.send_queue.len(), export.received.len())
    }

    pub fn freeze(&mut self) -> Frozen<OwnedFd> {
        self.wait_until_sent();
        repair::freeze(self.socket.try_clone().unwrap()).unwrap()
    }

    /// Reads to the client's end of the stream.
    pub fn drain(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.peer_finished {
            assert!(Instant::now() < deadline, "the client does not finish");
            self.wait_for(PollFlags::IN);
            self.read();
        }
    }
}
