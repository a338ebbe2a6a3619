//! An operator who changes the members of the group.

use super::world::{Checked, Event, World};
use ashlar_vr::{Client, ClientId, ClientOutput, Kind, Reply, Status};
use std::net::SocketAddr;

/// After so long without an answer a request is repeated, in microseconds.
const WAIT_US: u64 = 50_000;

/// The operator's side of a change that is under way.
#[derive(Debug, Default)]
pub(super) struct Operator {
    client: Option<(ClientId, Client)>,
}

impl Operator {
    /// Whether a reply is for the operator.
    pub(super) fn is_client(&self, id: ClientId) -> bool {
        self.client.as_ref().is_some_and(|(own, _)| *own == id)
    }

    /// Whether a change is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.client.is_some()
    }
}

impl World {
    /// Asks for other members, if the present ones are well.
    pub(super) fn reconfigure(&mut self) -> Checked {
        if self.operator.is_busy() || !self.is_epoch_settled() {
            return Ok(());
        }
        let present = self.members();
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        let count = (1 + 2 * self.random.index(3)).min(hosts.len());
        let mut next: Vec<SocketAddr> = Vec::new();
        while next.len() < count {
            let host = hosts.swap_remove(self.random.index(hosts.len()));
            next.push(self.hosts[host].address);
        }
        let has_room = next.iter().any(|address| present.contains(address));
        if !has_room {
            return Ok(());
        }
        self.record(|| format!("the operator asks for {next:?}"));
        let text: Vec<String> = next.iter().map(SocketAddr::to_string).collect();
        let (now_us, id) = (self.queue.now_us(), ClientId(self.random.below(u64::MAX)));
        let mut client = Client::new(now_us, id, present, WAIT_US);
        client.request(now_us, Kind::Reconfigure, text.join(" ").into());
        self.operator.client = Some((id, client));
        self.pump_operator()
    }

    /// Whether a quorum of the latest epoch takes part in it, and nobody else is asked any more.
    pub(super) fn is_epoch_settled(&self) -> bool {
        let members = self.members();
        let latest = self.replicas().map(|replica| replica.configuration().epoch()).max();
        let inside = self.replicas().filter(|replica| {
            replica.status() == Status::Normal && Some(replica.configuration().epoch()) == latest
        });
        2 * inside.count() > members.len()
    }

    fn pump_operator(&mut self) -> Checked {
        let party = self.plan.hosts() + self.plan.clients();
        while let Some((_, client)) = self.operator.client.as_mut()
            && let Some(output) = client.poll_output()
        {
            match output {
                ClientOutput::Send { to, request } => self.send_request(party, to, &request),
                ClientOutput::Done { .. } | ClientOutput::SessionLost { .. } => {
                    self.operator.client = None
                }
            }
        }
        if let Some(at_us) =
            self.operator.client.as_ref().and_then(|(_, client)| client.poll_timeout())
        {
            self.queue.push_at(at_us, Event::OperatorTimeout);
        }
        Ok(())
    }

    /// A reply arrives.
    pub(super) fn operator_reply(&mut self, reply: Reply) -> Checked {
        let now_us = self.queue.now_us();
        if let Some((_, client)) = self.operator.client.as_mut() {
            client.handle_reply(now_us, reply);
        }
        self.pump_operator()
    }

    /// The operator's client may repeat itself.
    pub(super) fn operator_timeout(&mut self) -> Checked {
        let (now_us, members) = (self.queue.now_us(), self.members());
        if let Some((_, client)) = self.operator.client.as_mut()
            && client.poll_timeout().is_some_and(|at_us| at_us <= now_us)
        {
            if client.members() != members {
                client.set_members(members);
            }
            client.handle_timeout(now_us);
            return self.pump_operator();
        }
        Ok(())
    }
}
