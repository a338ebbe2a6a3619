//! The memory that a replica shares with the programs in its host's kernel.

/// The layout of everything here. Another one is another version.
pub const SCHEMA_VERSION: u32 = 1;

/// The most members of a group.
pub const MEMBERS_MAX: usize = 7;

/// Frames that a backup's kernel may have accepted and its process not yet taken. At 250,000 frames a second, a process that waits
/// for a processor for 30 milliseconds fills as many.
pub const SLOTS: u32 = 8_192;

/// The longest frame that a slot holds: whole stripes of its checksum.
pub const FRAME_BYTES_MAX: u32 = 2_016;

/// Nobody decides about the group.
pub const LOCK_FREE: u64 = 0;
/// A program does: for less than a microsecond, whatever becomes of the process.
pub const LOCK_KERNEL: u64 = 1;
/// The replica's process does.
pub const LOCK_OWNER: u64 = 2;

/// Programs decide nothing.
pub const MODE_OFF: u64 = 0;
/// Programs accept frames of the leader.
pub const MODE_FOLLOW: u64 = 1;
/// Programs count what backups acknowledge.
pub const MODE_LEAD: u64 = 2;

/// What programs look at before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The address of the replication socket, as [`member_bits`] has it; 0 before there is one.
    pub own: u64,
}

/// Names a group in the table that leads to its [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupKey {
    /// The cluster.
    pub cluster: u64,
    /// The group.
    pub group: u64,
}

/// An address of IPv4 and a port as a number that is never 0.
#[inline(always)]
pub const fn member_bits(address: [u8; 4], port: u16) -> u64 {
    1 << 48 | (u32::from_be_bytes(address) as u64) << 16 | port as u64
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Acknowledged {
    /// It has everything up to the place before this one; 0 if it has acknowledged nothing in the leader's view, or while
    /// the two fields change.
    pub next_op: u64,
    /// The digest there.
    pub digest: u64,
}

/// What a group's replica and the programs tell each other. All of it is zero at first: programs decide nothing.
///
/// Each line of 64 bytes has one writer most of the time, so that processors do not take it from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// [`SCHEMA_VERSION`]. This line is the same in all versions, so that any process can end what a former one has begun.
    pub version: u64,
    /// Who decides about the group at this moment: [`LOCK_FREE`] and so on.
    pub lock: u64,
    /// What programs may decide: [`MODE_OFF`] and so on. Changed by the owner of the lock only.
    pub mode: u64,
    /// The rest of the line.
    pub line_1_rest: [u64; 5],

    /// The view that the replica is in. This line is changed by the process alone, with the lock.
    pub view: u64,
    /// The replica's place among the members.
    pub place: u64,
    /// The place of the view's leader.
    pub leader: u64,
    /// So many backups make a quorum with the leader.
    pub needed: u64,
    /// The group's first slot.
    pub first_slot: u64,
    /// The rest of the line.
    pub line_2_rest: [u64; 3],

    /// Programs accept nothing from this moment on, in nanoseconds since the machine began (suspension included). This line is
    /// changed by the process at any time.
    pub lease_until_ns: u64,
    /// So many frames has the process taken.
    pub drained: u64,
    /// The process sleeps: whoever accepts a frame, or finds a quorum, clears this and wakes it.
    pub is_asleep: u64,
    /// The rest of the line.
    pub line_3_rest: [u64; 5],

    /// Everything up to here is in the replica's log or in slots. This line is changed with the lock.
    pub tail_op: u64,
    /// The digest there.
    pub tail_digest: u64,
    /// So many frames were ever accepted; the last of them is in slot `(accepted - 1) % SLOTS`.
    pub accepted: u64,
    /// A quorum was already said to be here. The process raises it without the lock, too: an early or late wake-up costs little.
    pub signalled_op: u64,
    /// Members that a fan-out did not reach, as a set of places; changed without the lock, bit by bit.
    pub unreached: u64,
    /// Frames that were looked at where they leave, of those that are for several members; changed without the lock. One that is not
    /// counted never came so far: it waits for an Ethernet address, for instance.
    pub fanned_out: u64,
    /// The rest of the line.
    pub line_4_rest: [u64; 2],

    /// The members' addresses by place, as [`member_bits`] has them; 0 for those that are no IPv4 addresses, and behind the last. One
    /// more than there are members, so that any number's lower three bits are a place in it.
    pub members: [u64; 8],
    /// How far each backup is, by place.
    pub acknowledged: [Acknowledged; 8],
}

const _: () = assert!(size_of::<Control>() == 7 * 64);

/// An accepted frame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    /// Counts accepted frames from 1 on; 0 while the slot is written.
    pub number: u64,
    /// The frame's length.
    pub bytes: u64,
    /// The frame from its header on, and zeros up to the end of its last stripe.
    pub frame: [u64; FRAME_BYTES_MAX as usize / 8],
    /// A slot is as long as a power of two.
    pub unused: [u64; 2],
}

const _: () = assert!(size_of::<Slot>() == 2_048);
