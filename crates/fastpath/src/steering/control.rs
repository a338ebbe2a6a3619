//! Control frames: how hosts tell steering who owns a flow, and what it answers.
//!
//! One fixed layout serves both directions, in one UDP datagram: so the kernel program can turn a request into its reply in place.

use super::flow::{Entry, EntryOrNone, FlowKey, MacAddress, Owner};
use super::siphash::SipHash;
use core::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a control frame, which is the whole payload of its datagram.
pub const CONTROL_FRAME_BYTES: usize = 96;

/// The same in words of eight bytes; the last one is the tag.
pub const CONTROL_FRAME_WORDS: usize = CONTROL_FRAME_BYTES / 8;

const TAGGED_WORDS: usize = CONTROL_FRAME_WORDS - 1;

/// "ASHs", the first byte lowest.
const MAGIC: u32 = u32::from_le_bytes(*b"ASHs");
const VERSION: u8 = 1;

/// Part of what the tag covers: a request sent back to its sender is no reply.
const DIRECTION_REQUEST: u8 = 1;
const DIRECTION_REPLY: u8 = 2;

const FLAG_PRESENT: u8 = 1 << 0;
const FLAG_CLOSING: u8 = 1 << 1;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OperationCode {
    /// The flow belongs to this owner from this epoch on.
    Point = 1,
    /// The flow is not steered any more, unless its entry is newer than this epoch.
    Forget = 2,
    /// As Forget, if no frame came since this time.
    Expire = 3,
    /// What is known about the flow.
    Query = 4,
}

impl OperationCode {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Point,
            2 => Self::Forget,
            3 => Self::Expire,
            4 => Self::Query,
            _ => return None,
        })
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResultCode {
    /// The table was changed.
    Applied = 1,
    /// The table says so already, or the request only asked.
    Same = 2,
    /// The table's entry is newer; it stays, and the reply shows it.
    StaleEpoch = 3,
    /// The flow is not in the table (after a Forget: as wished).
    UnknownFlow = 4,
    /// There is no room for another flow: the connection stays where it is.
    TableFull = 5,
    /// Another request works on a flow nearby, or the kernel has no memory at hand. Nothing changed: ask again.
    Busy = 6,
    /// The table is not the one that the request speaks of: it was made anew, and the reply names the present one.
    WrongIncarnation = 7,
}

impl ResultCode {
    /// Every result.
    pub const ALL: [Self; 7] = [
        Self::Applied,
        Self::Same,
        Self::StaleEpoch,
        Self::UnknownFlow,
        Self::TableFull,
        Self::Busy,
        Self::WrongIncarnation,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|result| *result as u8 == byte)
    }
}

/// The key that authenticates control frames: 128 bits, secret. Overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlKey([u64; 2]);

impl ControlKey {
    /// A key of these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self([bits as u64, (bits >> 64) as u64])
    }

    pub(super) const fn words(&self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for ControlKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ControlKey(…)")
    }
}

impl Drop for ControlKey {
    fn drop(&mut self) {
        self.0 = [0; 2];
        // Somebody may look at it, as far as the compiler knows: the zeros must be written.
        core::hint::black_box(&self.0);
    }
}

/// Why bytes are not a control frame to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// Not of this layout, version or direction, or with a field out of its bounds.
    Malformed,
    /// Not made by a holder of the key, or changed on the way.
    Forged,
}

impl fmt::Display for ControlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "not a control frame of this version and direction",
            Self::Forged => "the control frame's tag does not fit the key",
        })
    }
}

impl core::error::Error for ControlError {}

/// A control frame as it travels: little-endian, without padding.
///
/// Aligned, and changed in place: the kernel's programs have a stack of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(8))]
pub struct ControlFrame {
    magic: U32,
    version: u8,
    /// Request or reply.
    direction: u8,
    /// An [`OperationCode`]; a reply repeats it.
    operation: u8,
    /// A [`ResultCode`]; 0 in a request.
    result: u8,
    /// The node that asks; a reply repeats it.
    sender: U16,
    /// An owner's number.
    owner_id: U16,
    client_port: U16,
    service_port: U16,
    /// The sender never uses one twice; a reply repeats it.
    counter: U64,
    /// The table's life that is meant; in a reply, the present one.
    incarnation: U64,
    epoch: U64,
    last_seen_ns: U64,
    client_address: [u8; 16],
    service_address: [u8; 16],
    owner_mac: [u8; 6],
    flags: u8,
    reserved: u8,
    /// SipHash-2-4 of everything before.
    tag: U64,
}

const _: () = assert!(size_of::<ControlFrame>() == CONTROL_FRAME_BYTES);

impl ControlFrame {
    /// Room for a frame.
    pub const ZERO: Self = Self {
        magic: U32::ZERO,
        version: 0,
        direction: 0,
        operation: 0,
        result: 0,
        sender: U16::ZERO,
        owner_id: U16::ZERO,
        client_port: U16::ZERO,
        service_port: U16::ZERO,
        counter: U64::ZERO,
        incarnation: U64::ZERO,
        epoch: U64::ZERO,
        last_seen_ns: U64::ZERO,
        client_address: [0; 16],
        service_address: [0; 16],
        owner_mac: [0; 6],
        flags: 0,
        reserved: 0,
        tag: U64::ZERO,
    };

    /// The frame's words, as they lie in memory.
    #[inline(always)]
    pub fn words(&self) -> &[u64; CONTROL_FRAME_WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// The frame's words, to fill with a datagram's payload.
    #[inline(always)]
    pub fn words_mut(&mut self) -> &mut [u64; CONTROL_FRAME_WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// The frame's bytes, as they travel.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8; CONTROL_FRAME_BYTES] {
        zerocopy::transmute_ref!(self)
    }

    /// The flow that it speaks of.
    #[inline(always)]
    pub fn flow(&self) -> FlowKey {
        FlowKey {
            client_address: self.client_address,
            service_address: self.service_address,
            client_port: self.client_port.get(),
            service_port: self.service_port.get(),
        }
    }

    /// The node that asks.
    #[inline(always)]
    pub fn sender(&self) -> u16 {
        self.sender.get()
    }

    /// The sender's counter.
    #[inline(always)]
    pub fn counter(&self) -> u64 {
        self.counter.get()
    }

    /// The table's life.
    #[inline(always)]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.get()
    }

    /// The epoch.
    #[inline(always)]
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Of an Expire: when the last frame came, as far as the sender knows.
    #[inline(always)]
    pub fn last_seen_ns(&self) -> u64 {
        self.last_seen_ns.get()
    }

    /// The owner.
    #[inline(always)]
    pub fn owner(&self) -> Owner {
        Owner { mac: MacAddress(self.owner_mac), id: self.owner_id.get() }
    }

    /// Of a Point: whether the client has finished already.
    #[inline(always)]
    pub const fn is_closing(&self) -> bool {
        self.flags & FLAG_CLOSING != 0
    }

    /// The operation as it travels.
    #[inline(always)]
    pub const fn operation_byte(&self) -> u8 {
        self.operation
    }

    /// Whether this is a request to act on: of this layout, made with the key, and with every field in its bounds.
    #[inline(always)]
    pub fn check(&self, key_words: [u64; 2]) -> Result<(), ControlError> {
        self.check_direction(DIRECTION_REQUEST, key_words)?;
        let operation = self.operation;
        let is_point = operation == OperationCode::Point as u8;
        let is_query = operation == OperationCode::Query as u8;
        let in_bounds = operation >= OperationCode::Point as u8
            && operation <= OperationCode::Query as u8
            && self.result == 0
            && self.reserved == 0
            && (is_query || self.epoch.get() != 0)
            && (!is_point || MacAddress(self.owner_mac).is_unicast());
        if in_bounds { Ok(()) } else { Err(ControlError::Malformed) }
    }

    #[inline(always)]
    fn check_direction(&self, direction: u8, key_words: [u64; 2]) -> Result<(), ControlError> {
        if self.magic.get() != MAGIC || self.version != VERSION || self.direction != direction {
            return Err(ControlError::Malformed);
        }
        if self.tag_under(key_words) != self.tag.get() {
            return Err(ControlError::Forged);
        }
        Ok(())
    }

    /// Makes this request the reply to itself. `state` is what the table holds now.
    #[inline(always)]
    pub fn turn(
        &mut self,
        result: ResultCode,
        state: &EntryOrNone,
        incarnation: u64,
        key_words: [u64; 2],
    ) {
        self.direction = DIRECTION_REPLY;
        self.result = result as u8;
        self.incarnation = U64::new(incarnation);
        let entry = &state.entry;
        let owner = entry.owner();
        self.owner_id = U16::new(owner.id);
        self.owner_mac = owner.mac.0;
        self.epoch = U64::new(entry.epoch);
        self.last_seen_ns = U64::new(entry.last_seen_ns);
        let present = if state.is_present { FLAG_PRESENT } else { 0 };
        let closing = if entry.is_closing() { FLAG_CLOSING } else { 0 };
        self.flags = present | closing;
        self.tag = U64::new(self.tag_under(key_words));
    }

    /// Puts the right tag on a frame that a test changed.
    #[cfg(test)]
    pub(super) fn seal_again(&mut self, key: &ControlKey) {
        self.tag = U64::new(self.tag_under(key.words()));
    }

    #[inline(always)]
    fn tag_under(&self, key_words: [u64; 2]) -> u64 {
        let words = self.words();
        let mut state = SipHash::new(key_words);
        let mut index = 0;
        while index < TAGGED_WORDS {
            state = state.word(u64::from_le(words[index]));
            index += 1;
        }
        state.finish(0, 8 * TAGGED_WORDS as u64)
    }
}

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
            | Self::Forget { flow, .. }
            | Self::Expire { flow, .. }
            | Self::Query { flow } => *flow,
        }
    }

    /// Which kind it is.
    pub const fn code(&self) -> OperationCode {
        match self {
            Self::Point { .. } => OperationCode::Point,
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
            Operation::Point { owner, epoch, closing, .. } => {
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
