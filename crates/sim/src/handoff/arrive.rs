//! Connections that arrive: the shell of the importer, with the duties that the protocol numbers.

use super::{
    application::Served,
    sabotage::Sabotage,
    tcp::{State, Tcp, after},
    world::{Checked, Event, MoveKey, World},
};
use ashlar_handoff::{
    SecretBytes,
    image::ConnectionImage,
    protocol::{Importer, ImporterOutput, Message, Outcome, Refusal},
};
use std::net::IpAddr;

/// One connection on its way in.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(super) importer: Importer,
    /// What the socket is made of, until it is.
    bytes: Option<SecretBytes>,
    /// The flow whose socket this move has made and may close.
    pub(super) socket: Option<usize>,
    pub(super) image: Option<Box<ConnectionImage>>,
    /// The flow and the connection that it has brought.
    served: Option<(usize, usize)>,
    /// Where its image ends in the client's stream.
    receive_sequence: u32,
    /// It comes back to where it was: what its owner before then has received too late still reaches it.
    returns: bool,
    late: Option<(u32, Vec<u8>)>,
}

impl World {
    /// A connection is offered.
    pub(super) fn offered(&mut self, node: usize, key: MoveKey, image: SecretBytes) -> Checked {
        let importer = Importer::new(self.now_ms(), image, self.plan.timeouts);
        let (bytes, socket, image, served, receive_sequence) = (None, None, None, None, 0);
        let (returns, late) = (false, None);
        let arrival =
            Arrival { importer, bytes, socket, image, served, receive_sequence, returns, late };
        self.nodes[node].arrivals.insert(key, arrival);
        self.drive_arrival(node, key, |_, _| {})
    }

    /// Gives an arrival an input, and performs what it puts out.
    pub(super) fn drive_arrival(
        &mut self,
        node: usize,
        key: MoveKey,
        input: impl FnOnce(&mut Importer, u64),
    ) -> Checked {
        let now_ms = self.now_ms();
        let Some(mut arrival) = self.nodes[node].arrivals.remove(&key) else { return Ok(()) };
        input(&mut arrival.importer, now_ms);
        while let Some(output) = arrival.importer.poll_output() {
            self.perform_arrival(node, key, &mut arrival, output)?;
        }
        if let Some(at_ms) = arrival.importer.poll_timeout() {
            let incarnation = self.nodes[node].incarnation;
            self.queue.push_at(at_ms * 1000, Event::ArrivalTimeout { node, incarnation, key });
        }
        if !arrival.importer.is_finished() || arrival.bytes.is_some() {
            self.nodes[node].arrivals.insert(key, arrival);
        }
        Ok(())
    }

    fn perform_arrival(
        &mut self,
        node: usize,
        key: MoveKey,
        arrival: &mut Arrival,
        output: ImporterOutput,
    ) -> Checked {
        let note = match &output {
            ImporterOutput::Import(_) => "Import".to_owned(),
            output => format!("{output:?}"),
        };
        self.note(|| format!("n{node} {key}: {note}"));
        match output {
            ImporterOutput::Import(bytes) => {
                arrival.bytes = Some(bytes);
                let delay_us = self.random.below(self.plan.import_us);
                let incarnation = self.nodes[node].incarnation;
                self.queue.push_after(delay_us, Event::Imports { node, incarnation, key });
                Ok(())
            }
            ImporterOutput::Claim { epoch } => self.claim_arrival(node, key, arrival, epoch),
            ImporterOutput::Send(message) => {
                self.send_message(node, key, &message);
                Ok(())
            }
            ImporterOutput::LeaveRepair => self.leave_repair(node, arrival),
            ImporterOutput::Serve { epoch } => self.adopt(node, arrival, epoch),
            ImporterOutput::Receive(bytes) => self.receive_late(node, arrival, &bytes),
            ImporterOutput::CloseSilently => {
                arrival.image = None;
                match arrival.socket.take() {
                    Some(flow) => self.close_silently(node, flow),
                    None => Ok(()),
                }
            }
            ImporterOutput::Reset => {
                let (flow, connection) =
                    arrival.served.take().expect("this shell leaves repair mode at once");
                self.cut(node, flow, connection);
                Ok(())
            }
            ImporterOutput::Report(outcome) => {
                self.coverage.arrivals_dropped +=
                    u64::from(matches!(outcome, Outcome::Ended { .. }));
                Ok(())
            }
        }
    }

    /// The socket is made.
    pub(super) fn imports(&mut self, node: usize, key: MoveKey) -> Checked {
        let arrival = self.nodes[node].arrivals.get_mut(&key).expect("it waits for its socket");
        let bytes = arrival.bytes.take().expect("it is imported once");
        let result = match ConnectionImage::decode(&bytes) {
            Ok(image) => self.import(node, key, image)?,
            Err(_) => Err(Refusal::InvalidImage),
        };
        self.drive_arrival(node, key, |importer, now_ms| importer.handle_imported(now_ms, result))
    }

    fn import(
        &mut self,
        node: usize,
        key: MoveKey,
        image: ConnectionImage,
    ) -> Result<Result<u64, Refusal>, Box<crate::violation::Violation>> {
        let now_us = self.now_us();
        if self.nodes[node].draining_until_us > now_us {
            return Ok(Err(Refusal::Draining));
        }
        let IpAddr::V4(ip) = image.tcp.peer.ip() else { unreachable!("clients have IPv4") };
        let flow = usize::from(ip.octets()[3]) - 1;
        let returns = self.welcome_back(node, flow, image.epoch, image.tcp.receive_sequence)?;
        if self.nodes[node].sockets.contains_key(&flow) {
            self.coverage.imports_of_a_flow_in_use += 1;
            return Ok(Err(Refusal::FlowInUse));
        }
        if self.random.chance(self.plan.shell_failure) {
            return Ok(Err(Refusal::Kernel));
        }
        let sizes = self.plan.service_sizes;
        let tcp = Tcp::import(now_us, flow, &image.tcp, image.peer_finished, sizes);
        let mut socket = self.socket(tcp, image.client.connection as usize);
        (socket.mute, socket.imported_at) = (true, Some(image.tcp.receive_sequence));
        socket.deaf = !self.is_sabotaged(Sabotage::ListenWhileMute);
        self.nodes[node].sockets.insert(flow, socket);
        let epoch = image.epoch;
        let arrival = self.nodes[node].arrivals.get_mut(&key).expect("it is there");
        arrival.socket = Some(flow);
        (arrival.receive_sequence, arrival.returns) = (image.tcp.receive_sequence, returns);
        arrival.image = Some(Box::new(image));
        self.after_socket(node, flow)?;
        Ok(Ok(epoch))
    }

    /// The owner before says what its socket received too late.
    fn receive_late(&mut self, node: usize, arrival: &Arrival, bytes: &[u8]) -> Checked {
        let Some((flow, connection)) = arrival.served else { return Ok(()) };
        let late = (arrival.receive_sequence, bytes.to_vec());
        for departure in self.nodes[node].departures.values_mut() {
            if departure.served.connection == connection {
                departure.served.late = Some(late.clone());
            }
        }
        for arrival in self.nodes[node].arrivals.values_mut() {
            let image = arrival.image.as_ref();
            let is_same = image.is_some_and(|it| it.client.connection == connection as u64);
            if is_same && arrival.returns {
                arrival.late = Some(late.clone());
            }
        }
        if let Some(served) = self.nodes[node].served.get_mut(&flow)
            && served.connection == connection
        {
            served.late = Some(late);
            return self.put_late(node, flow);
        }
        Ok(())
    }

    /// Puts late bytes of the connection that is served into its socket, or ends it.
    pub(super) fn put_late(&mut self, node: usize, flow: usize) -> Checked {
        let again = self.is_sabotaged(Sabotage::ReceiveTwice);
        let Some(served) = self.nodes[node].served.get_mut(&flow) else { return Ok(()) };
        let connection = served.connection;
        let Some((sequence, bytes)) = served.late.take() else { return Ok(()) };
        let socket = self.nodes[node].sockets.get_mut(&flow);
        let Some(socket) = socket.filter(|socket| socket.connection == connection) else {
            return Ok(());
        };
        if !socket.tcp.receive_late(sequence, &bytes, again) {
            self.cut(node, flow, connection);
            return Ok(());
        }
        self.coverage.late_bytes_received += 1;
        let received = socket.tcp.receive_next();
        let first = self.connections[connection].client_sequence;
        let acknowledged = self.clients[flow].acknowledged(first);
        if !acknowledged.is_some_and(|acknowledged| after(acknowledged, received)) {
            // Else there is more to come.
            self.oracles.slipped.remove(&connection);
        }
        self.after_socket(node, flow)
    }

    /// Bytes of the connection are missing: its socket is reset, whoever has it.
    fn cut(&mut self, node: usize, flow: usize, connection: usize) {
        let socket = self.nodes[node].sockets.get(&flow);
        if socket.is_none_or(|socket| socket.connection != connection) {
            return;
        }
        self.coverage.connections_cut += 1;
        self.nodes[node].lingers_until_us.remove(&flow);
        let mut socket = self.nodes[node].sockets.remove(&flow).expect("it is there");
        if !matches!(socket.tcp.state, State::Gone(_)) {
            let reset = socket.tcp.abort();
            self.send_to_client(node, &reset);
        }
        for departure in self.nodes[node].departures.values_mut() {
            departure.is_bereft |= departure.served.connection == connection;
        }
        if self.nodes[node].served.get(&flow).is_some_and(|it| it.connection == connection) {
            self.ended(node, flow);
        }
    }

    fn leave_repair(&mut self, node: usize, arrival: &mut Arrival) -> Checked {
        let flow = arrival.socket.expect("the socket was made");
        let now_us = self.now_us();
        let fails = self.random.chance(self.plan.shell_failure);
        let socket = self.nodes[node].sockets.get_mut(&flow);
        let alive = match socket {
            Some(socket) if !fails => {
                (socket.deaf, socket.mute, socket.imported_at) = (false, false, None);
                socket.tcp.probe(now_us);
                let connection = socket.connection;
                self.after_socket(node, flow)?;
                self.unmuted(connection)?;
                true
            }
            _ => false,
        };
        arrival.importer.handle_left_repair(self.now_ms(), alive);
        Ok(())
    }

    fn adopt(&mut self, node: usize, arrival: &mut Arrival, epoch: u64) -> Checked {
        let flow = arrival.socket.take().expect("the socket was made");
        let image = *arrival.image.take().expect("there is an image with the socket");
        let connection = image.client.connection as usize;
        let told = if self.is_sabotaged(Sabotage::SameEpoch) { image.epoch } else { epoch };
        let mut served = Served::new(connection, told);
        served.received = image.received.to_vec();
        served.finished = image.peer_finished;
        served.moves = image.client.moves;
        served.late = arrival.late.take();
        arrival.served = Some((flow, connection));
        self.coverage.moves_home += u64::from(node == 0);
        self.nodes[node].served.insert(flow, served);
        self.put_late(node, flow)?;
        self.wake_served(node, flow);
        self.check_acknowledged(node, flow, connection)?;
        self.check_followed(node, flow, connection, epoch)
    }

    /// The channel to the exporter broke, which is nothing to an importer.
    pub(super) fn arrival_lost(&mut self, node: usize, key: MoveKey) -> Checked {
        if self.is_sabotaged(Sabotage::DropWithChannel)
            && let Some(arrival) = self.nodes[node].arrivals.get_mut(&key)
            && let Some((flow, _)) = arrival.served.take()
        {
            self.nodes[node].served.remove(&flow);
            return self.close_silently(node, flow);
        }
        Ok(())
    }

    /// A message for an arrival.
    pub(super) fn message_to_arrival(
        &mut self,
        node: usize,
        key: MoveKey,
        message: &Message,
    ) -> Checked {
        if !self.nodes[node].arrivals.contains_key(&key) {
            self.coverage.messages_of_forgotten_moves += 1;
        }
        self.drive_arrival(node, key, |importer, now_ms| importer.handle_message(now_ms, message))
    }

    /// A move's timeout may be due.
    pub(super) fn arrival_timeout(&mut self, node: usize, key: MoveKey) -> Checked {
        let now_ms = self.now_ms();
        let arrival = self.nodes[node].arrivals.get(&key);
        let due = arrival.and_then(|arrival| arrival.importer.poll_timeout());
        if due.is_some_and(|at_ms| at_ms <= now_ms) {
            return self.drive_arrival(node, key, Importer::handle_timeout);
        }
        Ok(())
    }
}
