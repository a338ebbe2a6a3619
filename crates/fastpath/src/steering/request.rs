//! What user space makes control frames of, and reads out of them.

use super::control::{
    ControlError, ControlFrame, ControlKey, DIRECTION_REPLY, DIRECTION_REQUEST, FLAG_CLOSING,
    FLAG_PRESENT, MAGIC, OperationCode, ResultCode, VERSION,
};
use super::flow::{Entry, FlowKey, Owner};
use zerocopy::FromBytes as _;
use zerocopy::little_endian::{U16, U32, U64};

/// What to do with a flow. Absolute and numbered: doing it twice changes nothing more, and an older one never undoes a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The flow's frames go to this owner.
    Point {
        /// Which flow.
        flow: FlowKey,
        /// Who has its socket.
        owner: Owner,
        /// Higher than any before for this connection; never 0.
        epoch: u64,
        /// The client has finished already: its FIN came before steering knew the flow.
        closing: bool,
    },
    /// As Point, if the table has an entry of the flow. Of all who claim an epoch, one gets it: an owner that has it owns the flow
    /// whatever is lost, for the table never gives what it does not remember.
    Claim {
        /// Which flow.
        flow: FlowKey,
        /// Who claims it.
        owner: Owner,
        /// Higher than the entry's; never 0.
        epoch: u64,
        /// As in Point.
        closing: bool,
    },
    /// The flow's frames go to the host's own stack again.
    Forget {
        /// Which flow.
        flow: FlowKey,
        /// At least the entry's, or the entry stays; never 0.
        epoch: u64,
    },
    /// As Forget, if the entry is still exactly of this epoch and time.
    Expire {
        /// Which flow.
        flow: FlowKey,
        /// The entry's epoch; never 0.
        epoch: u64,
        /// The entry's time.
        last_seen_ns: u64,
    },
    /// Changes nothing.
    Query {
        /// Which flow.
        flow: FlowKey,
    },
}

impl Operation {
    /// Which flow it is about.
    pub const fn flow(&self) -> FlowKey {
        match self {
            Self::Point { flow, .. }
            | Self::Claim { flow, .. }
            | Self::Forget { flow, .. }
            | Self::Expire { flow, .. }
            | Self::Query { flow } => *flow,
        }
    }

    /// Which kind it is.
    pub const fn code(&self) -> OperationCode {
        match self {
            Self::Point { .. } => OperationCode::Point,
            Self::Claim { .. } => OperationCode::Claim,
            Self::Forget { .. } => OperationCode::Forget,
            Self::Expire { .. } => OperationCode::Expire,
            Self::Query { .. } => OperationCode::Query,
        }
    }
}

/// A request, before it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The node that asks.
    pub sender: u16,
    /// Never 0, and never twice the same from one sender: start from the wall clock, so that it also grows over restarts.
    pub counter: u64,
    /// The table's life that is meant; 0 asks for it and does nothing else.
    pub incarnation: u64,
    /// What to do.
    pub operation: Operation,
}

impl Request {
    /// Makes the frame.
    ///
    /// # Panics
    ///
    /// If the counter is 0, the epoch is 0, or the owner's address is not one of a single host.
    pub fn seal(&self, key: &ControlKey) -> ControlFrame {
        assert!(self.counter != 0, "a counter of 0");
        let (owner, epoch, last_seen_ns, closing) = match self.operation {
            Operation::Point { owner, epoch, closing, .. }
            | Operation::Claim { owner, epoch, closing, .. } => {
                assert!(owner.mac.is_unicast(), "{}: not the address of one host", owner.mac);
                (owner, epoch, 0, closing)
            }
            Operation::Forget { epoch, .. } => (Owner::from_bits(0), epoch, 0, false),
            Operation::Expire { epoch, last_seen_ns, .. } => {
                (Owner::from_bits(0), epoch, last_seen_ns, false)
            }
            Operation::Query { .. } => (Owner::from_bits(0), 0, 0, false),
        };
        let code = self.operation.code();
        assert!(epoch != 0 || code == OperationCode::Query, "an epoch of 0");
        let flow = self.operation.flow();
        let mut frame = ControlFrame {
            magic: U32::new(MAGIC),
            version: VERSION,
            direction: DIRECTION_REQUEST,
            operation: code as u8,
            sender: U16::new(self.sender),
            owner_id: U16::new(owner.id),
            client_port: U16::new(flow.client_port),
            service_port: U16::new(flow.service_port),
            counter: U64::new(self.counter),
            incarnation: U64::new(self.incarnation),
            epoch: U64::new(epoch),
            last_seen_ns: U64::new(last_seen_ns),
            client_address: flow.client_address,
            service_address: flow.service_address,
            owner_mac: owner.mac.0,
            flags: if closing { FLAG_CLOSING } else { 0 },
            ..ControlFrame::ZERO
        };
        frame.tag = U64::new(frame.tag_under(key.words()));
        frame
    }
}

/// What the table holds about a flow, as a reply tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowState {
    /// Where the flow's frames go.
    pub owner: Owner,
    /// The epoch of the Point that said so.
    pub epoch: u64,
    /// Whether the client sent a FIN or RST.
    pub closing: bool,
    /// When the last frame came, in nanoseconds since the steering host started.
    pub last_seen_ns: u64,
}

impl From<Entry> for FlowState {
    fn from(entry: Entry) -> Self {
        Self {
            owner: entry.owner(),
            epoch: entry.epoch,
            closing: entry.is_closing(),
            last_seen_ns: entry.last_seen_ns,
        }
    }
}

/// A reply that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whom it is for.
    pub sender: u16,
    /// Which of the sender's requests it answers.
    pub counter: u64,
    /// The table's present life.
    pub incarnation: u64,
    /// What was asked for.
    pub operation: OperationCode,
    /// What became of it.
    pub result: ResultCode,
    /// Which flow it is about.
    pub flow: FlowKey,
    /// What the table holds about that flow now; `None`: nothing. Not told with `Busy` and `WrongIncarnation`.
    pub state: Option<FlowState>,
}

impl Reply {
    /// Checks and reads a datagram's payload.
    pub fn open(bytes: &[u8], key: &ControlKey) -> Result<Self, ControlError> {
        let frame = ControlFrame::read_from_bytes(bytes).map_err(|_| ControlError::Malformed)?;
        frame.check_direction(DIRECTION_REPLY, key.words())?;
        let (Some(operation), Some(result)) =
            (OperationCode::from_byte(frame.operation), ResultCode::from_byte(frame.result))
        else {
            return Err(ControlError::Malformed);
        };
        let state = FlowState {
            owner: frame.owner(),
            epoch: frame.epoch(),
            closing: frame.is_closing(),
            last_seen_ns: frame.last_seen_ns(),
        };
        Ok(Self {
            sender: frame.sender(),
            counter: frame.counter(),
            incarnation: frame.incarnation(),
            operation,
            result,
            flow: frame.flow(),
            state: (frame.flags & FLAG_PRESENT != 0).then_some(state),
        })
    }
}
