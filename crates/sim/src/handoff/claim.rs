//! What the shells of a move ask steering: an exporter introduces a flow, and either owner claims it.

use super::{
    arrive::Arrival,
    control::Purpose,
    depart::Departure,
    sabotage::Sabotage,
    steering::{flow_key, owner},
    world::{Checked, MoveKey, World},
};
use ashlar_fastpath::steering::{Operation, Reply, ResultCode};
use ashlar_handoff::protocol::{Owner, Steered};

impl World {
    /// Tells steering of a flow whose frames come here.
    pub(super) fn introduce(
        &mut self,
        node: usize,
        key: MoveKey,
        departure: &mut Departure,
        epoch: u64,
    ) -> Checked {
        self.coverage.introductions += 1;
        departure.is_introduced = true;
        let closing = departure.served.finished;
        let operation =
            Operation::Point { flow: flow_key(departure.flow), owner: owner(node), epoch, closing };
        let reply = self.ask(node, operation, Purpose::Introduction { key, epoch })?;
        self.answered_at_once(node, departure, epoch, reply);
        Ok(())
    }

    /// Claims a flow that an importer may have, or has given up.
    pub(super) fn claim_back(
        &mut self,
        node: usize,
        key: MoveKey,
        departure: &mut Departure,
        epoch: u64,
    ) -> Checked {
        self.coverage.claims_of_exporters += 1;
        let closing = departure.served.finished;
        let operation = self.claim(departure.flow, node, epoch, closing);
        let reply = self.ask(node, operation, Purpose::Departure { key, epoch })?;
        if self.is_sabotaged(Sabotage::ThawWithoutWinning) {
            let steered = Steered { answers_epoch: epoch, epoch, owner: Owner::Exporter };
            departure.exporter.handle_steered(self.now_ms(), steered);
            return Ok(());
        }
        self.answered_at_once(node, departure, epoch, reply);
        Ok(())
    }

    /// The operation that claims a flow.
    fn claim(&self, flow: usize, node: usize, epoch: u64, closing: bool) -> Operation {
        let (flow, owner) = (flow_key(flow), owner(node));
        if self.is_sabotaged(Sabotage::ClaimMakesEntry) {
            return Operation::Point { flow, owner, epoch, closing };
        }
        Operation::Claim { flow, owner, epoch, closing }
    }

    fn answered_at_once(
        &self,
        node: usize,
        departure: &mut Departure,
        epoch: u64,
        reply: Option<Reply>,
    ) {
        let steered = reply.and_then(|reply| read_reply(epoch, &reply, node, departure.target));
        if let Some(steered) = steered {
            departure.exporter.handle_steered(self.now_ms(), steered);
        }
    }

    /// Steering has answered.
    pub(super) fn departure_steered(
        &mut self,
        node: usize,
        key: MoveKey,
        answers_epoch: u64,
        reply: &Reply,
    ) -> Checked {
        let Some(departure) = self.nodes[node].departures.get(&key) else { return Ok(()) };
        let Some(steered) = read_reply(answers_epoch, reply, node, departure.target) else {
            return Ok(());
        };
        self.note(|| format!("n{node} {key}: {steered:?}"));
        self.drive_departure(node, key, |exporter, now_ms| {
            exporter.handle_steered(now_ms, steered);
        })
    }

    /// Claims the flow of a socket that is mute.
    pub(super) fn claim_arrival(
        &mut self,
        node: usize,
        key: MoveKey,
        arrival: &mut Arrival,
        epoch: u64,
    ) -> Checked {
        self.coverage.claims_of_importers += 1;
        let flow = arrival.socket.expect("the socket was made");
        let image = arrival.image.as_ref().expect("there is an image with the socket");
        // Steering did not see a FIN that came before it knew the flow.
        let closing = image.peer_finished && !self.is_sabotaged(Sabotage::ForgetUnreadFin);
        let operation = self.claim(flow, node, epoch, closing);
        let reply = self.ask(node, operation, Purpose::Arrival { key, epoch })?;
        let exporter = self.sessions[key.session].peer_of(node);
        let steered = if self.is_sabotaged(Sabotage::ServeUnclaimed) {
            Some(Steered { answers_epoch: epoch, epoch, owner: Owner::Importer })
        } else {
            reply.and_then(|reply| read_reply(epoch, &reply, exporter, node))
        };
        if let Some(steered) = steered {
            arrival.importer.handle_steered(self.now_ms(), steered);
        }
        Ok(())
    }

    /// Steering has answered.
    pub(super) fn arrival_steered(
        &mut self,
        node: usize,
        key: MoveKey,
        answers_epoch: u64,
        reply: &Reply,
    ) -> Checked {
        let exporter = self.sessions[key.session].peer_of(node);
        let Some(steered) = read_reply(answers_epoch, reply, exporter, node) else {
            return Ok(());
        };
        self.note(|| format!("n{node} {key}: {steered:?}"));
        self.drive_arrival(node, key, |importer, now_ms| importer.handle_steered(now_ms, steered))
    }
}

/// What steering's answer says to a move's owners; nothing if it asks to try again.
fn read_reply(
    answers_epoch: u64,
    reply: &Reply,
    exporter: usize,
    importer: usize,
) -> Option<Steered> {
    let (epoch, owner) = match (reply.result, reply.state) {
        (ResultCode::Busy | ResultCode::WrongIncarnation, _) => return None,
        (_, Some(state)) if state.owner == owner(importer) => (state.epoch, Owner::Importer),
        (_, Some(state)) if state.owner == owner(exporter) => (state.epoch, Owner::Exporter),
        (_, Some(state)) => (state.epoch, Owner::Other),
        (_, None) => (0, Owner::Nobody),
    };
    Some(Steered { answers_epoch, epoch, owner })
}
