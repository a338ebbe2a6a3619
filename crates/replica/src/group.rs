//! One group's replica at its node.

use crate::{
    Beginning, GroupConfig, GroupStats, Offload, Role,
    io::Io,
    node::StartError,
    offload::{Shared, near},
    writer::Writer,
};
use ashlar_vr::{
    Accelerated, ClientId, Configuration, MEMBERS_MAX, Members, Output, ReadId, Replica, Service,
    Start, Status, View,
};
use ashlar_wire::replication::{Epoch, Found, Frame, Read, Scope};
use foldhash::{HashMap, HashMapExt};
use std::{net::SocketAddr, sync::Arc};

/// Clients whose addresses are remembered, at most: who is forgotten asks again.
const CLIENTS_MAX: usize = 1 << 17;

/// So long a member that programs could make no copies for is sent to one by one, in microseconds.
const UNREACHED_US: u64 = 1_000_000;

type BoxedService = Box<dyn Service + Send>;

/// A replica, and who waits for it.
pub(crate) struct Group {
    scope: Scope,
    /// This node.
    address: SocketAddr,
    replica: Accelerated<BoxedService, Shared>,
    /// Programs copy what it sends to several members.
    fans_out: bool,
    /// The members that their copies reach, and of which epoch.
    near: (Members, Option<u32>),
    /// Members that programs could make no copies for lately, and until when they are not asked to, in microseconds.
    unreached: (Members, u64),
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
        let GroupConfig { group, options, beginning, journal: _, offload: _, service } = config;
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
            replica: Accelerated::new(replica),
            fans_out: false,
            near: (Members::NONE, None),
            unreached: (Members::NONE, 0),
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
            Frame::Replica(message) => {
                self.replica.input(now_us, |replica| replica.handle_message(now_us, from, message));
            }
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
        let replica = self.replica.replica();
        if !self.askers.is_empty() && replica.status() != Status::Joining {
            let members = replica.configuration().members().to_vec();
            let frame = Frame::Members(Epoch { view: replica.view(), members });
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
        self.replica.input(now_us, |replica| replica.handle_persisted(now_us, write));
    }

    /// Looks at what programs have done, if there are any.
    pub(crate) fn look(&mut self, now_us: u64) {
        if !self.is_failed {
            self.replica.look(now_us);
        }
    }

    /// Has programs do what is asked for from now on. `shared` is the memory that they share with this replica, if it has none yet.
    pub(crate) fn switch(&mut self, now_us: u64, offload: Offload, shared: Option<Shared>) {
        if self.is_failed {
            return;
        }
        (self.fans_out, self.near.1) = (offload.fan_out, None);
        match shared {
            Some(shared) => self.replica.accelerate(shared, offload.allowed()),
            None => self.replica.allow(offload.allowed()),
        }
        self.replica.settle(now_us);
        let group = self.scope.group;
        tracing::info!(group, %offload, "programs in the kernel do this for the replica");
    }

    /// The members that programs have made no copies for, of so many datagrams that were addressed to `carriers`: they are not asked to
    /// for a while. A datagram that no program has seen did not leave: its carrier's Ethernet address is not known.
    pub(crate) fn take_unreached(
        &mut self,
        now_us: u64,
        datagrams: u64,
        carriers: Members,
    ) -> Members {
        let Some(shared) = self.replica.fast_path_mut() else { return Members::NONE };
        let (seen, places) = shared.take_fanned_out();
        let places = (0..MEMBERS_MAX).filter(|place| places >> place & 1 != 0);
        let missed = places.fold(Members::NONE, Members::with);
        let all_left = seen >= datagrams;
        let away = if all_left { missed } else { carriers };
        if !away.is_empty() {
            let (known, until_us) = self.unreached;
            let known = if now_us < until_us { known } else { Members::NONE };
            self.unreached = (away.iter().fold(known, Members::with), now_us + UNREACHED_US);
        }
        if all_left { missed } else { Members::first(MEMBERS_MAX) }
    }

    /// Those of several members that programs make copies for: in the epoch that programs know.
    fn copied(&mut self, now_us: u64, members: &Configuration, to: Members) -> Members {
        if !self.fans_out || !self.replica.knows(members.epoch()) {
            return Members::NONE;
        }
        if self.near.1 != Some(members.epoch()) {
            self.near = (near(self.address, members.members()), Some(members.epoch()));
        }
        let (unreached, until_us) = self.unreached;
        let is_away = |place: &usize| now_us < until_us && unreached.contains(*place);
        let copied = to.iter().filter(|place| self.near.0.contains(*place) && !is_away(place));
        let copied = copied.fold(Members::NONE, Members::with);
        // For one alone there is nothing to copy.
        if copied.len() > 1 { copied } else { Members::NONE }
    }

    fn multicast(
        &mut self,
        now_us: u64,
        place: usize,
        io: &mut Io,
        (members, to): (&Arc<Configuration>, Members),
        frame: &Frame,
        sender: Option<usize>,
    ) {
        let copied = self.copied(now_us, members, to);
        if !copied.is_empty() {
            io.fan_out(self.scope, sender, frame, place, (members, copied));
        }
        let rest = to.iter().filter(move |place| !copied.contains(*place));
        let mut rest = rest.map(|place| members.members()[place]).peekable();
        if rest.peek().is_some() {
            io.send(self.scope, sender, frame, &rest);
        }
    }

    /// Stops for good: what it would say might not be so after a restart.
    pub(crate) fn fail(&mut self, now_us: u64) {
        self.is_failed = true;
        self.replica.decelerate(now_us);
        self.stats.set_role(Role::Failed);
    }

    /// When it wants to be woken, in microseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.replica.poll_timeout().filter(|_| !self.is_failed)
    }

    /// Does what there is to do, and lets programs in again. `place` is the group's place at its node.
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
        let sender = self.replica.replica().configuration().place_of(self.address);
        self.tell_members(sender, io);
        if self.stops(now_us) {
            return;
        }
        self.perform(now_us, place, sender, io, writer.as_deref_mut());
        self.replica.settle(now_us);
        if self.stops(now_us) {
            return;
        }
        // What programs had taken may leave something to be done.
        self.perform(now_us, place, sender, io, writer);
        self.note();
    }

    /// Stops the replica if its log differs from the leader's: it says nothing more.
    fn stops(&mut self, now_us: u64) -> bool {
        let Some(op) = self.replica.replica().divergence() else { return false };
        let group = self.number();
        tracing::error!(
            group,
            op,
            "this log differs from the leader's, so one of their disks was changed: the replica stops"
        );
        self.note();
        // From here on it shows that it has failed, whatever its replica would say.
        self.fail(now_us);
        true
    }

    /// Does what the replica wants done.
    fn perform(
        &mut self,
        now_us: u64,
        place: usize,
        sender: Option<usize>,
        io: &mut Io,
        mut writer: Option<&mut Writer>,
    ) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Send { to, message } => {
                    io.send(self.scope, sender, &Frame::Replica(message), &[to].into_iter());
                }
                Output::Multicast { members, to, message } => {
                    let frame = Frame::Replica(message);
                    self.multicast(now_us, place, io, (&members, to), &frame, sender);
                }
                Output::Reply(reply) => {
                    if let Some(to) = self.clients.get(&reply.client) {
                        io.send_packed(self.scope, sender, &Frame::Reply(reply), *to);
                    }
                }
                Output::Read { id, answer } => {
                    let (to, id) = self.reads.remove(&id).expect("a read is answered once");
                    let view = self.replica.replica().view();
                    let found = Frame::Found(Found { id, view, answer });
                    io.send_packed(self.scope, sender, &found, to);
                }
                Output::Persist { number, write } => match &mut writer {
                    Some(writer) if self.has_journal => writer.write(place, number, write),
                    // Nothing of it survives, and nobody was promised that it would.
                    _ => self.handle_persisted(now_us, number),
                },
            }
        }
    }

    /// Shows what the replica is now, and tells operators of what seldom changes.
    fn note(&mut self) {
        let before = (self.stats.role(), self.view);
        let replica = self.replica.replica();
        self.stats.note(replica);
        self.view = replica.view();
        let (role, view) = (self.stats.role(), self.view);
        if !std::mem::replace(&mut self.is_dispensable, replica.is_dispensable())
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
