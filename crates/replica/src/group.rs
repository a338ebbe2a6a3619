//! One group's replica at its node.

use crate::{Beginning, GroupConfig, GroupStats, Role, io::Io, node::StartError, writer::Writer};
use ashlar_vr::{ClientId, Output, ReadId, Replica, Service, Start, Status, View};
use ashlar_wire::replication::{Epoch, Found, Frame, Read, Scope};
use foldhash::{HashMap, HashMapExt};
use std::{net::SocketAddr, sync::Arc};

/// Clients whose addresses are remembered, at most: who is forgotten asks again.
const CLIENTS_MAX: usize = 1 << 17;

type BoxedService = Box<dyn Service + Send>;

/// A replica, and who waits for it.
pub(crate) struct Group {
    scope: Scope,
    /// This node.
    address: SocketAddr,
    replica: Replica<BoxedService>,
    /// Where clients' last requests came from.
    clients: HashMap<ClientId, SocketAddr>,
    /// Who reads, and the client's name for it.
    reads: HashMap<ReadId, (SocketAddr, u64)>,
    last_read: u64,
    /// Clients that ask who the members are; answered on the next drain.
    askers: Vec<SocketAddr>,
    has_journal: bool,
    /// Its view, when it was last looked at.
    view: View,
    /// Its journal failed: it does nothing any more.
    is_failed: bool,
    /// Its successors do not need it, which operators were told.
    is_dispensable: bool,
    pub(crate) stats: Arc<GroupStats>,
}

impl Group {
    /// The replica, whose outputs wait. The journal is the writer's.
    pub(crate) fn new(
        now_us: u64,
        address: SocketAddr,
        cluster: u64,
        config: GroupConfig,
        has_journal: bool,
    ) -> Result<Self, StartError> {
        let GroupConfig { group, options, beginning, journal: _, service } = config;
        let start = match beginning {
            Beginning::New(configuration) => Start::New(configuration),
            Beginning::Join => Start::Join,
            Beginning::Lost(promise) => Start::Lost { promise, nonce: rand::random() },
            Beginning::Restored(restored) => Start::Restored(restored),
        };
        let replica = Replica::new(now_us, address, options, rand::random(), start, service);
        let replica = replica.map_err(|source| StartError::Replica { group, source })?;
        let stats = Arc::new(GroupStats::default());
        stats.note(&replica);
        let (view, role) = (replica.view(), stats.role().name());
        tracing::info!(group, %view, role, head = replica.log().head_op(), "the replica begins");
        Ok(Self {
            scope: Scope { cluster, group },
            address,
            replica,
            clients: HashMap::new(),
            reads: HashMap::new(),
            last_read: 0,
            askers: Vec::new(),
            has_journal,
            view,
            is_failed: false,
            is_dispensable: false,
            stats,
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.scope.group
    }

    pub(crate) fn handle_frame(
        &mut self,
        now_us: u64,
        time_ms: u64,
        from: SocketAddr,
        frame: Frame,
    ) {
        if self.is_failed {
            return;
        }
        match frame {
            Frame::Replica(message) => self.replica.handle_message(now_us, from, message),
            Frame::Request(request) => {
                if self.clients.len() >= CLIENTS_MAX {
                    self.clients.clear();
                }
                self.clients.insert(request.client, from);
                self.replica.handle_request(now_us, time_ms, request);
            }
            Frame::Read(Read { id, age_us, question }) => {
                self.last_read += 1;
                let read = ReadId(self.last_read);
                self.reads.insert(read, (from, id));
                match age_us {
                    None => self.replica.handle_read(now_us, read, question),
                    Some(age_us) => {
                        self.replica.handle_stale_read(now_us, read, &question, age_us);
                    }
                }
            }
            Frame::GetMembers => self.askers.push(from),
            // Answers are for clients.
            Frame::Reply(_) | Frame::Found(_) | Frame::Members(_) => {}
        }
    }

    /// Tells clients who the members are, as far as this replica knows: also when it is none any more.
    fn tell_members(&mut self, sender: Option<usize>, io: &mut Io) {
        // Who has never been in an epoch knows nobody.
        if !self.askers.is_empty() && self.replica.status() != Status::Joining {
            let members = self.replica.configuration().members().to_vec();
            let frame = Frame::Members(Epoch { view: self.replica.view(), members });
            io.send(self.scope, sender, &frame, &self.askers.iter().copied());
        }
        self.askers.clear();
    }

    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        if !self.is_failed {
            self.replica.handle_timeout(now_us);
        }
    }

    pub(crate) fn handle_persisted(&mut self, now_us: u64, write: u64) {
        self.replica.handle_persisted(now_us, write);
    }

    /// Stops for good: what it would say might not be so after a restart.
    pub(crate) fn fail(&mut self) {
        self.is_failed = true;
        self.stats.set_role(Role::Failed);
    }

    /// When it wants to be woken, in microseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.replica.poll_timeout().filter(|_| !self.is_failed)
    }

    /// Does what there is to do. `place` is the group's place at its node.
    pub(crate) fn drain(
        &mut self,
        now_us: u64,
        place: usize,
        io: &mut Io,
        mut writer: Option<&mut Writer>,
    ) {
        if self.is_failed {
            return;
        }
        let sender = self.replica.configuration().place_of(self.address);
        self.tell_members(sender, io);
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Send { to, message } => {
                    io.send(self.scope, sender, &Frame::Replica(message), &[to].into_iter());
                }
                Output::Multicast { members, to, message } => {
                    let to = to.iter().map(|place| members.members()[place]);
                    io.send(self.scope, sender, &Frame::Replica(message), &to);
                }
                Output::Reply(reply) => {
                    if let Some(to) = self.clients.get(&reply.client) {
                        io.send_packed(self.scope, sender, &Frame::Reply(reply), *to);
                    }
                }
                Output::Read { id, answer } => {
                    let (to, id) = self.reads.remove(&id).expect("a read is answered once");
                    let found = Frame::Found(Found { id, view: self.replica.view(), answer });
                    io.send_packed(self.scope, sender, &found, to);
                }
                Output::Persist { number, write } => match &mut writer {
                    Some(writer) if self.has_journal => writer.write(place, number, write),
                    // Nothing of it survives, and nobody was promised that it would.
                    _ => self.replica.handle_persisted(now_us, number),
                },
            }
        }
        self.note();
        if let Some(op) = self.replica.divergence() {
            let group = self.number();
            tracing::error!(
                group,
                op,
                "this log differs from the leader's, so one of their disks was changed: the replica stops"
            );
            // From here on it shows that it has failed, whatever its replica would say.
            self.fail();
        }
    }

    /// Shows what the replica is now, and tells operators of what seldom changes.
    fn note(&mut self) {
        let before = (self.stats.role(), self.view);
        self.stats.note(&self.replica);
        self.view = self.replica.view();
        let (role, view) = (self.stats.role(), self.view);
        if !std::mem::replace(&mut self.is_dispensable, self.replica.is_dispensable())
            && self.is_dispensable
        {
            let group = self.scope.group;
            tracing::info!(
                group,
                "a quorum of the next members has everything: this replica may be switched off"
            );
        }
        if (role, view) != before {
            let (group, role) = (self.scope.group, role.name());
            tracing::info!(group, %view, role, "the replica's view or role has changed");
        }
    }
}
