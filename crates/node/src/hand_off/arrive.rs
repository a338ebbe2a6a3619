//! Connections that arrive on a channel: the shell of the protocol's importer.

use super::{
    HERE, HandOff, OriginGuard,
    channel::Channel,
    control::{Answer, Owners},
    stages::Stage,
};
use crate::{
    serve::{
        Afterword, Arrival as Adopted, ClientStream, ConnectionInfo, Flow, Late, Permit,
        SealedStream,
    },
    threads::Shutdown,
    timer::LazyTimer,
};
use ashlar_fastpath::steering::{FlowKey, Operation, Reply};
use ashlar_handoff::{
    image::ConnectionImage,
    protocol::{Importer, ImporterOutput, Message, MoveId, Outcome, Refusal},
};
use ashlar_net::repair::{self, Imported, RepairError};
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::SockRef;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// Moves that a channel's peer may have under way or just ended.
const ARRIVALS_MAX: usize = 1 << 16;

/// The moves of one channel that bring connections here.
pub(super) struct Arrivals {
    pub(super) hand_off: Arc<HandOff>,
    channel: Arc<Channel>,
    moves: HashMap<MoveId, Arrival>,
    /// When to look at which move. Entries may be out of date.
    deadlines: BinaryHeap<Reverse<(u64, MoveId)>>,
    timer: LazyTimer,
    /// What steering was asked for.
    claims: FuturesUnordered<Claim>,
}

/// A question to steering, and its answer to come.
type Claim = Pin<Box<dyn Future<Output = (MoveId, u64, Option<Reply>)> + Send>>;

/// One connection that arrives.
struct Arrival {
    importer: Importer,
    socket: Socket,
    /// What is known of the connection, until it is served.
    image: Option<Box<ConnectionImage>>,
    /// The right to serve it.
    admission: Option<Admission>,
    /// Steering is asked; the client repeats itself.
    is_claimed: bool,
    /// When the present stage began.
    step: Instant,
    /// Tells whoever serves the connection what the exporter still has to say.
    afterword: Option<Arc<Afterword>>,
    /// Where in the client's stream the image ends.
    receive_sequence: u32,
}

/// The right to serve a connection.
struct Admission {
    permit: Permit,
    /// The front end that it came from.
    origin: u16,
    shutdown: Shutdown,
    guard: OriginGuard,
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
        Self {
            hand_off,
            channel,
            moves: HashMap::new(),
            deadlines: BinaryHeap::new(),
            timer: LazyTimer::default(),
            claims: FuturesUnordered::new(),
        }
    }

    /// Takes a message of the exporter.
    pub(super) fn handle(&mut self, id: MoveId, message: Message) {
        let now_ms = self.hand_off.now_ms();
        if let Message::Offer { image } = message {
            if self.moves.contains_key(&id) {
                // Refusing it would be taken for an answer to the one that is under way.
                tracing::warn!(from = self.channel.name, "a connection is offered twice");
                return;
            }
            if self.moves.len() >= ARRIVALS_MAX {
                self.channel.send(id, &Message::Refused { reason: Refusal::Full, claimed: false });
                return;
            }
            let importer = Importer::new(now_ms, image, self.hand_off.timeouts);
            self.moves.insert(id, Arrival::new(importer));
        } else if let Some(arrival) = self.moves.get_mut(&id) {
            arrival.importer.handle_message(now_ms, &message);
        }
        self.drive(id);
    }

    /// Goes on with whatever steering answers or time brings next. Can be dropped and called again.
    pub(super) async fn go_on(&mut self) {
        enum Next {
            Answer((MoveId, u64, Option<Reply>)),
            Deadline,
        }
        let at_ms = self.deadlines.peek().map(|Reverse((at_ms, _))| *at_ms);
        self.timer.set(at_ms.map(|at_ms| self.hand_off.instant(at_ms)));
        let next = poll_fn(|context| {
            if let Poll::Ready(Some(answer)) = self.claims.poll_next_unpin(context) {
                return Poll::Ready(Next::Answer(answer));
            }
            self.timer.poll(context).map(|()| Next::Deadline)
        });
        match next.await {
            Next::Answer((id, answers_epoch, reply)) => {
                if let Some(arrival) = self.moves.get_mut(&id) {
                    arrival.steered(answers_epoch, reply, &self.hand_off, &self.channel);
                    self.drive(id);
                }
            }
            Next::Deadline => self.handle_timeouts(),
        }
    }

    /// Ends what was begun on a channel that is lost.
    pub(super) async fn outlive(mut self) {
        while !self.moves.is_empty() {
            self.go_on().await;
        }
    }

    fn handle_timeouts(&mut self) {
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

    fn drive(&mut self, id: MoveId) {
        let Some(arrival) = self.moves.get_mut(&id) else { return };
        while let Some(output) = arrival.importer.poll_output() {
            match output {
                ImporterOutput::Send(message) => self.channel.send(id, &message),
                ImporterOutput::Claim { epoch } => {
                    let claim = arrival.claim(epoch, &self.hand_off, &self.channel);
                    self.claims.extend(claim.map(|answer| -> Claim {
                        Box::pin(async move { (id, epoch, answer.await) })
                    }));
                }
                output => arrival.perform(output, &self.hand_off, &self.channel),
            }
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
    fn new(importer: Importer) -> Self {
        Self {
            importer,
            socket: Socket::None,
            image: None,
            admission: None,
            is_claimed: false,
            step: Instant::now(),
            afterword: None,
            receive_sequence: 0,
        }
    }

    fn perform(&mut self, output: ImporterOutput, hand_off: &Arc<HandOff>, channel: &Channel) {
        match output {
            ImporterOutput::Import(bytes) => {
                let result = self.import(&bytes, hand_off);
                self.stage(&hand_off.stages.import);
                self.importer.handle_imported(hand_off.now_ms(), result);
            }
            ImporterOutput::Send(_) | ImporterOutput::Claim { .. } => {
                unreachable!("these are performed where the move's number is known")
            }
            ImporterOutput::LeaveRepair => {
                // Without an answer the machine gives the connection up at its deadline.
                if let Some(alive) = self.leave_repair() {
                    self.stage(&hand_off.stages.leave_repair);
                    self.importer.handle_left_repair(hand_off.now_ms(), alive);
                }
            }
            ImporterOutput::Serve { epoch } => self.serve(epoch, hand_off, channel.thread),
            ImporterOutput::Receive(bytes) => {
                let late = Late { sequence: self.receive_sequence, bytes };
                self.afterword.as_ref().expect("it is served").receive(late);
                hand_off.stages.late();
            }
            ImporterOutput::CloseSilently | ImporterOutput::Reset => {
                if let Some(afterword) = self.afterword.take() {
                    afterword.cut();
                }
                if let (Some(image), Some(admission)) = (&self.image, &self.admission)
                    && output == ImporterOutput::Reset
                {
                    // The flow is ours, and nobody will serve it.
                    let flow = FlowKey::new(image.tcp.peer, image.tcp.local);
                    let (epoch, origin) = (image.epoch + 1, admission.origin);
                    hand_off.forget_later(flow, epoch, origin, channel.thread);
                }
                if let Socket::Alive(socket) = &self.socket {
                    // Closed so, the client hears of it at once; without it, it would in its time.
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
                self.socket = Socket::None;
                (self.image, self.admission) = (None, None);
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

    /// Asks steering for the flow: at once if it is here, else with an answer to come, if it is not asked
    /// already.
    fn claim(&mut self, epoch: u64, hand_off: &Arc<HandOff>, channel: &Channel) -> Option<Answer> {
        if std::mem::replace(&mut self.is_claimed, true) {
            return None;
        }
        let image = self.image.as_ref().expect("the socket was made from it");
        let flow = FlowKey::new(image.tcp.peer, image.tcp.local);
        let (owner, closing) = (hand_off.owner, image.peer_finished);
        let operation = Operation::Claim { flow, owner, epoch, closing };
        let (thread, control) = (channel.thread, &hand_off.control);
        let is_here = image.client.front_end == hand_off.identity.node_name();
        let asked_here = is_here.then(|| control.execute_here(thread, HERE, &operation)).flatten();
        match asked_here {
            Some(reply) => {
                self.steered(epoch, reply, hand_off, channel);
                None
            }
            None => Some(control.execute(thread, image.steering, operation)),
        }
    }

    /// Steering has answered, or not.
    fn steered(
        &mut self,
        answers_epoch: u64,
        reply: Option<Reply>,
        hand_off: &Arc<HandOff>,
        channel: &Channel,
    ) {
        self.is_claimed = false;
        let owners = Owners { exporter: channel.owner.id, importer: hand_off.owner.id };
        if let Some(steered) = owners.steered(answers_epoch, reply) {
            self.stage(&hand_off.stages.claim);
            self.importer.handle_steered(hand_off.now_ms(), steered);
        }
    }

    /// Ends a stage and begins the next.
    fn stage(&mut self, stage: &Stage) {
        let now = Instant::now();
        stage.observe(now - self.step);
        self.step = now;
    }

    /// Makes the socket. Gives the epoch of its flow.
    fn import(&mut self, bytes: &[u8], hand_off: &HandOff) -> Result<u64, Refusal> {
        let image = ConnectionImage::decode(bytes).map_err(|error| {
            tracing::warn!(%error, "an image of a connection is refused");
            Refusal::InvalidImage
        })?;
        let adopter = hand_off.adopter.get().ok_or(Refusal::Unsupported)?;
        let permit = adopter.room()?;
        let origin = hand_off.origins.number(&image.client.front_end, image.steering);
        let origin = origin.ok_or(Refusal::Full)?;
        let (shutdown, guard) = hand_off.origins.get(origin).admit().ok_or(Refusal::Draining)?;
        self.admission = Some(Admission { permit, origin, shutdown, guard });
        let flow = FlowKey::new(image.tcp.peer, image.tcp.local);
        self.receive_sequence = image.tcp.receive_sequence;
        let (is_welcome, afterword) =
            hand_off.welcome_back(&flow, image.epoch, image.tcp.receive_sequence);
        if !is_welcome {
            return Err(Refusal::FlowInUse);
        }
        self.afterword = afterword;
        let imported = repair::import(&image.tcp, image.peer_finished).map_err(|error| {
            tracing::debug!(%flow, %error, "a connection cannot be imported");
            if is_in_use(&error) { Refusal::FlowInUse } else { Refusal::Kernel }
        })?;
        self.socket = Socket::Mute(imported);
        let epoch = image.epoch;
        self.image = Some(Box::new(image));
        Ok(epoch)
    }

    /// Whether the socket lives now; none if nobody can say what it has sent.
    fn leave_repair(&mut self) -> Option<bool> {
        let Socket::Mute(imported) = std::mem::replace(&mut self.socket, Socket::None) else {
            return Some(false);
        };
        match imported.go() {
            Ok(socket) => {
                self.socket = Socket::Alive(socket);
                Some(true)
            }
            Err(error) => {
                tracing::warn!(%error, "an imported connection cannot be brought to life");
                None
            }
        }
    }

    fn serve(&mut self, epoch: u64, hand_off: &Arc<HandOff>, thread: usize) {
        let Socket::Alive(socket) = std::mem::replace(&mut self.socket, Socket::None) else {
            unreachable!("the machine has brought the socket to life");
        };
        let image = *self.image.take().expect("there is an image with the socket");
        let admission = self.admission.take().expect("there is a right to the socket");
        let adopter = hand_off.adopter.get().expect("there was one before");
        let afterword = Arc::clone(self.afterword.get_or_insert_default());
        match arrival(socket, image, epoch, admission, afterword, thread) {
            Ok(arrival) => adopter.adopt(arrival),
            Err(error) => tracing::warn!(%error, "an imported connection cannot be served"),
        }
    }
}

/// A connection as the server takes it.
fn arrival(
    socket: OwnedFd,
    image: ConnectionImage,
    epoch: u64,
    admission: Admission,
    afterword: Arc<Afterword>,
    thread: usize,
) -> io::Result<Adopted> {
    let Admission { permit, origin, shutdown, guard } = admission;
    let ConnectionImage { tcp, mut received, mut opened, peer_finished, tls, client, .. } = image;
    let stream = TcpStream::from_std(socket.into())?;
    let (moves, service) = (client.moves, tcp.local);
    let (number, is_known, is_fixed) = (client.connection, true, false);
    tracing::debug!(number, moves, peer = %tcp.peer, front_end = client.front_end, "a connection arrives");
    let flow = Flow { epoch, origin, number, moves, is_known, is_fixed, service };
    let connection = ConnectionInfo {
        peer: tcp.peer,
        secure: tls.is_some(),
        thread,
        received: Instant::now(),
        can_move: true,
        flow,
    };
    let received = std::mem::take(&mut *received);
    let (stream, received, finished) = match tls {
        Some(tls) => {
            let opened = std::mem::take(&mut *opened);
            // The end of the stream comes behind the records that were received.
            let stream =
                SealedStream::new(stream, tls, opened, received).finished_if(peer_finished);
            (ClientStream::Sealed(Box::new(stream)), Vec::new(), false)
        }
        None => (ClientStream::Plain(stream), received, peer_finished),
    };
    Ok(Adopted { stream, received, finished, connection, afterword, shutdown, permit, guard })
}

/// Whether a socket of the same connection is here already.
fn is_in_use(error: &RepairError) -> bool {
    let RepairError::Kernel { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}
