//! The header of replication frames: a fixed place for what kernel programs look at.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first four bytes of every frame, as a number.
pub const MAGIC: u32 = 0x5256_5341;

/// The layout's version; frames of another one are dropped.
pub const VERSION: u8 = 2;

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = 64;

/// What precedes every frame's body. Behind Ethernet, IPv4 and UDP it begins at byte 42 of a packet.
///
/// The fields behind `group` mean what the frame's kind says (`docs/replication.md`); those that a kind does not use are zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`VERSION`].
    pub version: u8,
    /// Which frame.
    pub kind: u8,
    /// A detail of the kind.
    pub detail: u8,
    /// The sender's place among the members of its epoch; [`NO_PLACE`] if it has none.
    pub sender: u8,
    /// Names the cluster: frames of another one are dropped.
    pub cluster: U64,
    /// Names the group within the cluster.
    pub group: U32,
    /// Bytes of the body.
    pub body_bytes: U32,
    /// The view: its epoch in the upper 24 bits.
    pub view: U64,
    /// A place in the log.
    pub op: U64,
    /// Everything up to this place is committed.
    pub commit: U64,
    /// Of the log up to a place.
    pub digest: U64,
    /// [Over](super::checksum_of) header and body, with zeros here.
    pub checksum: U32,
    /// Entries in the body.
    pub entries: U16,
    /// Zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// Kinds of frames that programs look at; the others are user space's.
pub mod kind {
    /// The leader gives entries their places. The body begins with the digest at the place before the first.
    pub const PREPARE: u8 = 2;
    /// A backup has everything up to a place.
    pub const PREPARE_OK: u8 = 3;
}

/// The detail of a frame with entries whose receiver gets more right behind it.
pub const FOLLOWED: u8 = 1;

/// The sender is no member: a client, or a replica that is about to become one.
pub const NO_PLACE: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn kernel_programs_find_every_field_at_its_place() {
        let places = [
            (offset_of!(Header, magic), 0),
            (offset_of!(Header, kind), 5),
            (offset_of!(Header, cluster), 8),
            (offset_of!(Header, group), 16),
            (offset_of!(Header, body_bytes), 20),
            (offset_of!(Header, view), 24),
            (offset_of!(Header, op), 32),
            (offset_of!(Header, commit), 40),
            (offset_of!(Header, digest), 48),
            (offset_of!(Header, checksum), 56),
            (offset_of!(Header, entries), 60),
        ];
        assert!(places.iter().all(|(is, shall)| is == shall), "{places:?}");
    }
}
