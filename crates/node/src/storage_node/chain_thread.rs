//! The thread that owns this node's replicas: it performs the duties that
//! [`ashlar_object::chain`] gives the shell.
//!
//! It takes inputs in batches, lets the cores decide, makes everything they want persisted durable
//! with one sync, and only then tells them so. The storage's calls block this thread and nobody
//! else.

mod input;

pub(crate) use input::{ChainHandle, Input};

use super::{Metrics, views::Views};
use crate::peer::{Identity, Place, stage};
use ashlar_object::{
    Entry, Key, NodeIndex, PartitionIndex, StageId, Version,
    chain::{
        Message, Metadata, Neighbour, Newest, Options, Outcome, Output, Replica, Standing, Ticket,
        Write,
    },
};
use ashlar_replica::AbortOnPanic;
use ashlar_storage::{Batch, Engine, Item, StorageError};
use ashlar_wire::Frame;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

/// Inputs that share one sync.
const BATCH_INPUTS_MAX: usize = 512;
/// How often time-outs are looked at and releases that nothing else synced are written.
const TICK: Duration = Duration::from_millis(50);
/// Between two attempts to write to a full disk.
const DISK_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Entries of one partition that wait for their commit.
const WINDOW_ENTRIES_MAX: usize = 1024;
/// Bytes of inline bodies of one partition that wait for their commit.
const WINDOW_BYTES_MAX: usize = 16 << 20;
/// A successor is probed after this long without progress.
const RETRY_MS: u64 = 500;

/// Recovers all replicas of this node from `engine` and starts the thread. It ends when all
/// handles are gone, or after an error of the disk that makes further writes unsafe.
///
/// # Errors
/// When the storage cannot be read.
pub(crate) fn spawn(
    identity: Arc<Identity>,
    engine: Arc<dyn Engine>,
    views: Arc<Views>,
    metrics: Arc<Metrics>,
    io: Handle,
) -> Result<ChainHandle, StorageError> {
    let (handle, receiver) = ChainHandle::new();
    let mut thread = ChainThread {
        // Weak, so that the thread ends with the last handle outside.
        own_inputs: handle.downgrade(),
        identity,
        engine,
        views,
        metrics,
        io,
        started: Instant::now(),
        slots: BTreeMap::new(),
        successors: HashMap::new(),
        predecessors: HashMap::new(),
        writers: HashMap::new(),
        next_ticket: 0,
        shipping: HashSet::new(),
        batch: Batch::default(),
        has_space: true,
    };
    thread.recover()?;
    std::thread::Builder::new()
        .name("chain".into())
        .spawn(move || {
            let _guard = AbortOnPanic;
            thread.run(receiver);
        })
        .map_err(|source| StorageError::Io { path: "chain thread".into(), source })?;
    Ok(handle)
}

/// One partition of this node.
struct Slot {
    replica: Replica,
    place: Place,
    /// The standing that the log knows of.
    logged: Standing,
}

struct ChainThread {
    identity: Arc<Identity>,
    engine: Arc<dyn Engine>,
    views: Arc<Views>,
    metrics: Arc<Metrics>,
    /// Where bodies are shipped from.
    io: Handle,
    own_inputs: mpsc::WeakSender<Input>,
    /// The cores' time starts here.
    started: Instant,
    slots: BTreeMap<PartitionIndex, Slot>,
    successors: HashMap<NodeIndex, mpsc::Sender<Frame>>,
    predecessors: HashMap<NodeIndex, mpsc::Sender<Frame>>,
    writers: HashMap<Ticket, oneshot::Sender<Result<Outcome, StorageError>>>,
    next_ticket: u64,
    /// Bodies on their way to a successor: it asks again and again until they are there.
    shipping: HashSet<(PartitionIndex, Version)>,
    /// What the next sync makes durable.
    batch: Batch,
    /// Whether the disk had space for new objects when it was last asked.
    has_space: bool,
}

/// The storage as the head's core sees it.
struct EngineMetadata<'a>(&'a dyn Engine);

impl Metadata for EngineMetadata<'_> {
    type Error = StorageError;

    fn newest(&self, key: &Key) -> Result<Option<Newest>, StorageError> {
        self.0.newest(key)
    }
}

impl ChainThread {
    fn recover(&mut self) -> Result<(), StorageError> {
        self.has_space = self.engine.has_space()?;
        let identity = self.identity.clone();
        for partition in identity.cluster.map.partitions() {
            let Some(place) = identity.place_in(partition) else { continue };
            let options = Options {
                has_predecessor: place.predecessor.is_some(),
                has_successor: place.successor.is_some(),
                window_entries_max: WINDOW_ENTRIES_MAX,
                window_bytes_max: WINDOW_BYTES_MAX,
                retry_ms: RETRY_MS,
            };
            let mut replica = Replica::new(options, self.engine.recover(partition)?);
            replica.handle_space(self.has_space);
            let logged = replica.standing();
            self.slots.insert(partition, Slot { replica, place, logged });
            self.drain(partition);
        }
        Ok(())
    }

    fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(self.turn(&mut inputs)),
            Err(source) => Err(StorageError::Io { path: "chain thread".into(), source }),
        };
        self.views.stop_writes();
        if let Err(error) = result {
            tracing::error!(%error, "the disk failed: this node takes no more writes until it is restarted");
        }
    }

    async fn turn(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Result<(), StorageError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut ticked = false;
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    self.check_space();
                    self.handle_timeouts();
                    ticked = true;
                }
            }
            for _ in 1..BATCH_INPUTS_MAX {
                let Ok(input) = inputs.try_recv() else { break };
                self.handle(input);
            }
            // Releases alone can wait: a crash repeats them.
            let urgent = self.batch.items.iter().any(|item| matches!(item, Item::Entry { .. }));
            if urgent || (ticked && !self.batch.items.is_empty()) {
                self.sync()?;
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let now_ms = self.now_ms();
        match input {
            Input::Write { partition, write, reply } => {
                self.handle_write(now_ms, partition, write, reply);
            }
            Input::Message { partition, from, message } => {
                self.handle_message(now_ms, partition, from, message);
            }
            Input::SuccessorUp { node, link } => {
                self.successors.insert(node, link);
                self.handle_link(now_ms, node, true);
            }
            Input::SuccessorDown { node } => {
                self.successors.remove(&node);
                self.handle_link(now_ms, node, false);
            }
            Input::PredecessorUp { node, link } => {
                self.predecessors.insert(node, link);
            }
            Input::BodyShipped { partition, version, arrived } => {
                self.shipping.remove(&(partition, version));
                if arrived && let Some(slot) = self.slots.get_mut(&partition) {
                    slot.replica.handle_body_sent(version);
                    self.drain(partition);
                }
            }
            Input::Unnamed { stages } => self.remove_unnamed(&stages),
        }
    }

    /// Only this thread knows which bodies are about to be named: by entries that wait for the
    /// next sync.
    fn remove_unnamed(&self, stages: &[StageId]) {
        let named = |item: &Item| match item {
            Item::Entry { entry, .. } => entry.operation.change.stage(),
            _ => None,
        };
        let waiting: HashSet<_> = self.batch.items.iter().filter_map(named).collect();
        for stage in stages.iter().filter(|stage| !waiting.contains(stage)) {
            match self.engine.discard_stage(*stage) {
                Ok(()) => tracing::info!(%stage, "removed a body that no object names"),
                Err(error) => tracing::warn!(%stage, %error, "cannot remove an unnamed body"),
            }
        }
    }

    fn handle_write(
        &mut self,
        now_ms: u64,
        partition: PartitionIndex,
        write: Write,
        reply: oneshot::Sender<Result<Outcome, StorageError>>,
    ) {
        let slot = self.slots.get_mut(&partition).expect("the caller routes to this node's chains");
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let metadata = EngineMetadata(&*self.engine);
        if let Some(stage) = write.operation.change.stage()
            && !self.engine.has_stage(stage).unwrap_or(false)
        {
            // The client was so slow, or this thread, that the body was taken for forgotten.
            let _ = reply.send(Err(StorageError::Gone));
            return;
        }
        // Asked anew: much may have been written since the last tick.
        let decided = self.engine.has_space().and_then(|has_space| {
            slot.replica.handle_space(has_space);
            slot.replica.handle_write(now_ms, ticket, write, &metadata)
        });
        match decided {
            Ok(()) => {
                self.writers.insert(ticket, reply);
                self.drain(partition);
            }
            Err(error) => {
                // The client may have gone.
                let _ = reply.send(Err(error));
            }
        }
    }

    fn handle_message(
        &mut self,
        now_ms: u64,
        partition: PartitionIndex,
        from: NodeIndex,
        message: Message,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let neighbour = if slot.place.predecessor == Some(from) {
            Neighbour::Predecessor
        } else if slot.place.successor == Some(from) {
            Neighbour::Successor
        } else {
            return;
        };
        let body_present = match &message {
            Message::Prepare(entry) => match entry.operation.change.stage() {
                // A disk that cannot tell is asked again when the entry is sent again.
                Some(stage) => self.engine.has_stage(stage).unwrap_or(false),
                None => false,
            },
            _ => false,
        };
        slot.replica.handle_message(now_ms, neighbour, message, body_present);
        self.drain(partition);
    }

    fn handle_link(&mut self, now_ms: u64, node: NodeIndex, up: bool) {
        self.for_all(|slot| {
            if slot.place.successor == Some(node) {
                slot.replica.handle_link(now_ms, up);
            }
        });
    }

    /// Tells all replicas when the disk comes to lack space, or has it again: their heads must hear
    /// of it before the reserve is used up.
    fn check_space(&mut self) {
        let has_space = match self.engine.has_space() {
            Ok(has_space) => has_space,
            // The next write to it tells what is wrong.
            Err(error) => return tracing::warn!(%error, "cannot tell how much space is left"),
        };
        if has_space != self.has_space {
            self.has_space = has_space;
            if has_space {
                tracing::info!("the disk has space for new objects again");
            } else {
                tracing::warn!("the disk is full: its chains take no objects, only deletions");
            }
            self.for_all(|slot| slot.replica.handle_space(has_space));
        }
    }

    fn handle_timeouts(&mut self) {
        let now_ms = self.now_ms();
        self.for_all(|slot| {
            if slot.replica.poll_timeout().is_some_and(|at_ms| at_ms <= now_ms) {
                slot.replica.handle_timeout(now_ms);
            }
        });
        // Writers whose client gave up are forgotten by their reply at the latest.
        self.metrics.writers_waiting.set(self.writers.len() as i64);
    }

    fn for_all(&mut self, call: impl Fn(&mut Slot)) {
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        for partition in partitions {
            call(self.slots.get_mut(&partition).expect("the key is from the map"));
            self.drain(partition);
        }
    }

    /// Performs what a replica wants. What must be durable first waits in the batch.
    fn drain(&mut self, partition: PartitionIndex) {
        let slot = self.slots.get_mut(&partition).expect("the caller names a slot");
        let mut messages = Vec::new();
        let mut replies = Vec::new();
        let mut bodies = Vec::new();
        while let Some(output) = slot.replica.poll_output() {
            match output {
                Output::Persist(entry) => self.batch.items.push(Item::Entry { partition, entry }),
                Output::Release(entry) => self.batch.items.push(Item::Release { partition, entry }),
                Output::PersistJoined => self.batch.items.push(Item::Joined { partition }),
                Output::Send(to, message) => messages.push((to, message)),
                Output::SendBody(entry) => bodies.push(entry),
                Output::Reply(ticket, outcome) => replies.push((ticket, outcome)),
            }
        }
        if slot.replica.standing() != slot.logged {
            slot.logged = slot.replica.standing();
            log_standing(partition, slot.logged);
        }
        // Published before anybody is told: a write is acknowledged, here or by another node that
        // hears of it, only when reads see it.
        self.views.publish(partition, &slot.replica, slot.place);
        let place = slot.place;
        for (to, message) in messages {
            self.send(partition, place, to, message);
        }
        for (ticket, outcome) in replies {
            if let Some(reply) = self.writers.remove(&ticket) {
                // The client may have gone.
                let _ = reply.send(Ok(outcome));
            }
        }
        for entry in bodies {
            self.ship_body(partition, place, &entry);
        }
    }

    /// Sends a message; one that finds no link or no room is lost, and the core repeats it.
    fn send(&self, partition: PartitionIndex, place: Place, to: Neighbour, message: Message) {
        let link = match to {
            Neighbour::Predecessor => {
                place.predecessor.and_then(|node| self.predecessors.get(&node))
            }
            Neighbour::Successor => place.successor.and_then(|node| self.successors.get(&node)),
        };
        let frame = Frame::Chain(partition, message);
        if link.is_some_and(|link| link.try_send(frame).is_err()) {
            self.metrics.messages_dropped.inc();
        }
    }

    /// Makes the batch durable and tells the replicas.
    fn sync(&mut self) -> Result<(), StorageError> {
        let batch = std::mem::take(&mut self.batch);
        let begin = Instant::now();
        let mut failures = 0;
        while let Err(error) = self.engine.apply(&batch) {
            if !error.is_transient() {
                return Err(error);
            }
            tracing::error!(%error, "cannot write; will try again");
            failures += 1;
            self.views.stop_writes();
            std::thread::sleep(DISK_RETRY_DELAY);
        }
        if failures > 0 {
            tracing::info!("can write again");
            self.slots.iter().for_each(|(partition, slot)| {
                self.views.publish(*partition, &slot.replica, slot.place);
            });
        }
        self.metrics.sync_seconds.observe(begin.elapsed().as_secs_f64());
        self.metrics.sync_items.observe(batch.items.len() as f64);
        let mut persisted = BTreeMap::new();
        for item in &batch.items {
            if let Item::Entry { partition, entry } = item {
                persisted.insert(*partition, entry.version);
            }
        }
        let now_ms = self.now_ms();
        for (partition, version) in persisted {
            let slot = self.slots.get_mut(&partition).expect("the batch names slots");
            slot.replica.handle_persisted(now_ms, version);
            self.drain(partition);
        }
        Ok(())
    }

    fn ship_body(&mut self, partition: PartitionIndex, place: Place, entry: &Entry) {
        let (Some(stage), Some(successor)) = (entry.operation.change.stage(), place.successor)
        else {
            return;
        };
        let version = entry.version;
        if !self.shipping.insert((partition, version)) {
            return;
        }
        let (identity, engine) = (self.identity.clone(), self.engine.clone());
        let inputs = self.own_inputs.clone();
        self.io.spawn(async move {
            let sent = stage::send_again(&identity, &engine, successor, partition, stage).await;
            if let Err(error) = &sent {
                tracing::warn!(%error, %stage, "cannot ship a missing body");
            }
            if let Some(inputs) = inputs.upgrade() {
                let arrived = sent.is_ok();
                // If the thread has ended there is nobody to tell.
                let _ = inputs.send(Input::BodyShipped { partition, version, arrived }).await;
            }
        });
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

fn log_standing(partition: PartitionIndex, standing: Standing) {
    let partition = partition.0;
    match standing {
        Standing::Fresh => {}
        Standing::Joined => tracing::debug!(partition, "replica joined its chain"),
        Standing::Lost => tracing::error!(
            partition,
            "this node lacks writes that it acknowledged: its disk was lost or rolled back. The \
             partition is not served here; restore the data directory"
        ),
    }
}
