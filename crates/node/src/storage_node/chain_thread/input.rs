//! What the chain thread takes in, and the way to it.

use ashlar_object::{
    NodeIndex, PartitionIndex, StageId, Version,
    chain::{Message, Outcome, Write},
};
use ashlar_storage::StorageError;
use ashlar_wire::Frame;
use tokio::sync::{mpsc, oneshot};

/// Inputs that wait for the thread; beyond, whoever sends waits.
const INPUTS_MAX: usize = 4096;

/// What the thread takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A client's write.
    Write {
        /// The partition of its key.
        partition: PartitionIndex,
        /// Key, change and conditions.
        write: Write,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Outcome, StorageError>>,
    },
    /// A message of a partition's chain.
    Message {
        /// The partition.
        partition: PartitionIndex,
        /// Who sent it.
        from: NodeIndex,
        /// What it says.
        message: Message,
    },
    /// The link to a successor is up.
    SuccessorUp {
        /// The successor.
        node: NodeIndex,
        /// Where messages for it go.
        link: mpsc::Sender<Frame>,
    },
    /// The link to a successor is down.
    SuccessorDown {
        /// The successor.
        node: NodeIndex,
    },
    /// A predecessor has connected; replaces an older connection of its.
    PredecessorUp {
        /// The predecessor.
        node: NodeIndex,
        /// Where messages for it go.
        link: mpsc::Sender<Frame>,
    },
    /// The shipping of a body that a successor lacked has ended.
    BodyShipped {
        /// The partition of its entry.
        partition: PartitionIndex,
        /// The entry.
        version: Version,
        /// Whether it is there now.
        arrived: bool,
    },
    /// Bodies that no entry on the disk names, long after their writes must have come.
    Unnamed {
        /// At most [`crate::storage_node::sweep::BODIES_MAX`].
        stages: Vec<StageId>,
    },
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct ChainHandle {
    inputs: mpsc::Sender<Input>,
}

impl ChainHandle {
    /// A way to a thread, and where that receives.
    pub(super) fn new() -> (Self, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs }, receiver)
    }

    /// A way that does not keep the thread from ending.
    pub(super) fn downgrade(&self) -> mpsc::WeakSender<Input> {
        self.inputs.downgrade()
    }

    /// Hands an input over, waiting while the thread is busy; false if it has ended.
    pub(crate) async fn send(&self, input: Input) -> bool {
        self.inputs.send(input).await.is_ok()
    }

    /// Room for an input, waiting while the thread is busy; none if it has ended.
    pub(crate) async fn reserve(&self) -> Option<mpsc::Permit<'_, Input>> {
        self.inputs.reserve().await.ok()
    }

    /// Whether the thread has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.inputs.is_closed()
    }
}
