//! Control frames: how hosts tell steering who owns a flow, and what it answers.
//!
//! One fixed layout serves both directions, in one UDP datagram: so the kernel program can turn a request into its reply in place.

use super::flow::{EntryOrNone, FlowKey, MacAddress, Owner};
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
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"ASHs");
pub(super) const VERSION: u8 = 1;

/// Part of what the tag covers: a request sent back to its sender is no reply.
pub(super) const DIRECTION_REQUEST: u8 = 1;
pub(super) const DIRECTION_REPLY: u8 = 2;

pub(super) const FLAG_PRESENT: u8 = 1 << 0;
pub(super) const FLAG_CLOSING: u8 = 1 << 1;

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
    /// As Point, if the flow is in the table.
    Claim = 5,
}

impl OperationCode {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Point,
            2 => Self::Forget,
            3 => Self::Expire,
            4 => Self::Query,
            5 => Self::Claim,
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

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
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
    pub(super) magic: U32,
    pub(super) version: u8,
    /// Request or reply.
    pub(super) direction: u8,
    /// An [`OperationCode`]; a reply repeats it.
    pub(super) operation: u8,
    /// A [`ResultCode`]; 0 in a request.
    pub(super) result: u8,
    /// The node that asks; a reply repeats it.
    pub(super) sender: U16,
    /// An owner's number.
    pub(super) owner_id: U16,
    pub(super) client_port: U16,
    pub(super) service_port: U16,
    /// The sender never uses one twice; a reply repeats it.
    pub(super) counter: U64,
    /// The table's life that is meant; in a reply, the present one.
    pub(super) incarnation: U64,
    pub(super) epoch: U64,
    pub(super) last_seen_ns: U64,
    pub(super) client_address: [u8; 16],
    pub(super) service_address: [u8; 16],
    pub(super) owner_mac: [u8; 6],
    pub(super) flags: u8,
    pub(super) reserved: u8,
    /// SipHash-2-4 of everything before.
    pub(super) tag: U64,
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

    /// Of a Point or Claim: whether the client has finished already.
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
        let has_owner =
            operation == OperationCode::Point as u8 || operation == OperationCode::Claim as u8;
        let is_query = operation == OperationCode::Query as u8;
        let in_bounds = operation >= OperationCode::Point as u8
            && operation <= OperationCode::Claim as u8
            && self.result == 0
            && self.reserved == 0
            && (is_query || self.epoch.get() != 0)
            && (!has_owner || MacAddress(self.owner_mac).is_unicast());
        if in_bounds { Ok(()) } else { Err(ControlError::Malformed) }
    }

    #[inline(always)]
    pub(super) fn check_direction(
        &self,
        direction: u8,
        key_words: [u64; 2],
    ) -> Result<(), ControlError> {
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
    pub(super) fn tag_under(&self, key_words: [u64; 2]) -> u64 {
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
