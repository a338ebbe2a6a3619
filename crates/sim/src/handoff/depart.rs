//! Connections that leave: the shell of the exporter, with the duties that the protocol numbers.

use super::{
    application::Served,
    host::Socket,
    oracle::{acknowledged, followed, silence, undisturbed},
    sabotage::Sabotage,
    steering::{CONTROL, SERVICE, client_address, flow_key, owner},
    tcp::{State, after},
    world::{Checked, Event, Incarnation, MoveKey, World},
};
use ashlar_handoff::{
    SecretBytes,
    image::{ClientNotes, ConnectionImage, TcpImage},
    protocol::{Cause, Exporter, ExporterOutput, Message, MoveId, Outcome, Received},
};

/// Between two looks at whether everything written has been sent.
const UNSENT_PAUSE_US: u64 = 500;

/// One connection on its way out.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(super) exporter: Exporter,
    /// The connection without its socket.
    pub(super) served: Served,
    pub(super) flow: usize,
    pub(super) target: usize,
    /// The socket's state as it was exported, and how much of it nobody had read.
    image: Option<(TcpImage, usize)>,
    /// The image, until the socket is looked at again behind the export.
    exported: Option<Result<SecretBytes, Cause>>,
    /// Steering was asked for an entry.
    pub(super) is_introduced: bool,
    /// The socket is to be frozen, and is not yet.
    is_freezing: bool,
    /// The socket was reset, because an earlier owner has received more.
    pub(super) is_bereft: bool,
    /// How often the socket was looked at once the connection had left.
    looks: u32,
    /// So many late bytes has the importer been told; all if nobody can go on.
    told_bytes: usize,
    /// The connection has left, and is not here again.
    has_left: bool,
    /// The socket is gone, or belongs to the server again.
    is_over: bool,
}

impl World {
    /// Begins a move.
    pub(super) fn depart(
        &mut self,
        node: usize,
        flow: usize,
        served: Served,
        target: usize,
        session: usize,
    ) -> Checked {
        let now_ms = self.now_ms();
        let state = &mut self.nodes[node];
        state.moves_made += 1;
        let key = MoveKey { session, id: MoveId(state.moves_made) };
        let exporter = Exporter::new(now_ms, served.epoch, node == 0, self.plan.timeouts);
        let departure = Departure {
            exporter,
            served,
            flow,
            target,
            image: None,
            exported: None,
            is_introduced: false,
            is_freezing: false,
            is_bereft: false,
            looks: 0,
            told_bytes: 0,
            has_left: false,
            is_over: false,
        };
        self.nodes[node].departures.insert(key, departure);
        self.coverage.moves_begun += 1;
        self.note(|| format!("n{node} begins to move c{flow} to n{target}: {key}"));
        self.drive_departure(node, key, |_, _| {})
    }

    /// Gives a departure an input, and performs what it puts out.
    pub(super) fn drive_departure(
        &mut self,
        node: usize,
        key: MoveKey,
        input: impl FnOnce(&mut Exporter, u64),
    ) -> Checked {
        let now_ms = self.now_ms();
        let Some(mut departure) = self.nodes[node].departures.remove(&key) else { return Ok(()) };
        input(&mut departure.exporter, now_ms);
        while let Some(output) = departure.exporter.poll_output() {
            self.perform_departure(node, key, &mut departure, output)?;
        }
        if let Some(at_ms) = departure.exporter.poll_timeout() {
            let incarnation = self.nodes[node].incarnation;
            let event = Event::DepartureTimeout { node, incarnation, key };
            self.queue.push_at(at_ms * 1000, event);
            self.nodes[node].departures.insert(key, departure);
        } else {
            self.forget_introduction(node, key);
            assert!(departure.exporter.is_finished() && departure.is_over, "a move ends whole");
        }
        Ok(())
    }

    fn perform_departure(
        &mut self,
        node: usize,
        key: MoveKey,
        departure: &mut Departure,
        output: ExporterOutput,
    ) -> Checked {
        let flow = departure.flow;
        self.note(|| format!("n{node} {key} c{flow}: {}", describe(&output)));
        match output {
            ExporterOutput::Freeze => {
                departure.is_freezing = true;
                let incarnation = self.nodes[node].incarnation;
                self.queue.push_after(0, Event::FreezeTried { node, incarnation, key });
                Ok(())
            }
            ExporterOutput::Export => {
                departure.exported = Some(self.export(node, departure).ok_or(Cause::NotExported));
                let delay_us = self.random.below(self.plan.slip_us);
                let incarnation = self.nodes[node].incarnation;
                self.queue.push_after(delay_us, Event::Exported { node, incarnation, key });
                Ok(())
            }
            ExporterOutput::Send(message) => {
                match message {
                    Message::Offer { .. } => {
                        let left = (key, departure.served.epoch + 1);
                        self.nodes[node].lingering.insert(flow, left);
                    }
                    Message::Cut => {
                        departure.told_bytes = usize::MAX;
                        self.coverage.cuts += 1;
                        self.oracles.undisturbed.cut(flow);
                    }
                    Message::Late { ref bytes } => {
                        departure.told_bytes = departure.told_bytes.max(bytes.len());
                        self.coverage.late_bytes_sent += 1;
                        self.coverage.late_bytes_seen_late += u64::from(departure.looks > 1);
                    }
                    _ => {}
                }
                self.send_message(node, key, &message);
                Ok(())
            }
            ExporterOutput::CheckReceived => {
                departure.looks += 1;
                let is_skipped = self.is_sabotaged(Sabotage::SkipCheck)
                    || departure.looks > 1 && self.is_sabotaged(Sabotage::LookOnce);
                let received = self.received(node, departure);
                let received = if is_skipped { Received::Nothing } else { received };
                departure.exporter.handle_received(self.now_ms(), received);
                Ok(())
            }
            ExporterOutput::Introduce { epoch } => self.introduce(node, key, departure, epoch),
            ExporterOutput::Claim { epoch } => self.claim_back(node, key, departure, epoch),
            ExporterOutput::Thaw => {
                self.forget_lingering(node, flow, key);
                self.thaw(node, departure)
            }
            ExporterOutput::Reset => {
                departure.is_over = true;
                self.forget_lingering(node, flow, key);
                if self.has_socket(node, departure)
                    && let Some(mut socket) = self.nodes[node].sockets.remove(&flow)
                    && !matches!(socket.tcp.state, State::Gone(_))
                {
                    self.coverage.frozen_sockets_reset += 1;
                    let reset = socket.tcp.abort();
                    self.send_to_client(node, &reset);
                }
                Ok(())
            }
            ExporterOutput::CloseSilently => {
                departure.is_over = true;
                self.forget_lingering(node, flow, key);
                if self.has_socket(node, departure) {
                    self.check_told(node, departure)?;
                    self.close_silently(node, flow)
                } else {
                    Ok(())
                }
            }
            ExporterOutput::Report(outcome) => self.departed(node, departure, outcome),
        }
    }

    /// A socket in repair mode is closed without a trace.
    pub(super) fn close_silently(&mut self, node: usize, flow: usize) -> Checked {
        let Some(socket) = self.nodes[node].sockets.remove(&flow) else { return Ok(()) };
        let finding = silence::check(node, flow, socket.mute);
        self.judge(silence::NAME, finding)
    }

    /// Looks whether everything was sent, and freezes the socket then.
    pub(super) fn freeze_tried(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        key: MoveKey,
    ) -> Checked {
        let fails = self.random.chance(self.plan.shell_failure);
        let departure = self.nodes[node].departures.get_mut(&key);
        let Some(departure) = departure.filter(|departure| departure.is_freezing) else {
            return Ok(());
        };
        let (flow, connection) = (departure.flow, departure.served.connection);
        let socket = self.nodes[node].sockets.get_mut(&flow);
        let frozen = match socket.filter(|socket| socket.connection == connection) {
            Some(socket) if socket.tcp.state == State::Open && !fails => {
                if socket.tcp.unsent_bytes() > 0 {
                    let event = Event::FreezeTried { node, incarnation, key };
                    self.queue.push_after(UNSENT_PAUSE_US, event);
                    return Ok(());
                }
                assert!(socket.tcp.is_movable(), "nobody finishes a connection that moves");
                (socket.deaf, socket.mute) = (true, true);
                true
            }
            _ => false,
        };
        self.nodes[node].departures.get_mut(&key).expect("it is there").is_freezing = false;
        self.drive_departure(node, key, |exporter, now_ms| exporter.handle_frozen(now_ms, frozen))
    }

    /// The connection as it travels; none if its socket is gone meanwhile.
    fn export(&mut self, node: usize, departure: &mut Departure) -> Option<SecretBytes> {
        let fails = self.random.chance(self.plan.shell_failure);
        let socket = self.socket_of(node, departure)?;
        if socket.tcp.state != State::Open || fails {
            return None;
        }
        let served = &departure.served;
        let (mut tcp, unread) = socket.tcp.export(SERVICE, client_address(departure.flow));
        let peer_finished = socket.tcp.peer_finished || served.finished;
        departure.image = Some((tcp.clone(), unread.len()));
        self.coverage.images_with_unread_bytes += u64::from(!unread.is_empty());
        self.coverage.images_with_unacknowledged_bytes += u64::from(!tcp.send_queue.is_empty());
        let mut received = served.received.clone();
        if !self.is_sabotaged(Sabotage::ForgetReceiveQueue) {
            received.extend(unread);
        }
        if self.is_sabotaged(Sabotage::ForgetSendQueue) {
            tcp.send_queue = SecretBytes::default();
        }
        self.coverage.images_behind_a_fin += u64::from(peer_finished);
        let image = ConnectionImage {
            epoch: served.epoch,
            tcp,
            received: received.into(),
            opened: SecretBytes::default(),
            peer_finished,
            tls: None,
            client: ClientNotes {
                front_end: "n0".into(),
                connection: served.connection as u64,
                moves: served.moves + 1,
            },
            steering: CONTROL,
        };
        image.check().is_ok().then(|| image.encode())
    }

    /// The departure's socket: another connection of the flow may have one if the client ended this one.
    fn socket_of(&self, node: usize, departure: &Departure) -> Option<&Socket> {
        let socket = self.nodes[node].sockets.get(&departure.flow);
        let connection = departure.served.connection;
        socket.filter(|socket| socket.connection == connection && !departure.is_bereft)
    }

    fn has_socket(&self, node: usize, departure: &Departure) -> bool {
        self.socket_of(node, departure).is_some()
    }

    /// Whether the frozen socket has received anything since its export.
    fn has_moved(&self, node: usize, departure: &Departure) -> bool {
        match (self.socket_of(node, departure), &departure.image) {
            (Some(socket), Some((image, _))) => socket.tcp.receive_next() != image.receive_sequence,
            _ => true,
        }
    }

    /// What the frozen socket, or that of the owner before it, has received since the export.
    fn received(&self, node: usize, departure: &Departure) -> Received {
        if departure.is_bereft {
            return Received::More;
        }
        let (Some(socket), Some((image, unread_bytes))) =
            (self.socket_of(node, departure), &departure.image)
        else {
            return Received::Nothing;
        };
        let (now, unread) = socket.tcp.export(SERVICE, client_address(departure.flow));
        let here = &unread[*unread_bytes..];
        let grown = now.receive_sequence.wrapping_sub(image.receive_sequence) as usize;
        if grown != here.len() {
            return Received::More;
        }
        let before = departure.served.late.as_ref().map_or(&[][..], |(sequence, bytes)| {
            let skipped = image.receive_sequence.wrapping_sub(*sequence) as usize;
            bytes.get(skipped..).unwrap_or_default()
        });
        let longest = if before.len() > here.len() { before } else { here };
        if longest.is_empty() { Received::Nothing } else { Received::Bytes(longest.into()) }
    }

    /// Nothing that has come for a connection that has left is kept from its new owner.
    fn check_told(&self, node: usize, departure: &Departure) -> Checked {
        if !departure.has_left {
            return Ok(());
        }
        let late_bytes = match self.received(node, departure) {
            Received::Nothing => 0,
            Received::Bytes(bytes) => bytes.len(),
            Received::More => usize::MAX,
        };
        let finding = acknowledged::told(late_bytes, departure.told_bytes);
        let finding = finding.map_err(|text| format!("n{node}, c{}: {text}", departure.flow));
        self.judge(acknowledged::NAME, finding)
    }

    /// The socket is looked at again, behind its export.
    pub(super) fn exported(&mut self, node: usize, key: MoveKey) -> Checked {
        let Some(mut departure) = self.nodes[node].departures.remove(&key) else { return Ok(()) };
        let exported = departure.exported.take().expect("it was exported");
        let is_complete = departure.served.late.is_none() && !self.has_moved(node, &departure);
        let has_moved = exported.is_ok() && !is_complete;
        let exported = if has_moved { Err(Cause::ReceiveSequenceMoved) } else { exported };
        self.nodes[node].departures.insert(key, departure);
        self.drive_departure(node, key, |exporter, now_ms| {
            exporter.handle_exported(now_ms, exported);
        })
    }

    fn thaw(&mut self, node: usize, departure: &mut Departure) -> Checked {
        departure.is_freezing = false;
        let now_us = self.now_us();
        let connection = departure.served.connection;
        let socket = self.nodes[node].sockets.get_mut(&departure.flow);
        let Some(socket) = socket.filter(|socket| socket.connection == connection) else {
            return Ok(());
        };
        if socket.mute {
            (socket.deaf, socket.mute) = (false, false);
            if socket.tcp.state == State::Open {
                socket.tcp.probe(now_us);
            }
            self.coverage.thaws += 1;
            self.after_socket(node, departure.flow)?;
            self.unmuted(connection)?;
            if departure.image.is_some() && self.has_moved(node, departure) {
                // What has slipped through is here.
                self.oracles.slipped.remove(&connection);
            }
            return self.check_acknowledged(node, departure.flow, connection);
        }
        Ok(())
    }

    /// Whatever was acknowledged to the client is at its owner's.
    pub(super) fn check_acknowledged(
        &self,
        node: usize,
        flow: usize,
        connection: usize,
    ) -> Checked {
        let first = self.connections[connection].client_sequence;
        let client = self.clients[flow].acknowledged(first);
        let socket = self.nodes[node].sockets.get(&flow);
        let (Some(acknowledged), Some(socket)) = (client, socket) else { return Ok(()) };
        if self.oracles.slipped.contains(&connection) {
            // The old owner says so, and resets it.
            return Ok(());
        }
        let finding = acknowledged::check(acknowledged, socket.tcp.receive_next());
        self.judge(acknowledged::NAME, finding.map_err(|text| format!("n{node}, c{flow}: {text}")))
    }

    fn departed(&mut self, node: usize, departure: &mut Departure, outcome: Outcome) -> Checked {
        let flow = departure.flow;
        self.count_departure(departure.served.epoch, &outcome);
        // Segments that take their time past the filter also make their sender repeat, which takes long.
        let excuses = [Cause::ReceiveSequenceMoved, Cause::FreezeTimeout];
        let slipped = matches!(outcome, Outcome::Kept { cause, .. } if excuses.contains(&cause));
        if slipped {
            self.oracles.undisturbed.excuse(flow);
        }
        if self.plan.is_calm {
            let timeout = Cause::FreezeTimeout;
            let is_slow = matches!(outcome, Outcome::Kept { cause, .. } if cause == timeout)
                && self.socket_of(node, departure).is_some_and(|it| it.tcp.awaits_imported());
            // What is cancelled so may be in the way of the next move for a while.
            let is_excused =
                is_slow || self.plan.slips && self.oracles.undisturbed.is_excused(flow);
            let finding = undisturbed::moved(flow, &outcome, is_excused);
            self.judge(undisturbed::NAME, finding)?;
        }
        match outcome {
            // The flow has come back: the socket has made room.
            Outcome::Moved { .. } if departure.is_over => Ok(()),
            Outcome::Moved { .. } => {
                departure.has_left = true;
                if self.has_socket(node, departure) {
                    let until_us = (self.now_ms() + self.plan.timeouts.linger_ms) * 1000;
                    self.nodes[node].lingers_until_us.insert(flow, until_us);
                }
                if self.is_sabotaged(Sabotage::CloseAtOnce) {
                    departure.exporter.handle_flow_returned();
                }
                Ok(())
            }
            Outcome::Kept { epoch, cause } => {
                departure.is_over = true;
                if !self.has_socket(node, departure) {
                    // The client, or an earlier owner, has ended it meanwhile.
                    self.forget_later(node, flow, epoch);
                    return Ok(());
                }
                let told = (epoch, departure.served.epoch, departure.served.moves);
                let mut served = departure.served.clone();
                served.epoch = epoch;
                served.relays = true;
                // Its introduction may still be under way, and none must follow it.
                served.stays |= cause == Cause::SteeringSilent;
                served.is_introduced |= departure.is_introduced;
                let connection = served.connection;
                self.nodes[node].served.insert(flow, served);
                self.put_late(node, flow)?;
                self.wake_served(node, flow);
                let may_be_unknown =
                    cause == Cause::SteeringFull || (told.0 == told.1 && told.2 == 0);
                let entry = self.steering.table.get(&flow_key(flow));
                let is_elsewhere = entry.is_some_and(|entry| entry.owner() != owner(0));
                // What steering does not know comes to the front end, as does what it knew there before; but
                // who had the client's last connection may claim that back.
                let is_untold = cause == Cause::SteeringSilent;
                if node == 0 && may_be_unknown && (is_untold || !is_elsewhere) {
                    return Ok(());
                }
                self.check_followed(node, flow, connection, epoch)
            }
            Outcome::Ended { .. } => {
                departure.is_over = true;
                Ok(())
            }
        }
    }

    /// Steering delivers to whoever goes on.
    pub(super) fn check_followed(
        &self,
        node: usize,
        flow: usize,
        connection: usize,
        epoch: u64,
    ) -> Checked {
        let since_us = self.connections[connection].accepted_us;
        if self.steering.lost_since(&flow_key(flow), since_us) || !self.steering.attached {
            return Ok(());
        }
        let entry = self.steering.table.get(&flow_key(flow));
        let entry = entry.map(|entry| (usize::from(entry.owner().id), entry.epoch));
        let finding = followed::check(node, epoch, entry);
        self.judge(followed::NAME, finding.map_err(|text| format!("c{flow}: {text}")))
    }

    fn count_departure(&mut self, before: u64, outcome: &Outcome) {
        let coverage = &mut self.coverage;
        let counter = match outcome {
            Outcome::Moved { .. } => &mut coverage.moves_done,
            Outcome::Kept { epoch, .. } if *epoch == before + 1 => &mut coverage.kept_contested,
            Outcome::Kept { epoch, .. } if *epoch == before + 2 => &mut coverage.kept_taken_back,
            Outcome::Kept { cause, .. } => match cause {
                Cause::FreezeTimeout
                | Cause::NotFrozen
                | Cause::ExportTimeout
                | Cause::NotExported => &mut coverage.kept_not_exported,
                Cause::Refused(_) => &mut coverage.kept_refused,
                Cause::ChannelLost => &mut coverage.kept_channel_lost,
                Cause::ReceiveSequenceMoved => &mut coverage.kept_bytes_arrived,
                Cause::SteeringFull => &mut coverage.kept_steering_full,
                Cause::SteeringSilent => &mut coverage.kept_steering_silent,
                _ => &mut coverage.kept_other,
            },
            Outcome::Ended { cause } => match cause {
                Cause::Superseded => &mut coverage.ended_superseded,
                Cause::SteeringForgot => &mut coverage.ended_steering_forgot,
                Cause::SteeringSilent => &mut coverage.ended_steering_silent,
                cause => unreachable!("an exporter does not end so: {cause}"),
            },
        };
        *counter += 1;
    }

    /// A move's timeout may be due.
    pub(super) fn departure_timeout(&mut self, node: usize, key: MoveKey) -> Checked {
        let now_ms = self.now_ms();
        let departure = self.nodes[node].departures.get(&key);
        let due = departure.and_then(|departure| departure.exporter.poll_timeout());
        if due.is_some_and(|at_ms| at_ms <= now_ms) {
            return self.drive_departure(node, key, Exporter::handle_timeout);
        }
        Ok(())
    }

    /// The same flow comes back: a socket that lingers from an earlier move makes room. False if there is none.
    pub(super) fn welcome_back(
        &mut self,
        node: usize,
        flow: usize,
        epoch: u64,
        receive_sequence: u32,
    ) -> Result<bool, Box<crate::violation::Violation>> {
        let lingering = self.nodes[node].lingering.get(&flow).copied();
        let Some((key, _)) = lingering.filter(|(_, left)| epoch >= *left) else {
            return Ok(false);
        };
        let departure = &self.nodes[node].departures[&key];
        let received = self.socket_of(node, departure).map(|socket| socket.tcp.receive_next());
        if received.is_none_or(|received| after(received, receive_sequence)) {
            // It is in the way: what comes back misses bytes, of which its owner is about to hear.
            return Ok(false);
        }
        self.nodes[node].departures.get_mut(&key).expect("it is there").has_left = false;
        self.nodes[node].lingers_until_us.remove(&flow);
        self.coverage.returns_within_the_linger += 1;
        // The importer's word that it has taken the connection may still be under way: that it gives it
        // away says the same.
        self.drive_departure(node, key, |exporter, _| exporter.handle_flow_returned())?;
        Ok(true)
    }

    fn forget_lingering(&mut self, node: usize, flow: usize, key: MoveKey) {
        if self.nodes[node].lingering.get(&flow).is_some_and(|(moved, _)| *moved == key) {
            self.nodes[node].lingering.remove(&flow);
        }
    }
}

/// An output in few words.
fn describe(output: &ExporterOutput) -> String {
    match output {
        ExporterOutput::Send(Message::Offer { image }) => format!("Offer of {} bytes", image.len()),
        output => format!("{output:?}"),
    }
}
