//! Connections that arrive on a channel: the shell of the protocol's importer.

use super::{HandOff, channel::Channel};
use crate::serve::{Arrival as Adopted, ClientStream, ConnectionInfo, Flow, Permit, SealedStream};
use ashlar_fastpath::steering::FlowKey;
use ashlar_handoff::{
    image::ConnectionImage,
    protocol::{Importer, ImporterOutput, Message, MoveId, Outcome, Refusal},
};
use ashlar_net::repair::{self, Imported, RepairError};
use socket2::SockRef;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// When nothing has a deadline.
const IDLE: Duration = Duration::from_secs(3600);
/// Moves that a channel's peer may have under way or just ended.
const ARRIVALS_MAX: usize = 1 << 16;

/// The moves of one channel that bring connections here.
pub(super) struct Arrivals {
    hand_off: Arc<HandOff>,
    channel: Arc<Channel>,
    moves: HashMap<MoveId, Arrival>,
    /// When to look at which move. Entries may be out of date.
    deadlines: BinaryHeap<Reverse<(u64, MoveId)>>,
}

/// One connection that arrives.
struct Arrival {
    importer: Importer,
    socket: Socket,
    /// What is known of the connection, until it is served.
    image: Option<Box<ConnectionImage>>,
    /// The right to serve it.
    permit: Option<Permit>,
}

/// The connection's socket here.
enum Socket {
    None,
    /// In repair mode, mute.
    Mute(Imported),
    Alive(OwnedFd),
}

impl Arrivals {
    pub(super) fn new(hand_off: Arc<HandOff>, channel: Arc<Channel>) -> Self {
        Self { hand_off, channel, moves: HashMap::new(), deadlines: BinaryHeap::new() }
    }

    /// Takes a message of the exporter.
    pub(super) fn handle(&mut self, id: MoveId, message: Message) {
        let now_ms = self.hand_off.now_ms();
        if let Message::Offer { image } = message {
            if self.moves.len() >= ARRIVALS_MAX || self.moves.contains_key(&id) {
                self.channel.send(id, &Message::Refused { reason: Refusal::Full });
                return;
            }
            let importer = Importer::new(now_ms, image, self.hand_off.timeouts);
            let (socket, image, permit) = (Socket::None, None, None);
            self.moves.insert(id, Arrival { importer, socket, image, permit });
        } else if let Some(arrival) = self.moves.get_mut(&id) {
            arrival.importer.handle_message(now_ms, &message);
        } else if matches!(message, Message::Go { .. }) {
            self.channel.send(id, &Message::Refused { reason: Refusal::Expired });
        }
        self.drive(id);
    }

    /// When [`Arrivals::handle_timeouts`] must be called.
    pub(super) fn deadline(&self) -> Instant {
        match self.deadlines.peek() {
            Some(Reverse((at_ms, _))) => self.hand_off.instant(*at_ms),
            None => Instant::now() + IDLE,
        }
    }

    pub(super) fn handle_timeouts(&mut self) {
        let now_ms = self.hand_off.now_ms();
        while let Some(Reverse((at_ms, id))) = self.deadlines.peek().copied()
            && at_ms <= now_ms
        {
            self.deadlines.pop();
            if let Some(arrival) = self.moves.get_mut(&id) {
                arrival.importer.handle_timeout(now_ms);
                self.drive(id);
            }
        }
    }

    /// Tells all moves that the exporter cannot be heard any more.
    pub(super) fn channel_lost(&mut self) {
        let now_ms = self.hand_off.now_ms();
        for arrival in self.moves.values_mut() {
            arrival.importer.handle_channel_lost(now_ms);
            while let Some(output) = arrival.importer.poll_output() {
                arrival.perform(output, &self.hand_off, &self.channel, None);
            }
        }
    }

    fn drive(&mut self, id: MoveId) {
        let Some(arrival) = self.moves.get_mut(&id) else { return };
        while let Some(output) = arrival.importer.poll_output() {
            arrival.perform(output, &self.hand_off, &self.channel, Some(id));
        }
        match arrival.importer.poll_timeout() {
            Some(at_ms) => self.deadlines.push(Reverse((at_ms, id))),
            None => {
                self.moves.remove(&id);
            }
        }
    }
}

impl Arrival {
    fn perform(
        &mut self,
        output: ImporterOutput,
        hand_off: &HandOff,
        channel: &Channel,
        id: Option<MoveId>,
    ) {
        match output {
            ImporterOutput::Import(bytes) => {
                let started = Instant::now();
                let result = self.import(&bytes, hand_off);
                hand_off.stages.import.observe(started.elapsed());
                self.importer.handle_imported(hand_off.now_ms(), result);
            }
            ImporterOutput::Send(message) => {
                if let Some(id) = id {
                    channel.send(id, &message);
                }
            }
            ImporterOutput::LeaveRepair => {
                let alive = self.leave_repair();
                self.importer.handle_left_repair(hand_off.now_ms(), alive);
            }
            ImporterOutput::Serve { epoch } => self.serve(epoch, hand_off, channel.thread),
            ImporterOutput::CloseSilently | ImporterOutput::Reset => {
                if let Socket::Alive(socket) = &self.socket {
                    // Closed so, the client hears of it at once; without it, it would in its time.
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
                self.socket = Socket::None;
                (self.image, self.permit) = (None, None);
            }
            ImporterOutput::Report(outcome) => match outcome {
                Outcome::Moved { .. } => {}
                Outcome::Kept { cause, .. } | Outcome::Ended { cause } => {
                    hand_off.stages.not_arrived();
                    tracing::debug!(from = channel.name, %cause, "a connection does not arrive");
                }
            },
        }
    }

    /// Makes the socket.
    fn import(&mut self, bytes: &[u8], hand_off: &HandOff) -> Result<(), Refusal> {
        let image = ConnectionImage::decode(bytes).map_err(|error| {
            tracing::warn!(%error, "an image of a connection is refused");
            Refusal::InvalidImage
        })?;
        let adopter = hand_off.adopter.get().ok_or(Refusal::Unsupported)?;
        self.permit = Some(adopter.room()?);
        let flow = FlowKey::new(image.tcp.peer, image.tcp.local);
        hand_off.welcome_back(&flow, image.epoch);
        let imported = repair::import(&image.tcp, image.peer_finished).map_err(|error| {
            tracing::debug!(%flow, %error, "a connection cannot be imported");
            if is_in_use(&error) { Refusal::FlowInUse } else { Refusal::Kernel }
        })?;
        self.socket = Socket::Mute(imported);
        self.image = Some(Box::new(image));
        Ok(())
    }

    fn leave_repair(&mut self) -> bool {
        let Socket::Mute(imported) = std::mem::replace(&mut self.socket, Socket::None) else {
            return false;
        };
        match imported.go() {
            Ok(socket) => {
                self.socket = Socket::Alive(socket);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "an imported connection cannot be brought to life");
                false
            }
        }
    }

    fn serve(&mut self, epoch: u64, hand_off: &HandOff, thread: usize) {
        let Socket::Alive(socket) = std::mem::replace(&mut self.socket, Socket::None) else {
            unreachable!("the machine has brought the socket to life");
        };
        let image = *self.image.take().expect("there is an image with the socket");
        let permit = self.permit.take().expect("there is a permit with the socket");
        let adopter = hand_off.adopter.get().expect("there was one before");
        match arrival(socket, image, epoch, hand_off, thread) {
            Ok(arrival) => adopter.adopt(arrival, permit),
            Err(error) => tracing::warn!(%error, "an imported connection cannot be served"),
        }
    }
}

/// A connection as the server takes it.
fn arrival(
    socket: OwnedFd,
    image: ConnectionImage,
    epoch: u64,
    hand_off: &HandOff,
    thread: usize,
) -> io::Result<Adopted> {
    let ConnectionImage {
        tcp, mut received, mut opened, peer_finished, tls, client, steering, ..
    } = image;
    let stream = TcpStream::from_std(socket.into())?;
    let origin = hand_off
        .origin_number(&client.front_end, steering)
        .ok_or_else(|| io::Error::other("connections of too many front ends"))?;
    let flow = Flow { epoch, origin, moves: client.moves, service: tcp.local };
    let connection = ConnectionInfo {
        peer: tcp.peer,
        secure: tls.is_some(),
        thread,
        received: Instant::now(),
        can_move: true,
        flow,
    };
    let received = std::mem::take(&mut *received);
    Ok(match tls {
        Some(tls) => {
            let opened = std::mem::take(&mut *opened);
            // The end of the stream comes behind the records that were received.
            let stream =
                SealedStream::new(stream, tls, opened, received).finished_if(peer_finished);
            let stream = ClientStream::Sealed(Box::new(stream));
            Adopted { stream, received: Vec::new(), finished: false, connection }
        }
        None => {
            let stream = ClientStream::Plain(stream);
            Adopted { stream, received, finished: peer_finished, connection }
        }
    })
}

/// Whether a socket of the same connection is here already.
fn is_in_use(error: &RepairError) -> bool {
    let RepairError::Kernel { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}
