//! How a leader says that one frame is for several members.

/// Says that the lower half is a set of places. Whoever uses marks for other things uses small numbers.
const MARK: u32 = 0xa5b1_0000;

/// On a copy that must still find its way: no [`FanOut`], so that copies are not copied.
pub const COPY_MARK: u32 = MARK | 0x100;

/// The members that are to get a copy of a frame, besides the one that it is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut(u8);

impl FanOut {
    /// Copies for the members at these places.
    pub const fn new(places: u8) -> Self {
        Self(places)
    }

    /// The places as bits.
    #[inline(always)]
    pub const fn places(self) -> u64 {
        self.0 as u64
    }

    /// As the mark of a packet: it never leaves the host, so that all copies are alike.
    pub const fn mark(self) -> u32 {
        MARK | self.0 as u32
    }

    /// From a packet's mark.
    #[inline(always)]
    pub const fn of_mark(mark: u32) -> Option<Self> {
        if mark & !0xff == MARK { Some(Self(mark as u8)) } else { None }
    }

    /// Whether the member at a place gets a copy.
    #[inline(always)]
    pub const fn contains(self, place: u32) -> bool {
        place < 8 && self.0 >> place & 1 != 0
    }
}

/// A sum of 16-bit words (RFC 1071) without the final complement, once the address `from` among them has become `to`; all in any
/// one order of bytes.
#[inline(always)]
pub const fn sum_with_other_address(sum: u16, from: u32, to: u32) -> u16 {
    let without = !from;
    let sum = sum as u32 + (without & 0xffff) + (without >> 16) + (to & 0xffff) + (to >> 16);
    // Twice: the first fold may carry.
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
