//! The thread of a node.

use crate::{
    AbortOnPanic, GroupStats, Journal, NodeConfig, NodeStats, Offload, OffloadError,
    call::{self, Call, Called, Caller},
    clock::{now_us, time_ms},
    dirty::Dirty,
    group::Group,
    io::Io,
    offload::shut_out_former,
    switch::{Switch, Switched},
    timers::Timers,
    udp::{DATAGRAM_BYTES_MAX, Udp},
    writer::{Finished, Writer},
};
use ashlar_kernel::replication::{Bell, Counters};
use ashlar_wire::replication::{
    DecodeError, Frame, HEADER_BYTES, Reassembly, Scope, decode, take_frame,
};
use foldhash::{HashMap, HashMapExt};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    io,
    net::SocketAddr,
    ops::ControlFlow,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
};

/// Between two looks at what the kernel dropped, in microseconds.
const LOOK_INTERVAL_US: u64 = 1_000_000;

/// Names of what wakes the thread.
const SOCKET: u64 = 0;
const CALL: u64 = 1;
const WRITER: u64 = 2;
const BELL: u64 = 3;

/// A node that runs until it is dropped.
pub struct Node {
    address: SocketAddr,
    stats: Arc<NodeStats>,
    groups: Vec<(u32, Arc<GroupStats>)>,
    switch: Switch,
    caller: Caller,
    thread: Option<JoinHandle<()>>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket, an event or a thread cannot be had.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A replica has nothing to begin from.
    #[error("group {group}: {source}")]
    Replica {
        /// The group.
        group: u32,
        /// Why.
        source: ashlar_vr::StartError,
    },
    /// Programs of a former process may still be at work, and cannot be shut out.
    #[error("programs of a former process: {0}")]
    Former(#[source] OffloadError),
    /// A group is to use what it cannot.
    #[error(transparent)]
    Offload(OffloadError),
    /// Two replicas of one group would have the same name.
    #[error("group {group} is there twice")]
    Twice {
        /// The group.
        group: u32,
    },
    /// No frame fits into so short a datagram, or no kernel sends so long a one.
    #[error("datagrams of {bytes} bytes: {} to {DATAGRAM_BYTES_MAX} are possible", 4 * HEADER_BYTES)]
    Datagram {
        /// The configured length.
        bytes: usize,
    },
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, StartError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, StartError> {
        self.map_err(|source| StartError::System { step, source: source.into() })
    }
}

impl Node {
    /// Binds the socket and starts.
    ///
    /// # Errors
    /// When something of the configuration, or of what it refers to, is not so that a node can start.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let NodeConfig { address, cluster, datagram_bytes_max, cpu, offload, groups: configs } =
            config;
        if let Some(offload) = &offload {
            shut_out_former(offload).map_err(StartError::Former)?;
        }
        if !(4 * HEADER_BYTES..=DATAGRAM_BYTES_MAX).contains(&datagram_bytes_max) {
            return Err(StartError::Datagram { bytes: datagram_bytes_max });
        }
        let socket = Udp::socket(address).step("bind the socket of replication")?;
        socket.warn_of_short_buffers().step("look at the socket of replication")?;
        let address = socket.address();
        let stats = Arc::new(NodeStats::default());
        let (mut groups, mut journals, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        let mut switched = Vec::new();
        for (place, mut config) in configs.into_iter().enumerate() {
            let group = config.group;
            if let Some(offload) = config.offload {
                let scope = Scope { cluster, group };
                let of = Switched { scope, place, mode: config.options.mode, offload };
                of.check(offload).map_err(StartError::Offload)?;
                switched.push(of);
            }
            journals.push(config.journal.take());
            let has_journal = journals.last().is_some_and(Option::is_some);
            groups.push(Group::new(now_us(), address, cluster, config, has_journal)?);
            if places.insert(group, groups.len() - 1).is_some() {
                return Err(StartError::Twice { group });
            }
        }
        let (caller, called) = call::pair().step("eventfd")?;
        let told: Vec<_> =
            groups.iter().map(|group| (group.number(), Arc::clone(&group.stats))).collect();
        let running = Arc::clone(&stats);
        let writer = Self::writer(journals, &stats).step("start the thread of journals")?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).step("epoll_create")?;
        let watch = |descriptor: std::os::fd::BorrowedFd<'_>, name: u64| {
            let name = EventData::new_u64(name);
            epoll::add(&epoll, descriptor, name, EventFlags::IN).step("epoll_ctl")
        };
        watch(socket.as_fd(), SOCKET)?;
        watch(called.event(), CALL)?;
        if let Some(writer) = &writer {
            watch(std::os::fd::AsFd::as_fd(writer.event()), WRITER)?;
        }
        let thread = thread::Builder::new().name("replication".into()).spawn(move || {
            let _guard = AbortOnPanic;
            if let Some(cpu) = cpu {
                pin(cpu);
            }
            let timers = Timers::new(groups.len());
            Loop {
                cluster,
                io: Io::new(Udp::new(socket), datagram_bytes_max),
                reassembly: Reassembly::default(),
                dirty: Dirty::all(groups.len()),
                groups,
                places,
                timers,
                writer,
                finished: Vec::new(),
                called,
                accelerated: Vec::new(),
                bell: None,
                epoll,
                stats: running,
                looked_us: 0,
            }
            .run();
        });
        let thread = Some(thread.step("start the thread of replication")?);
        let switch = Switch::new(offload, address, switched);
        switch.begin(&caller);
        Ok(Self { address, stats, groups: told, switch, caller, thread })
    }

    /// Has programs in the kernel do for a group's replica what `offload` says, from now on.
    ///
    /// # Errors
    /// When they cannot; what they did before, they do still.
    pub fn switch(&self, group: u32, offload: Offload) -> Result<(), OffloadError> {
        self.switch.set(&self.caller, group, offload)
    }

    /// What programs do for each group that may use them; nothing where the kernel did not take them.
    pub fn offloads(&self) -> Vec<(u32, Offload)> {
        self.switch.offloads()
    }

    /// What programs have counted; none if there are none.
    pub fn kernel_counters(&self) -> Option<Counters> {
        self.switch.counters()
    }

    fn writer(
        journals: Vec<Option<Box<dyn Journal>>>,
        stats: &Arc<NodeStats>,
    ) -> io::Result<Option<Writer>> {
        let has_any = journals.iter().any(Option::is_some);
        has_any.then(|| Writer::start(journals, Arc::clone(stats))).transpose()
    }

    /// Where its socket is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counts.
    pub fn stats(&self) -> &Arc<NodeStats> {
        &self.stats
    }

    /// What its replicas are, by group.
    pub fn groups(&self) -> &[(u32, Arc<GroupStats>)] {
        &self.groups
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.caller.call(Call::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic has ended the process");
        }
    }
}

fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    if let Err(error) = sched_setaffinity(None, &cpus) {
        tracing::warn!(cpu, %error, "the thread of replication is not bound to its processor");
    }
}

/// What the thread owns.
struct Loop {
    cluster: u64,
    io: Io,
    reassembly: Reassembly,
    groups: Vec<Group>,
    /// Of groups, by their number.
    places: HashMap<u32, usize>,
    /// Groups that may have something to do.
    dirty: Dirty,
    timers: Timers,
    writer: Option<Writer>,
    /// What became of writes; kept for its room.
    finished: Vec<Finished>,
    /// What is asked of the thread by others.
    called: Called,
    /// The places of groups that share memory with programs.
    accelerated: Vec<usize>,
    /// Rung by programs when all of them sleep.
    bell: Option<Bell>,
    epoll: OwnedFd,
    stats: Arc<NodeStats>,
    /// When the kernel was last asked what it dropped, in microseconds.
    looked_us: u64,
}

impl Loop {
    fn run(mut self) {
        let mut woken = Woken::default();
        loop {
            let now_us = now_us();
            if woken.by_call && self.answer_calls(now_us).is_break() {
                return;
            }
            if woken.by_bell
                && let Some(bell) = &mut self.bell
            {
                bell.drain();
            }
            for place in &self.accelerated {
                self.groups[*place].look(now_us);
                self.dirty.add(*place);
            }
            self.drain(now_us);
            let has_more = self.receive(now_us);
            if woken.by_writer {
                self.take_finished(now_us);
            }
            while let Some(place) = self.timers.take_due(now_us) {
                self.groups[place].handle_timeout(now_us);
                self.dirty.add(place);
            }
            self.drain(now_us);
            self.look(now_us);
            woken = self.sleep(has_more);
        }
    }

    /// Does what others ask of the thread.
    fn answer_calls(&mut self, now_us: u64) -> ControlFlow<()> {
        while let Some(call) = self.called.next() {
            match call {
                Call::Stop => return ControlFlow::Break(()),
                Call::Ring(bell) => {
                    let name = EventData::new_u64(BELL);
                    match epoll::add(&self.epoll, bell.as_fd(), name, EventFlags::IN) {
                        Ok(()) => self.bell = Some(bell),
                        // Programs wake nobody then, so that nothing may sleep: none is used.
                        Err(error) => tracing::error!(%error, "the bell of programs"),
                    }
                }
                Call::Switch { place, offload, shared, is_single, done } => {
                    self.io.udp().send_single(is_single);
                    if self.bell.is_some() {
                        if shared.is_some() {
                            self.accelerated.push(place);
                        }
                        self.groups[place].switch(now_us, offload, shared);
                        self.dirty.add(place);
                    }
                    // Who asked waits for this, and may have given up.
                    let _ = done.send(self.bell.is_some());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Gives replicas what has come. True if more may be there.
    fn receive(&mut self, now_us: u64) -> bool {
        let time_ms = time_ms();
        let Self { cluster, io, reassembly, groups, places, dirty, stats, .. } = self;
        let received = io.udp().receive(|from, mut datagram| {
            let mut frames = 0;
            while !datagram.is_empty() {
                let frame = take_frame(&mut datagram);
                frames += 1;
                let decoded = match reassembly.take(*cluster, from, frame) {
                    Ok(None) => continue,
                    Ok(Some(frame)) => decode(*cluster, &frame),
                    Err(error) => Err(error),
                };
                let (scope, _, frame) = match decoded {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        stats.foreign.fetch_add(1, Relaxed);
                        if error != DecodeError::Foreign {
                            tracing::debug!(%from, %error, "a datagram is dropped");
                        }
                        return;
                    }
                };
                let Some(&place) = places.get(&scope.group) else {
                    stats.unknown_group.fetch_add(1, Relaxed);
                    continue;
                };
                if matches!(frame, Frame::Replica(_)) && (frames > 1 || !datagram.is_empty()) {
                    // Replicas send each of these alone: many in one would ask for more than anybody can answer.
                    stats.foreign.fetch_add(1, Relaxed);
                    continue;
                }
                groups[place].handle_frame(now_us, time_ms, from, frame);
                dirty.add(place);
            }
        });
        match received {
            Ok(received) => {
                self.stats.received.fetch_add(received.datagrams, Relaxed);
                received.calls_for_more
            }
            Err(error) => {
                tracing::warn!(%error, "datagrams cannot be received");
                false
            }
        }
    }

    /// Tells replicas what is persistent.
    fn take_finished(&mut self, now_us: u64) {
        let Some(writer) = &self.writer else { return };
        writer.take_finished(&mut self.finished);
        for Finished { group: place, result } in self.finished.drain(..) {
            match result {
                Ok(write) => self.groups[place].handle_persisted(now_us, write),
                Err(error) => {
                    let group = self.groups[place].number();
                    tracing::error!(group, %error, "a replica stops");
                    self.groups[place].fail(now_us);
                }
            }
            self.dirty.add(place);
        }
    }

    /// Does what replicas want done.
    fn drain(&mut self, now_us: u64) {
        for place in self.dirty.drain() {
            let group = &mut self.groups[place];
            group.drain(now_us, place, &mut self.io, self.writer.as_mut());
            self.timers.set(place, group.timeout());
        }
        // The disk works while datagrams are sent.
        if let Some(writer) = &mut self.writer {
            writer.hand_over();
        }
        let groups = &mut self.groups;
        let sent = self.io.flush(|place, datagrams, carriers| {
            groups[place].take_unreached(now_us, datagrams, carriers)
        });
        self.stats.sent.fetch_add(sent.datagrams, Relaxed);
        self.stats.refused.fetch_add(sent.refused, Relaxed);
    }

    fn look(&mut self, now_us: u64) {
        if now_us >= self.looked_us + LOOK_INTERVAL_US {
            self.looked_us = now_us;
            self.stats.dropped.store(self.io.udp().dropped(), Relaxed);
        }
    }

    /// Waits until something comes, or a replica wants to be woken; not if more is there already.
    fn sleep(&self, has_more: bool) -> Woken {
        let timer_us = self.timers.next_us().map(|at_us| at_us.saturating_sub(now_us()));
        let wait_us = if has_more { Some(0) } else { timer_us };
        let timeout = wait_us.map(|wait_us| Timespec {
            tv_sec: (wait_us / 1_000_000) as i64,
            tv_nsec: (wait_us % 1_000_000 * 1_000) as i64,
        });
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 8];
        // Interrupted, it has heard of nothing, and comes back soon.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) else {
            return Woken::default();
        };
        let is_named = |name| events.iter().any(|event| event.data.u64() == name);
        Woken { by_call: is_named(CALL), by_writer: is_named(WRITER), by_bell: is_named(BELL) }
    }
}

/// Why the thread does not sleep any more. The socket is looked at in any case.
#[derive(Clone, Copy, Default)]
struct Woken {
    by_call: bool,
    by_writer: bool,
    by_bell: bool,
}
