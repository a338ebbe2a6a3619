//! Connections that leave: the shell of the protocol's exporter.

use super::{
    HERE, HandOff, Lingering, Slot,
    channel::{Departing, News},
    control::{Answer, Owners},
    lock,
};
use crate::serve::{
    Afterword, ClientStream, ConnectionInfo, Departure, Flow, SealedStream, Target,
};
use ashlar_fastpath::steering::{FlowKey, Operation, Reply};
use ashlar_handoff::{
    SecretBytes,
    image::{ClientNotes, ConnectionImage},
    protocol::{Cause, Exporter, ExporterOutput, Message, Outcome, Received, Refusal},
    tls::TlsImage,
};
use ashlar_net::repair::{self, Frozen, Marks, unsent_bytes};
use std::{
    future::pending,
    io, net,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    time::{sleep, sleep_until},
};

/// Between two looks at whether all that was written has been sent.
const UNSENT_PAUSE: Duration = Duration::from_micros(500);

impl HandOff {
    /// Moves a connection to another node, or gives it back.
    pub(crate) async fn depart(
        self: &Arc<Self>,
        departure: Departure,
        connection: ConnectionInfo,
    ) -> Result<(), Departure> {
        let origin = self.origins.get(connection.flow.origin);
        let target = departure.target;
        let channel = lock(&self.peers).find(target, &origin.name, connection.thread);
        let Some(departing) = channel.and_then(|channel| channel.depart()) else {
            self.stages.kept("no_channel");
            return Err(departure);
        };
        let taken_apart = match Socketless::take_apart(departure) {
            Ok(taken_apart) => taken_apart,
            Err(error) => {
                tracing::debug!(%error, "a connection is lost on its departure");
                return Ok(());
            }
        };
        let (stream, rest) = taken_apart;
        let started = Instant::now();
        let is_home = connection.flow.origin == HERE;
        let exporter = Exporter::new(self.now_ms(), connection.flow.epoch, is_home, self.timeouts);
        let client = ClientNotes {
            front_end: origin.name.clone(),
            connection: connection.flow.number,
            moves: connection.flow.moves + 1,
        };
        let steering = origin.steering;
        let key = FlowKey::new(connection.peer, connection.flow.service);
        Move {
            hand_off: self,
            departing,
            exporter,
            socket: Socket::Alive(stream),
            rest,
            marks: None,
            peer_finished: false,
            client,
            steering,
            key,
            flow: connection.flow,
            thread: connection.thread,
            asked: None,
            started,
            step: started,
            outcome: None,
        }
        .run()
        .await
    }
}

/// A connection without its socket.
struct Socketless {
    target: Target,
    tls: Option<TlsImage>,
    /// Plaintext that nobody has processed.
    opened: Vec<u8>,
    /// Bytes off the wire that nobody has processed.
    received: Vec<u8>,
    finished: bool,
    afterword: Option<Arc<Afterword>>,
}

impl Socketless {
    /// Separates a connection from its event loop.
    fn take_apart(departure: Departure) -> io::Result<(net::TcpStream, Self)> {
        let Departure { target, stream, received, finished, afterword, .. } = departure;
        Ok(match stream {
            ClientStream::Plain(stream) => {
                let opened = Vec::new();
                let rest = Self { target, tls: None, opened, received, finished, afterword };
                (stream.into_std()?, rest)
            }
            ClientStream::Sealed(stream) => {
                let parts = stream.into_parts();
                // What the server has read comes before what the stream holds.
                let mut opened = received;
                opened.extend_from_slice(&parts.opened);
                let rest = Self {
                    target,
                    tls: Some(parts.tls),
                    opened,
                    received: parts.received,
                    finished: parts.finished,
                    afterword,
                };
                (parts.stream.into_std()?, rest)
            }
            ClientStream::Tls(_) => unreachable!("the library's connections do not move"),
        })
    }

    /// Whether the image lacks bytes since the move before this one.
    fn is_incomplete(&self) -> bool {
        let afterword = self.afterword.as_ref();
        afterword.is_some_and(|it| it.is_cut() || it.copy_late().is_some())
    }

    /// Puts the connection together again.
    fn with(self, stream: net::TcpStream, flow: Flow) -> io::Result<Departure> {
        let Self { target, tls, opened, received, finished, afterword } = self;
        let stream = TcpStream::from_std(stream)?;
        Ok(match tls {
            None => {
                let stream = ClientStream::Plain(stream);
                Departure { target, stream, received, finished, flow, afterword }
            }
            Some(tls) => {
                let stream = SealedStream::new(stream, tls, Vec::new(), received);
                let stream = ClientStream::Sealed(Box::new(stream.finished_if(finished)));
                Departure { target, stream, received: opened, finished: false, flow, afterword }
            }
        })
    }
}

/// The client's socket, as far as the move has come.
enum Socket {
    Alive(net::TcpStream),
    Frozen(Frozen<net::TcpStream>),
    /// Frozen, and closed by whoever brings the connection back here, if that comes first.
    Given(Slot),
    Gone,
}

/// One connection on its way.
struct Move<'a> {
    hand_off: &'a Arc<HandOff>,
    departing: Departing,
    exporter: Exporter,
    socket: Socket,
    rest: Socketless,
    /// How far the socket had received when it was exported.
    marks: Option<Marks>,
    /// The client's FIN has come, read or not.
    peer_finished: bool,
    client: ClientNotes,
    /// Where steering takes control datagrams.
    steering: net::SocketAddr,
    key: FlowKey,
    flow: Flow,
    thread: usize,
    /// The epoch of a request to steering, and its answer to come.
    asked: Option<(u64, Answer)>,
    started: Instant,
    /// When the present stage began.
    step: Instant,
    outcome: Option<Outcome>,
}

impl Move<'_> {
    async fn run(mut self) -> Result<(), Departure> {
        loop {
            while let Some(output) = self.exporter.poll_output() {
                self.perform(output).await;
            }
            if let Some(outcome) = self.outcome.take() {
                return self.finish(outcome);
            }
            let at_ms = self.exporter.poll_timeout().expect("the move is not over");
            let deadline = self.hand_off.instant(at_ms);
            let answer = async {
                match &mut self.asked {
                    Some((epoch, answer)) => (*epoch, answer.await),
                    None => pending().await,
                }
            };
            tokio::select! {
                news = self.departing.inbox.recv() => {
                    let now_ms = self.hand_off.now_ms();
                    match news.expect("this move holds a sender") {
                        News::Message(message) => self.exporter.handle_message(now_ms, &message),
                        News::ChannelLost => self.exporter.handle_channel_lost(now_ms),
                        News::FlowReturned => self.exporter.handle_flow_returned(),
                    }
                }
                (epoch, reply) = answer => {
                    self.asked = None;
                    self.steered(epoch, reply);
                }
                () = sleep_until(deadline.into()) => {
                    self.exporter.handle_timeout(self.hand_off.now_ms());
                }
            }
        }
    }

    async fn perform(&mut self, output: ExporterOutput) {
        match output {
            ExporterOutput::Freeze => self.freeze().await,
            ExporterOutput::Export => {
                let exported = self.export();
                self.stage(|stages| &stages.export);
                self.exporter.handle_exported(self.hand_off.now_ms(), exported);
            }
            ExporterOutput::Send(message) => {
                if matches!(message, Message::Offer { .. }) {
                    self.give();
                }
                self.departing.channel.send(self.departing.id, &message);
            }
            ExporterOutput::CheckReceived => {
                self.stage(|stages| &stages.offer);
                let received = self.received();
                self.exporter.handle_received(self.hand_off.now_ms(), received);
            }
            ExporterOutput::Introduce { epoch } => self.introduce(epoch),
            ExporterOutput::Claim { epoch } => self.claim(epoch),
            ExporterOutput::Thaw => self.thaw(),
            ExporterOutput::Reset => {
                if let Some(frozen) = self.take_frozen()
                    && let Err(error) = frozen.reset()
                {
                    tracing::debug!(%error, "a client is not told that its connection is lost");
                }
            }
            ExporterOutput::CloseSilently => {
                if let Some(frozen) = self.take_frozen() {
                    frozen.close_silently();
                }
            }
            ExporterOutput::Report(outcome) => self.outcome = Some(outcome),
        }
    }

    async fn freeze(&mut self) {
        let Socket::Alive(stream) = self.take_socket() else {
            unreachable!("a move begins with a living socket");
        };
        let deadline_ms = self.exporter.poll_timeout().expect("freezing has a deadline");
        let deadline = self.hand_off.instant(deadline_ms);
        while unsent_bytes(&stream).is_ok_and(|bytes| bytes > 0) && Instant::now() < deadline {
            sleep(UNSENT_PAUSE).await;
        }
        self.stage(|stages| &stages.flush);
        let frozen = match repair::freeze(stream) {
            Ok(frozen) => {
                self.socket = Socket::Frozen(frozen);
                true
            }
            Err(failed) => {
                tracing::debug!(error = %failed.error, flow = %self.key, "a connection cannot be frozen");
                self.socket = Socket::Alive(failed.socket);
                false
            }
        };
        self.stage(|stages| &stages.freeze);
        self.exporter.handle_frozen(self.hand_off.now_ms(), frozen);
    }

    /// The connection as it travels, or why it stays.
    fn export(&mut self) -> Result<SecretBytes, Cause> {
        let Socket::Frozen(frozen) = &self.socket else { return Err(Cause::NotExported) };
        let export = frozen.export().inspect_err(|error| {
            tracing::debug!(%error, flow = %self.key, "a connection cannot be exported");
        });
        let export = export.map_err(|_| Cause::NotExported)?;
        let mut received =
            SecretBytes::with_capacity(self.rest.received.len() + export.received.len());
        received.extend_from_slice(&self.rest.received);
        received.extend_from_slice(&export.received);
        self.marks = Some(export.marks());
        self.peer_finished = export.peer_finished || self.rest.finished;
        let image = ConnectionImage {
            epoch: self.flow.epoch,
            tcp: export.tcp,
            received,
            opened: self.rest.opened.as_slice().into(),
            peer_finished: self.peer_finished,
            tls: self.rest.tls.clone(),
            client: self.client.clone(),
            steering: self.steering,
        };
        if let Err(error) = image.check() {
            tracing::debug!(%error, flow = %self.key, "a connection does not fit an image");
            return Err(Cause::NotExported);
        }
        let encoded = image.encode();
        // What slipped past the filter costs nothing as long as nobody has the image.
        let moved = frozen.receive_sequence_moved(&image.tcp).unwrap_or(true);
        if moved || self.rest.is_incomplete() {
            Err(Cause::ReceiveSequenceMoved)
        } else {
            Ok(encoded)
        }
    }

    /// What came for the connection since its export.
    fn received(&self) -> Received {
        let (Socket::Given(slot), Some(marks)) = (&self.socket, self.marks) else {
            unreachable!("only what was given is looked at again");
        };
        received(slot, marks, self.rest.afterword.as_deref())
    }

    /// Lets steering know the flow.
    fn introduce(&mut self, epoch: u64) {
        self.flow.is_known = true;
        let (owner, closing) = (self.hand_off.owner, false);
        let operation = Operation::Point { flow: self.key, owner, epoch, closing };
        let control = &self.hand_off.control;
        match control.execute_here(self.thread, self.flow.origin, &operation) {
            Some(reply) => self.steered(epoch, reply),
            None => {
                let answer = control.execute_once(self.thread, self.steering, operation);
                self.asked = Some((epoch, answer));
            }
        }
    }

    /// Asks steering for the flow, if it is not asked already: the client repeats itself.
    fn claim(&mut self, epoch: u64) {
        if self.asked.as_ref().is_some_and(|(asked_epoch, _)| *asked_epoch == epoch) {
            return;
        }
        let (owner, closing) = (self.hand_off.owner, self.peer_finished);
        let operation = Operation::Claim { flow: self.key, owner, epoch, closing };
        let control = &self.hand_off.control;
        match control.execute_here(self.thread, self.flow.origin, &operation) {
            Some(reply) => self.steered(epoch, reply),
            None => {
                self.asked = Some((epoch, control.execute(self.thread, self.steering, operation)));
            }
        }
    }

    /// Steering has answered, or not.
    fn steered(&mut self, answers_epoch: u64, reply: Option<Reply>) {
        let importer = self.departing.channel.owner.id;
        let owners = Owners { exporter: self.hand_off.owner.id, importer };
        if let Some(steered) = owners.steered(answers_epoch, reply) {
            self.exporter.handle_steered(self.hand_off.now_ms(), steered);
        }
    }

    fn thaw(&mut self) {
        if let Socket::Alive(_) = self.socket {
            return;
        }
        let thawed = self.take_frozen().map(Frozen::thaw);
        self.socket = match thawed {
            Some(Ok(stream)) => Socket::Alive(stream),
            Some(Err(error)) => {
                tracing::warn!(%error, flow = %self.key, "a connection cannot be thawed");
                Socket::Gone
            }
            None => Socket::Gone,
        };
    }

    /// Lets the connection come back here from its next owner, which may have it before it says so.
    fn give(&mut self) {
        if let Socket::Frozen(frozen) = self.take_socket() {
            let socket: Slot = Arc::new(Mutex::new(Some(frozen)));
            let lingering = Lingering {
                epoch: self.flow.epoch + 1,
                socket: Arc::clone(&socket),
                afterword: self.rest.afterword.clone(),
                owner: self.departing.sender.clone(),
            };
            lock(&self.hand_off.lingering).insert(self.key, lingering);
            self.socket = Socket::Given(socket);
        }
    }

    /// The frozen socket, if it is still here.
    fn take_frozen(&mut self) -> Option<Frozen<net::TcpStream>> {
        match self.take_socket() {
            Socket::Frozen(frozen) => Some(frozen),
            Socket::Given(slot) => {
                self.hand_off.forget_lingering(&self.key, &slot);
                lock(&slot).take()
            }
            Socket::Alive(_) | Socket::Gone => None,
        }
    }

    #[expect(clippy::result_large_err, reason = "a connection that stays is given back as it came")]
    fn finish(self, outcome: Outcome) -> Result<(), Departure> {
        let stages = &self.hand_off.stages;
        match outcome {
            Outcome::Moved { .. } => {
                stages.moved(self.started.elapsed());
                self.linger();
                Ok(())
            }
            Outcome::Kept { epoch, cause } => {
                tracing::debug!(flow = %self.key, %cause, "a connection stays");
                stages.kept(cause_name(&cause));
                let Socket::Alive(stream) = self.socket else { return Ok(()) };
                // A late copy of an introduction makes an entry that somebody could claim.
                let is_fixed = self.flow.is_fixed || cause == Cause::SteeringSilent;
                let flow = Flow { epoch, is_fixed, ..self.flow };
                match self.rest.with(stream, flow) {
                    Ok(departure) => Err(departure),
                    Err(error) => {
                        tracing::warn!(%error, flow = %self.key, "a connection is lost");
                        Ok(())
                    }
                }
            }
            Outcome::Ended { cause } => {
                tracing::info!(flow = %self.key, %cause, "a connection is lost on its way");
                let Flow { epoch, origin, .. } = self.flow;
                self.hand_off.forget_later(self.key, epoch, origin, self.thread);
                stages.ended();
                Ok(())
            }
        }
    }

    /// Keeps the frozen socket, which answers nothing, until no packet can come to it any more.
    fn linger(self) {
        let Self { mut exporter, socket, key, hand_off, departing, rest, marks, .. } = self;
        let (Socket::Given(slot), Some(marks)) = (socket, marks) else { return };
        let hand_off = Arc::clone(hand_off);
        tokio::spawn(async move {
            while let Some(at_ms) = exporter.poll_timeout() {
                sleep_until(hand_off.instant(at_ms).into()).await;
                exporter.handle_timeout(hand_off.now_ms());
                while let Some(output) = exporter.poll_output() {
                    match output {
                        ExporterOutput::CheckReceived => {
                            let received = received(&slot, marks, rest.afterword.as_deref());
                            exporter.handle_received(hand_off.now_ms(), received);
                        }
                        ExporterOutput::Send(message) => {
                            departing.channel.send(departing.id, &message);
                        }
                        ExporterOutput::CloseSilently => {
                            if let Some(frozen) = lock(&slot).take() {
                                frozen.close_silently();
                            }
                        }
                        output => unreachable!("no move that is over does {output:?}"),
                    }
                }
            }
            drop(departing);
            hand_off.forget_lingering(&key, &slot);
        });
    }

    fn take_socket(&mut self) -> Socket {
        std::mem::replace(&mut self.socket, Socket::Gone)
    }

    /// Ends a stage and begins the next.
    fn stage(&mut self, stage: impl Fn(&super::Stages) -> &super::stages::Stage) {
        let now = Instant::now();
        stage(&self.hand_off.stages).observe(now - self.step);
        self.step = now;
    }
}

/// What a frozen socket, or that of the owner before it, has received since the export.
fn received(slot: &Slot, marks: Marks, afterword: Option<&Afterword>) -> Received {
    if afterword.is_some_and(Afterword::is_cut) {
        return Received::More;
    }
    // Without a socket, the connection is here again, with all that there is.
    let socket = lock(slot);
    let Some(frozen) = socket.as_ref() else { return Received::Nothing };
    let here = match frozen.received_since(marks) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Received::More,
        Err(error) => {
            tracing::debug!(%error, "a frozen connection cannot be looked at");
            return Received::More;
        }
    };
    let before = afterword.and_then(Afterword::copy_late);
    let before = before.as_ref().map_or(&[][..], |late| late.behind(marks.receive_sequence));
    match here.len().max(before.len()) {
        0 => Received::Nothing,
        bytes if bytes == here.len() => Received::Bytes(here),
        _ => Received::Bytes(before.into()),
    }
}

/// A cause as a label of metrics.
fn cause_name(cause: &Cause) -> &'static str {
    match cause {
        Cause::FreezeTimeout | Cause::NotFrozen => "not_frozen",
        Cause::ExportTimeout | Cause::NotExported => "not_exported",
        Cause::Refused(Refusal::FlowInUse) => "flow_in_use",
        Cause::Refused(Refusal::Full | Refusal::Draining) => "no_room",
        Cause::Refused(_) => "refused",
        Cause::ChannelLost => "channel_lost",
        Cause::OfferTimeout => "not_answered",
        Cause::ReceiveSequenceMoved => "bytes_arrived",
        Cause::SteeringFull => "steering_full",
        Cause::SteeringSilent => "steering_silent",
        _ => "other",
    }
}
