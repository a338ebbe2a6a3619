//! What became of frames, counted by the programs.

/// What a program did with a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Counter {
    /// Passed: programs know of no replica.
    Unconfigured = 0,
    /// Passed: a frame of a group that uses no programs.
    OtherGroup,
    /// Passed: a frame that programs do not look at.
    OtherKind,
    /// Passed: cut off, of contradicting lengths, or many datagrams in one (behind the driver, where trains are whole).
    Malformed,
    /// Passed: the replica's process, or another processor, decided about the group at that moment.
    Busy,
    /// Accepted, and acknowledged if no more was to follow.
    PrepareAccepted,
    /// Passed: all of it is here.
    PrepareKnown,
    /// Passed: programs accept nothing.
    PrepareOff,
    /// Passed: entries of another view.
    PrepareOtherView,
    /// Passed: entries from somebody else than the leader.
    PrepareNotLeader,
    /// Passed: the replica's process was not seen for too long.
    PrepareLeaseOver,
    /// Passed: too long for a slot.
    PrepareLength,
    /// Passed: something before it is missing.
    PrepareGap,
    /// Passed: it follows another log.
    PrepareOtherLog,
    /// Passed: no slot is free.
    PrepareFull,
    /// Passed: the checksum of entries does not fit.
    PrepareDamaged,
    /// Dropped: accepted, and the kernel could not make the answer. The leader repeats it.
    PrepareUnanswered,
    /// Dropped: an acknowledgement that was noted, and makes no quorum; or the replica's process is awake and looks for itself.
    OkNoted,
    /// Passed: an acknowledgement that was noted, and makes a quorum that a sleeping process is told of.
    OkSignalled,
    /// Dropped: an acknowledgement that says nothing new.
    OkKnown,
    /// Passed: programs count nothing.
    OkOff,
    /// Passed: an acknowledgement of another view.
    OkOtherView,
    /// Passed: an acknowledgement from no other member.
    OkNotMember,
    /// Passed: the checksum of an acknowledgement does not fit.
    OkDamaged,
    /// Sent on, as were the copies that could be made.
    FanOut,
    /// Sent on alone: longer than the network's frames.
    FanOutFragment,
    /// Sent on alone: not a frame of a group that uses programs.
    FanOutForeign,
    /// A copy was sent.
    Copied,
    /// No copy: no way to the member is known, or not by this interface.
    CopyUnresolved,
    /// No copy: the kernel could not make it.
    CopyFailed,
    /// The replica's process was woken from its sleep.
    Woken,
}

impl Counter {
    /// Every counter, in the order of their numbers.
    pub const ALL: [Self; 31] = [
        Self::Unconfigured,
        Self::OtherGroup,
        Self::OtherKind,
        Self::Malformed,
        Self::Busy,
        Self::PrepareAccepted,
        Self::PrepareKnown,
        Self::PrepareOff,
        Self::PrepareOtherView,
        Self::PrepareNotLeader,
        Self::PrepareLeaseOver,
        Self::PrepareLength,
        Self::PrepareGap,
        Self::PrepareOtherLog,
        Self::PrepareFull,
        Self::PrepareDamaged,
        Self::PrepareUnanswered,
        Self::OkNoted,
        Self::OkSignalled,
        Self::OkKnown,
        Self::OkOff,
        Self::OkOtherView,
        Self::OkNotMember,
        Self::OkDamaged,
        Self::FanOut,
        Self::FanOutFragment,
        Self::FanOutForeign,
        Self::Copied,
        Self::CopyUnresolved,
        Self::CopyFailed,
        Self::Woken,
    ];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unconfigured => "unconfigured",
            Self::OtherGroup => "other_group",
            Self::OtherKind => "other_kind",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::PrepareAccepted => "prepare_accepted",
            Self::PrepareKnown => "prepare_known",
            Self::PrepareOff => "prepare_off",
            Self::PrepareOtherView => "prepare_other_view",
            Self::PrepareNotLeader => "prepare_not_leader",
            Self::PrepareLeaseOver => "prepare_lease_over",
            Self::PrepareLength => "prepare_length",
            Self::PrepareGap => "prepare_gap",
            Self::PrepareOtherLog => "prepare_other_log",
            Self::PrepareFull => "prepare_full",
            Self::PrepareDamaged => "prepare_damaged",
            Self::PrepareUnanswered => "prepare_unanswered",
            Self::OkNoted => "ok_noted",
            Self::OkSignalled => "ok_signalled",
            Self::OkKnown => "ok_known",
            Self::OkOff => "ok_off",
            Self::OkOtherView => "ok_other_view",
            Self::OkNotMember => "ok_not_member",
            Self::OkDamaged => "ok_damaged",
            Self::FanOut => "fan_out",
            Self::FanOutFragment => "fan_out_fragment",
            Self::FanOutForeign => "fan_out_foreign",
            Self::Copied => "copied",
            Self::CopyUnresolved => "copy_unresolved",
            Self::CopyFailed => "copy_failed",
            Self::Woken => "woken",
        }
    }
}

const COUNTERS: usize = Counter::ALL.len();

/// How often each thing happened. The kernel keeps one such value per processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters([u64; COUNTERS]);

impl Counters {
    /// How often something happened.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Counts something once.
    #[inline(always)]
    pub const fn count(&mut self, counter: Counter) {
        let index = counter as usize;
        // Always so; it spares the kernel's program the panic that it must not have.
        if index < COUNTERS {
            self.0[index] = self.0[index].wrapping_add(1);
        }
    }

    /// Adds another processor's counts.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(more);
        }
        self
    }

    /// Every counter with its count, in the order of [`Counter::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.into_iter().map(|counter| (counter, self.get(counter)))
    }
}
