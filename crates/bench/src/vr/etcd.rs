//! etcd as a peer: a group of it on this machine, and clients that put over gRPC.

use super::content::Content;
use super::processes::{Processes, free_tcp, metric, system};
use super::window::Window;
use crate::comparison::ComparisonError;
use crate::load::{Arrival, Schedule};
use crate::peers::etcd::{LEADS_METRIC, Member, command};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

/// Connections that clients share, at most.
const CONNECTIONS_MAX: usize = 16;
const PUT: &str = "/etcdserverpb.KV/Put";
/// The tags of the request's fields (`etcdserverpb.PutRequest`): both hold bytes.
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;
/// gRPC's status of a call that went well.
const OK: &str = "0";

/// A group of etcd that runs until it is dropped.
pub(super) struct Etcd {
    processes: Processes,
    members: Vec<Member>,
}

impl Etcd {
    /// Starts a group whose data lie in `directory`, which is empty.
    pub(super) fn start(directory: &Path, members: usize) -> Result<Self, ComparisonError> {
        let free = free_tcp(2 * members).map_err(system("find free ports".to_owned()))?;
        let pairs = free.chunks_exact(2);
        let all: Vec<Member> =
            pairs.map(|pair| Member { clients: pair[0], peers: pair[1] }).collect();
        let mut processes = Processes::new(directory, members);
        for place in 0..members {
            let data = directory.join(format!("data-{place}"));
            processes.start(place, command(&all, place, &data)?)?;
        }
        Ok(Self { processes, members: all })
    }

    /// Waits until a member leads: where its clients connect, and the processes' numbers, the leader's first.
    pub(super) fn leader(&mut self) -> Result<(SocketAddr, Vec<u32>), ComparisonError> {
        let members = &self.members;
        let leads = |member: &Member| metric(member.clients, LEADS_METRIC).unwrap_or(0.0) > 0.0;
        let leader = || members.iter().position(leads);
        let leader = self.processes.wait_for("wait for etcd's leader", leader)?;
        let mut numbers = self.processes.numbers();
        numbers.swap(0, leader);
        Ok((self.members[leader].clients, numbers))
    }
}

/// A put, framed for gRPC.
pub(super) fn put(key: Bytes, value: Bytes) -> Bytes {
    let mut message = BytesMut::new();
    for (tag, bytes) in [(KEY_TAG, key), (VALUE_TAG, value)] {
        message.put_u8(tag);
        put_length(&mut message, bytes.len());
        message.put(bytes);
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    // Not compressed.
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// A length as protobuf writes it.
fn put_length(message: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        message.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    message.put_u8(length as u8);
}

/// Loads a member through the window with so many clients.
pub(super) fn load(
    address: SocketAddr,
    clients: usize,
    value_bytes: usize,
    arrival: &Arrival,
    window: &mut Window,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let work = drive(address, clients, value_bytes, *arrival, window);
    local.block_on(&runtime, work)
}

/// What all clients share.
struct Shared {
    content: RefCell<Content>,
    window: RefCell<Window>,
    /// When the operations of an open loop are due, counted from the start.
    schedule: Option<RefCell<Schedule>>,
    started: Instant,
    closes: Instant,
}

async fn drive(
    address: SocketAddr,
    clients: usize,
    value_bytes: usize,
    arrival: Arrival,
    window: &mut Window,
) -> io::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..clients.min(CONNECTIONS_MAX) {
        connections.push(connect(address).await?);
    }
    let started = Instant::now();
    let schedule = match arrival {
        Arrival::Closed => None,
        Arrival::Open { rate_per_second } => {
            Some(RefCell::new(Schedule::new(rate_per_second, 0, 1)))
        }
    };
    let shared = Rc::new(Shared {
        content: RefCell::new(Content::new(value_bytes, put)),
        window: RefCell::new(Window::like(window)),
        schedule,
        started,
        closes: window.closes,
    });
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let connection = connections[client % connections.len()].clone();
        tasks.spawn_local(client_loop(connection, Rc::clone(&shared)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)?;
    }
    let mut counted = shared.window.borrow_mut();
    if let Some(schedule) = &shared.schedule {
        let length = shared.closes - shared.started;
        counted.unsent += schedule.borrow().remaining_before(length);
    }
    window.merge(&counted);
    Ok(())
}

/// Puts one value after the other until the window closes.
async fn client_loop(connection: SendRequest<Bytes>, shared: Rc<Shared>) {
    loop {
        let now = Instant::now();
        let due = match &shared.schedule {
            None => now,
            Some(schedule) => shared.started + schedule.borrow_mut().next_due(),
        };
        if due.max(now) >= shared.closes {
            let is_overdue = due < shared.closes && shared.schedule.is_some();
            shared.window.borrow_mut().unsent += u64::from(is_overdue);
            return;
        }
        if due > now {
            tokio::time::sleep_until(due.into()).await;
        }
        let operation = shared.content.borrow_mut().draw();
        let done = call(connection.clone(), operation).await;
        let mut window = shared.window.borrow_mut();
        match done {
            Ok(()) => window.record(due, Instant::now()),
            Err(_) => window.failures += 1,
        }
        if done.is_err() {
            return;
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    // Ends with the last of those who use it; what goes wrong, they hear.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(requests)
}

/// One call, to its status.
async fn call(requests: SendRequest<Bytes>, operation: Bytes) -> io::Result<()> {
    let failed = io::Error::other::<h2::Error>;
    let mut requests = requests.ready().await.map_err(failed)?;
    let head = Request::post(format!("http://etcd{PUT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("the parts are constants");
    let (answer, mut body) = requests.send_request(head, false).map_err(failed)?;
    body.send_data(operation, true).map_err(failed)?;
    let (head, mut body) = answer.await.map_err(failed)?.into_parts();
    while let Some(data) = body.data().await {
        let length = data.map_err(failed)?.len();
        body.flow_control().release_capacity(length).map_err(failed)?;
    }
    let trailers = body.trailers().await.map_err(failed)?.unwrap_or_default();
    let status =
        |headers: &HeaderMap| Some(headers.get("grpc-status")?.as_bytes() == OK.as_bytes());
    // An answer that is only an error has its status in the head.
    match status(&trailers).or_else(|| status(&head.headers)) {
        Some(true) => Ok(()),
        _ => Err(io::Error::other("etcd refused to put a value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_framed_as_grpc_and_protobuf_say() {
        let frame = put(Bytes::from_static(b"k"), Bytes::from(vec![b'v'; 200]));
        // Not compressed, 206 bytes: key of 1, value of 200 = 0xc8 0x01.
        assert_eq!(frame[..11], [0, 0, 0, 0, 206, 0x0a, 1, b'k', 0x12, 0xc8, 1]);
        assert_eq!(frame.len(), 5 + 206);
    }
}
