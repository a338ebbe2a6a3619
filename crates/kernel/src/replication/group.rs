//! A replica's side of a group's shared memory.

use super::bits_of;
use super::memory::{Field, Shared, field};
use ashlar_fastpath::replication::{
    Acknowledged, LOCK_FREE, LOCK_KERNEL, LOCK_OWNER, MEMBERS_MAX, MODE_FOLLOW, MODE_LEAD, MODE_OFF,
};
use std::hint::spin_loop;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the lock is asked for before another thread gets the processor: a program needs less than a microsecond.
const SPINS: u32 = 256;

/// How long a lock may not be to be had.
const PATIENCE: Duration = Duration::from_secs(1);

/// What programs may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Off,
    /// They accept and acknowledge frames of the leader.
    Follow,
    /// They count what backups acknowledge.
    Lead,
}

/// What programs decide by, until the next view or configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The view that the replica is in.
    pub view: u64,
    /// The replica's place among the members.
    pub place: u8,
    /// The place of the view's leader.
    pub leader: u8,
    /// So many backups make a quorum with the leader.
    pub needed: u8,
    /// The members' addresses by place; `None` for those that programs cannot reach, and behind the last.
    pub members: [Option<SocketAddrV4>; MEMBERS_MAX],
}

/// A group's memory that programs share. There is one of each group at a time.
///
/// What the lock protects is changed between [`SharedGroup::lock`] and [`SharedGroup::unlock`]; meanwhile, programs leave the group's
/// frames to user space. Dropping it lets programs decide nothing more.
#[derive(Debug)]
pub struct SharedGroup {
    shared: Arc<Shared>,
    index: usize,
    is_locked: bool,
    /// Frames for several members that were looked at when that was last asked.
    fanned_out: u64,
}

impl SharedGroup {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        assert!(shared.claim(index), "the memory of group {index} has one user");
        Self { shared, index, is_locked: false, fanned_out: 0 }
    }

    fn word(&self, field: Field) -> &AtomicU64 {
        self.shared.control(self.index, field)
    }

    /// Reads a word that is protected by the lock.
    fn read(&self, field: Field) -> u64 {
        assert!(self.is_locked, "the group is locked");
        self.word(field).load(Ordering::Relaxed)
    }

    /// Changes a word that is protected by the lock.
    fn write(&mut self, field: Field, value: u64) {
        assert!(self.is_locked, "the group is locked");
        self.word(field).store(value, Ordering::Relaxed);
    }

    /// Waits until no program decides about the group, and keeps all of them from it. Takes a fraction of a microsecond.
    ///
    /// # Panics
    /// If it is locked, or is not to be had for a second: a process that was started beside this one has shut it out.
    pub fn lock(&mut self) {
        assert!(!self.is_locked, "the group is not locked");
        let lock = self.word(field!(lock));
        let (mut spins, mut began) = (0_u32, None);
        while lock
            .compare_exchange_weak(LOCK_FREE, LOCK_OWNER, Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            spins += 1;
            if spins % SPINS == 0 {
                let began = *began.get_or_insert_with(Instant::now);
                assert!(
                    began.elapsed() < PATIENCE,
                    "another process has taken this one's memory over"
                );
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
        self.is_locked = true;
    }

    /// Lets programs decide again, by what was changed.
    ///
    /// # Panics
    /// If it is not locked.
    pub fn unlock(&mut self) {
        assert!(self.is_locked, "the group is locked");
        let before = self.word(field!(lock)).swap(LOCK_FREE, Ordering::SeqCst);
        assert_eq!(before, LOCK_OWNER, "nobody takes the lock from its owner");
        self.is_locked = false;
    }

    /// Whether programs are kept from the group.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Changes what programs may decide.
    ///
    /// # Panics
    /// If it is not locked.
    pub fn set_mode(&mut self, mode: Mode) {
        let mode = match mode {
            Mode::Off => MODE_OFF,
            Mode::Follow => MODE_FOLLOW,
            Mode::Lead => MODE_LEAD,
        };
        self.write(field!(mode), mode);
    }

    /// Changes what programs decide by.
    ///
    /// # Panics
    /// If it is not locked, or if a place is none.
    pub fn configure(&mut self, terms: &Terms) {
        let is_place = |place: u8| usize::from(place) < MEMBERS_MAX;
        assert!(is_place(terms.place) && is_place(terms.leader), "{terms:?}");
        self.write(field!(view), terms.view);
        self.write(field!(place), terms.place.into());
        self.write(field!(leader), terms.leader.into());
        self.write(field!(needed), terms.needed.into());
        for (place, member) in terms.members.iter().enumerate() {
            self.write(Field(field!(members).0 + 8 * place), member.map_or(0, bits_of));
        }
    }

    /// Says where the log ends, and what its digest is there.
    ///
    /// # Panics
    /// If it is not locked.
    pub fn set_tail(&mut self, op: u64, digest: u64) {
        self.write(field!(tail_op), op);
        self.write(field!(tail_digest), digest);
    }

    /// Where the log ends that is in the replica's log and in slots, and its digest there.
    ///
    /// # Panics
    /// If it is not locked.
    pub fn tail(&self) -> (u64, u64) {
        (self.read(field!(tail_op)), self.read(field!(tail_digest)))
    }

    /// Forgets what backups have acknowledged, as a new view does, and that any quorum was signalled.
    ///
    /// # Panics
    /// If it is not locked.
    pub fn clear_acknowledged(&mut self) {
        for place in 0..MEMBERS_MAX {
            let [next_op, digest] = acknowledged_fields(place);
            self.write(next_op, 0);
            self.write(digest, 0);
        }
        self.write(field!(signalled_op), 0);
    }

    /// Lets programs accept frames until this moment of [`now_ns`](super::now_ns). At any time.
    pub fn extend_lease(&self, until_ns: u64) {
        self.word(field!(lease_until_ns)).store(until_ns, Ordering::Release);
    }

    /// Takes the next frame that was accepted: replaces what is in `into` by it. False if there is none. At any time.
    ///
    /// # Panics
    /// If the slot has another frame, which programs see to.
    pub fn take(&mut self, into: &mut Vec<u8>) -> bool {
        let drained = self.word(field!(drained));
        let taken = drained.load(Ordering::Relaxed);
        if self.word(field!(accepted)).load(Ordering::Acquire) == taken {
            return false;
        }
        into.clear();
        self.shared.copy_frame(self.index, taken + 1, into);
        drained.store(taken + 1, Ordering::Release);
        true
    }

    /// How far a backup is, as it has acknowledged in this view: the place in the log and the digest there. At any time.
    ///
    /// # Panics
    /// If the place is none.
    pub fn acknowledged(&self, place: u8) -> Option<(u64, u64)> {
        assert!(usize::from(place) < MEMBERS_MAX, "{place} is a place");
        let [next_op, digest] = acknowledged_fields(place.into()).map(|field| self.word(field));
        loop {
            let before = next_op.load(Ordering::Acquire);
            let digest = digest.load(Ordering::Acquire);
            let is_changing = self.word(field!(lock)).load(Ordering::Acquire) == LOCK_KERNEL;
            let after = next_op.load(Ordering::Acquire);
            if before == after && (before > 0 || !is_changing) {
                return before.checked_sub(1).map(|op| (op, digest));
            }
            spin_loop();
        }
    }

    /// Keeps programs from waking the process for a quorum that it has found by itself. At any time.
    pub fn note_committed(&self, op: u64) {
        self.word(field!(signalled_op)).fetch_max(op, Ordering::SeqCst);
    }

    /// Says that the process is about to wait for the [bell](super::Programs::take_bell). False if a frame came meanwhile: then it is to
    /// be taken, and nobody rings.
    pub fn fall_asleep(&self) -> bool {
        self.word(field!(is_asleep)).swap(1, Ordering::SeqCst);
        let accepted = self.word(field!(accepted)).load(Ordering::SeqCst);
        if accepted == self.word(field!(drained)).load(Ordering::Relaxed) {
            return true;
        }
        self.wake_up();
        false
    }

    /// Says that the process does not wait any more.
    pub fn wake_up(&self) {
        self.word(field!(is_asleep)).store(0, Ordering::SeqCst);
    }

    /// How many frames for several members were looked at where they leave since the last call. At any time.
    pub fn take_fanned_out(&mut self) -> u64 {
        let now = self.word(field!(fanned_out)).load(Ordering::SeqCst);
        now.wrapping_sub(std::mem::replace(&mut self.fanned_out, now))
    }

    /// The members that copies of frames did not reach since the last call, as a set of places. At any time.
    pub fn take_unreached(&self) -> u8 {
        self.word(field!(unreached)).swap(0, Ordering::SeqCst) as u8
    }
}

impl Drop for SharedGroup {
    fn drop(&mut self) {
        if !self.is_locked {
            self.lock();
        }
        self.set_mode(Mode::Off);
        self.unlock();
        self.shared.release(self.index);
    }
}

/// How far a backup is: the place behind it, and the digest.
fn acknowledged_fields(place: usize) -> [Field; 2] {
    let at = field!(acknowledged).0 + place * size_of::<Acknowledged>();
    [
        Field(at + std::mem::offset_of!(Acknowledged, next_op)),
        Field(at + std::mem::offset_of!(Acknowledged, digest)),
    ]
}
