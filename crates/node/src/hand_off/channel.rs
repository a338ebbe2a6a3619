//! A channel between two nodes: frames in both directions, for all moves of an event loop.
//!
//! A frame is its length in four bytes, little-endian, and its content: first a greeting from each
//! side, then messages of moves. An empty one from a front end says that it is about to end, the answer
//! that its connections have. Whatever the peer sends that is none ends the channel, and every
//! move on it is told.

use super::{HandOff, arrive::Arrivals, hello::Hello, lock};
use ashlar_fastpath::steering::Owner;
use ashlar_handoff::{
    SecretBytes,
    protocol::{MESSAGE_BYTES_MAX, Message, MoveId},
};
use ashlar_object::NodeIndex;
use bytes::{Buf, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};
use zeroize::Zeroize;

/// How long a peer may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the greeting may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Before a lost channel is opened again; doubles up to [`RECONNECT_PAUSE_MAX`].
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A channel on which nothing comes for so long is probed, so often.
const PEER_SILENCE: Duration = Duration::from_secs(3);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A channel is lost when nothing that was sent is acknowledged for so long. A storage node that cannot
/// be reached for as long again is taken for dead.
const PEER_TIMEOUT: Duration = Duration::from_secs(8);
/// A channel on which more waits to be sent takes no further connections.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The longest greeting.
const HELLO_BYTES_MAX: usize = 4096;
const LENGTH_BYTES: usize = 4;
/// Room for what arrives.
const RECEIVE_BYTES: usize = 64 * 1024;

/// One end of a channel.
pub(super) struct Channel {
    /// Whom it leads to.
    pub(super) name: String,
    /// The same, if that is a storage node.
    pub(super) node: Option<NodeIndex>,
    /// Where the peer's steering takes control datagrams, if that is a front end.
    origin: Option<SocketAddr>,
    /// The event loop that it lives on.
    pub(super) thread: usize,
    /// The peer's host, as steering names it.
    pub(super) owner: Owner,
    /// Contents of frames to send.
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Moves that this node offers, by number.
    departures: Mutex<HashMap<MoveId, mpsc::UnboundedSender<News>>>,
    next_move: AtomicU64,
    lost: AtomicBool,
    /// The peer has no connections of this front end any more; or it cannot say so.
    drained: watch::Sender<bool>,
    /// The peer is a front end and about to end.
    heard_drain: AtomicBool,
}

/// What is to be sent: images hold keys, so nothing of it is copied but into what is overwritten.
#[derive(Default)]
struct Waiting {
    contents: Vec<SecretBytes>,
    bytes: usize,
}

impl Waiting {
    /// All frames, in one allocation of just their size.
    fn take(&mut self) -> SecretBytes {
        let Self { contents, bytes } = std::mem::take(self);
        let mut frames = SecretBytes::with_capacity(bytes);
        for content in contents {
            frames.extend_from_slice(&(content.len() as u32).to_le_bytes());
            frames.extend_from_slice(&content);
        }
        assert_eq!(frames.len(), bytes);
        frames
    }
}

/// A place among a channel's moves, as long as it lives.
pub(super) struct Departing {
    pub(super) channel: Arc<Channel>,
    pub(super) id: MoveId,
    pub(super) inbox: mpsc::UnboundedReceiver<News>,
    /// Puts news into the inbox.
    pub(super) sender: mpsc::UnboundedSender<News>,
}

/// What a departing connection may hear of.
pub(super) enum News {
    /// The peer said this.
    Message(Message),
    /// The channel is lost.
    ChannelLost,
    /// The connection is about to be imported here again.
    FlowReturned,
}

impl Channel {
    /// Begins a move; none if the channel is lost or overfull.
    pub(super) fn depart(self: &Arc<Self>) -> Option<Departing> {
        let (sender, inbox) = mpsc::unbounded_channel();
        let id = MoveId(self.next_move.fetch_add(1, Relaxed));
        lock(&self.departures).insert(id, sender.clone());
        let departing = Departing { channel: Arc::clone(self), id, inbox, sender };
        let room = lock(&self.waiting).bytes < WAITING_BYTES_MAX;
        // Looked at after the insertion: whoever ends the channel clears what was inserted before.
        (room && !self.lost.load(Relaxed)).then_some(departing)
    }

    /// Sends a message of a move.
    pub(super) fn send(&self, id: MoveId, message: &Message) {
        self.send_frame(message.encode(id));
    }

    fn send_frame(&self, content: SecretBytes) {
        let mut waiting = lock(&self.waiting);
        if self.lost.load(Relaxed) {
            return;
        }
        waiting.bytes += LENGTH_BYTES + content.len();
        waiting.contents.push(content);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Tells a storage node that this front end is about to end, or a front end that none of its
    /// connections is here any more.
    pub(super) fn say_drain(&self) {
        self.send_frame(SecretBytes::default());
    }

    /// Waits until the peer has no connections of this front end any more, or is lost.
    pub(super) async fn drained(&self) {
        let mut drained = self.drained.subscribe();
        // The sender lives as long as `self`.
        let _ = drained.wait_for(|drained| *drained).await;
    }

    /// The peer has said what [`Channel::say_drain`] says.
    fn hear_drain(self: &Arc<Self>, hand_off: &HandOff) {
        let Some(origin) = &self.origin else {
            self.drained.send_replace(true);
            return;
        };
        let Some(number) = hand_off.origins.number(&self.name, *origin) else { return };
        let (origin, channel) = (hand_off.origins.get(number), Arc::clone(self));
        if self.heard_drain.swap(true, Relaxed) {
            return;
        }
        tokio::spawn(async move {
            tokio::select! {
                () = origin.drain() => channel.say_drain(),
                () = channel.drained() => {}
            }
        });
    }

    /// Gives a message to the move that it is about.
    fn deliver(&self, id: MoveId, message: Message) {
        if let Some(departure) = lock(&self.departures).get(&id) {
            // Whoever is not there any more knows how the move ended.
            let _ = departure.send(News::Message(message));
        }
    }

    fn lose(&self) {
        self.lost.store(true, Relaxed);
        *lock(&self.waiting) = Waiting::default();
        self.drained.send_replace(true);
        for (_, departure) in lock(&self.departures).drain() {
            let _ = departure.send(News::ChannelLost);
        }
        self.wake.notify_one();
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        lock(&self.channel.departures).remove(&self.id);
    }
}

/// Keeps a channel from event loop `thread` to a storage node, for ever.
pub(crate) async fn maintain(hand_off: Arc<HandOff>, node: NodeIndex, thread: usize) {
    let mut pause = RECONNECT_PAUSE;
    let mut last_open = Instant::now();
    loop {
        let started = Instant::now();
        let opened = open(&hand_off, node, thread, &mut last_open).await;
        if last_open.elapsed() > PEER_TIMEOUT {
            hand_off.owner_is_gone(node);
            last_open = Instant::now();
        }
        match opened {
            Ok(()) => {}
            Err(problem) => {
                let name = &hand_off.cluster.nodes[usize::from(node.0)].name;
                tracing::debug!(node = name, problem, "no channel for hand-offs");
            }
        }
        if started.elapsed() > RECONNECT_PAUSE_MAX {
            pause = RECONNECT_PAUSE;
        }
        sleep(pause).await;
        pause = (2 * pause).min(RECONNECT_PAUSE_MAX);
    }
}

/// Opens a channel and runs it to its end, which it notes if the channel was open.
async fn open(
    hand_off: &Arc<HandOff>,
    node: NodeIndex,
    thread: usize,
    last_open: &mut Instant,
) -> Result<(), String> {
    let peer = &hand_off.cluster.nodes[usize::from(node.0)];
    let address = peer.handoff.ok_or("the node takes no connections")?;
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // Nobody listens: the process has ended, and its connections with it.
            if error.kind() == io::ErrorKind::ConnectionRefused {
                hand_off.owner_is_gone(node);
            }
            return Err(error.to_string());
        }
        Err(_) => return Err("connecting takes too long".into()),
    };
    tune(&stream).map_err(|error| error.to_string())?;
    let stream = hand_off.identity.connect(stream, &peer.name).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let end = run(hand_off, stream, peer.name.clone(), thread).await;
    *last_open = Instant::now();
    end
}

/// Sends at once, and notices a peer that has vanished without a word.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PEER_SILENCE).with_interval(PROBE_INTERVAL);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))
}

/// Serves a channel that a peer opens.
pub(crate) async fn accept(hand_off: Arc<HandOff>, stream: TcpStream, thread: usize) {
    let from: Option<IpAddr> = stream.peer_addr().ok().map(|address| address.ip());
    let accepted = async {
        tune(&stream).map_err(|error| error.to_string())?;
        let accepted = hand_off.identity.accept(stream).await;
        let (stream, name) = accepted.map_err(|error| error.to_string())?;
        run(&hand_off, stream, name, thread).await
    };
    if let Err(problem) = accepted.await {
        tracing::debug!(?from, problem, "a channel for hand-offs ended");
    }
}

/// Greets, and runs the channel to its end.
async fn run<S>(
    hand_off: &Arc<HandOff>,
    stream: S,
    name: String,
    thread: usize,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = split(stream);
    let mut received = BytesMut::new();
    let greeting = async {
        let service = hand_off.service.clone();
        let hello = Hello::new(&hand_off.cluster.id, hand_off.owner, hand_off.incarnation, service);
        let hello = hello.encode();
        writer.write_all(&(hello.len() as u32).to_le_bytes()).await?;
        writer.write_all(&hello).await?;
        writer.flush().await?;
        read_frame(&mut reader, &mut received, HELLO_BYTES_MAX).await
    };
    let hello = timeout(HELLO_TIMEOUT, greeting).await.map_err(|_| "no greeting came")?;
    let hello = hello.map_err(|error| error.to_string())?;
    let hello = Hello::decode(&hello, &hand_off.cluster.id)?;
    let node = hand_off.cluster.map.node_named(&name);
    if let Some(service) = &hello.service
        && node.is_none()
    {
        hand_off.prepare(&name, service, hello.incarnation)?;
    }
    if let Some(node) = node {
        hand_off.owner_greets(node, hello.incarnation);
    }
    let origin = hello.service.as_ref().filter(|_| node.is_none()).map(|service| service.steering);
    let channel = Arc::new(Channel {
        name,
        node,
        origin,
        thread,
        owner: hello.owner(),
        waiting: Mutex::default(),
        wake: Notify::new(),
        departures: Mutex::default(),
        next_move: AtomicU64::new(1),
        lost: AtomicBool::new(false),
        drained: watch::Sender::new(false),
        heard_drain: AtomicBool::new(false),
    });
    tracing::debug!(peer = channel.name, thread, "a channel for hand-offs is open");
    lock(&hand_off.peers).insert(Arc::clone(&channel));
    if hand_off.drains.load(Relaxed) {
        channel.say_drain();
    }
    let writing = tokio::spawn(write(Arc::clone(&channel), writer));
    let mut arrivals = Arrivals::new(Arc::clone(hand_off), Arc::clone(&channel));
    let end = read(&channel, &mut reader, &mut received, &mut arrivals).await;
    // It may hold a part of an image.
    received.as_mut().zeroize();
    hand_off.channel_lost(&channel);
    channel.lose();
    writing.abort();
    // What has been offered may be had all the same.
    tokio::spawn(arrivals.outlive());
    end.map_err(|error| error.to_string())
}

/// Sends frames until the channel is lost.
async fn write<S: AsyncWrite>(channel: Arc<Channel>, mut writer: WriteHalf<S>) {
    while !channel.lost.load(Relaxed) {
        // Overwritten when it is dropped, also if this is aborted.
        let frames = lock(&channel.waiting).take();
        if frames.is_empty() {
            channel.wake.notified().await;
            continue;
        }
        let sent = async {
            writer.write_all(&frames).await?;
            writer.flush().await
        };
        if sent.await.is_err() {
            // The reader notices as well.
            return;
        }
    }
}

/// Receives frames until the channel ends.
async fn read<S: AsyncRead>(
    channel: &Arc<Channel>,
    reader: &mut ReadHalf<S>,
    received: &mut BytesMut,
    arrivals: &mut Arrivals,
) -> io::Result<()> {
    loop {
        while let Some(mut content) = take_frame(received, MESSAGE_BYTES_MAX)? {
            if content.is_empty() {
                channel.hear_drain(&arrivals.hand_off);
                continue;
            }
            let decoded = Message::decode(&content);
            content.as_mut().zeroize();
            let (id, message) = decoded.map_err(io::Error::other)?;
            match message {
                Message::Offer { .. } | Message::Cut | Message::Late { .. } => {
                    arrivals.handle(id, message);
                }
                Message::Refused { .. } | Message::Taken => channel.deliver(id, message),
            }
        }
        make_room(received);
        tokio::select! {
            bytes = reader.read_buf(received) => if bytes? == 0 { return Ok(()) },
            () = arrivals.go_on() => {}
        }
    }
}

/// Makes room for what comes next, without leaving a copy of what has come.
fn make_room(received: &mut BytesMut) {
    if received.capacity() - received.len() >= RECEIVE_BYTES / 2 {
        return;
    }
    let mut larger = BytesMut::with_capacity(2 * received.len() + RECEIVE_BYTES);
    larger.extend_from_slice(received);
    received.as_mut().zeroize();
    *received = larger;
}

/// The first frame, if it is whole.
fn take_frame(received: &mut BytesMut, bytes_max: usize) -> io::Result<Option<BytesMut>> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > bytes_max {
        return Err(io::Error::other(format!("a frame of {length} bytes is too long")));
    }
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    Ok(Some(received.split_to(length)))
}

async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    bytes_max: usize,
) -> io::Result<BytesMut> {
    loop {
        if let Some(content) = take_frame(received, bytes_max)? {
            return Ok(content);
        }
        if reader.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
