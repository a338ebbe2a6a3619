//! What the network costs a lone client's operation: the datagrams of normal operation between bare sockets, with nothing done
//! about what they say.

use super::spec::Case;
use super::window::Window;
use ashlar_replica::HEADER_BYTES;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Nobody on this machine answers later.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// The operation whose number this is ends the threads.
const LAST: u64 = u64::MAX;
/// An operation's key, and what says that it is a put.
pub(super) const KEY_BYTES: usize = 12;

/// Of a datagram that asks for an operation of this case.
pub(super) fn request_bytes(case: &Case) -> usize {
    HEADER_BYTES + KEY_BYTES + case.value.bytes() as usize
}

/// Asks a leader's thread, which asks the others' threads and answers when a quorum has everything, again and again.
pub(super) fn run(case: &Case, window: &mut Window) -> io::Result<()> {
    let bind = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok::<_, io::Error>(socket)
    };
    let (client, leader) = (bind()?, bind()?);
    let followers = (1..case.members).map(|_| bind()).collect::<io::Result<Vec<_>>>()?;
    let addresses = followers.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
    let (to_leader, to_client) = (leader.local_addr()?, client.local_addr()?);
    let request_bytes = request_bytes(case);
    let mut threads = vec![thread::spawn(move || lead(&leader, to_client, &addresses))];
    threads.extend(followers.into_iter().map(|socket| thread::spawn(move || follow(&socket))));
    let asked = ask(&client, to_leader, request_bytes, window);
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    asked
}

fn ask(
    client: &UdpSocket,
    leader: SocketAddr,
    request_bytes: usize,
    window: &mut Window,
) -> io::Result<()> {
    let mut request = vec![0; request_bytes];
    let mut answer = [0; HEADER_BYTES];
    for number in 1.. {
        let began = Instant::now();
        if began >= window.closes {
            break;
        }
        request[..8].copy_from_slice(&u64::to_le_bytes(number));
        client.send_to(&request, leader)?;
        client.recv(&mut answer)?;
        window.record(began, Instant::now());
    }
    request[..8].copy_from_slice(&LAST.to_le_bytes());
    client.send_to(&request, leader).map(drop)
}

fn lead(socket: &UdpSocket, client: SocketAddr, followers: &[SocketAddr]) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    let needed = followers.len().div_ceil(2);
    let mut acknowledged = (0, 0);
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let number = number(&buffer);
        if from == client {
            acknowledged = (number, 0);
            // A prepared entry has a header of its own.
            for to in followers {
                socket.send_to(&buffer[..length + HEADER_BYTES], to)?;
            }
        } else if acknowledged.0 == number {
            acknowledged.1 += 1;
        }
        if number == LAST {
            return Ok(());
        }
        if acknowledged == (number, needed) && (from != client || needed == 0) {
            socket.send_to(&buffer[..HEADER_BYTES], client)?;
        }
    }
}

fn follow(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    loop {
        let (_, from) = socket.recv_from(&mut buffer)?;
        if number(&buffer) == LAST {
            return Ok(());
        }
        socket.send_to(&buffer[..HEADER_BYTES], from)?;
    }
}

fn number(datagram: &[u8]) -> u64 {
    let (number, _) = datagram.split_first_chunk().expect("a buffer is longer");
    u64::from_le_bytes(*number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::spec::Mode;
    use super::*;
    use crate::units::ByteSize;

    #[test]
    fn every_question_is_answered_whatever_the_number_of_members() {
        for members in [1, 3, 5] {
            let (mode, value) = (Mode::Volatile, ByteSize(64));
            let case = Case { mode, members, clients: 1, value };
            let mut window = Window::after(Duration::ZERO, Duration::from_millis(30));
            run(&case, &mut window).unwrap();
            assert!(window.load().operations > 0);
        }
    }
}
