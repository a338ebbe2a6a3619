//! What became of the frames, counted by the kernel program.

use super::control::ResultCode;
use super::packet::Class;

/// What a program did with a frame, and why. Every frame is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Counter {
    /// Passed: there was no configuration of this schema.
    Unconfigured = 0,
    /// Passed: not addressed to this interface, or at a switch's port to no single host.
    NotAddressedHere,
    /// Passed: neither TCP nor control.
    Other,
    /// Passed: headers cut off or contradicting.
    Malformed,
    /// Passed: part of a datagram.
    Fragment,
    /// Passed: TCP of no flow in the table.
    NoFlow,
    /// Passed: TCP of a flow that is owned by the very host that the frame is addressed to.
    OwnedHere,
    /// Sent on to the owner.
    Steered,
    /// Passed: a SYN that ended an ending flow's entry.
    ForgottenBySyn,
    /// Dropped: a SYN that could not end an entry, because a request was at work on a flow nearby. The client repeats it.
    ForgetContended,
    /// Dropped: the kernel could not write the frame's new addresses or its reply.
    WriteFailed,
    /// Dropped: sent to the control address, and not a control frame.
    ControlMalformed,
    /// Dropped: a control frame with a wrong tag.
    ControlForged,
    /// Dropped: a control frame of a sender that the configuration does not provide for.
    ControlSenderUnknown,
    /// Dropped: a control frame that was seen before, or is too old to tell.
    ControlReplayed,
    /// Dropped: a control frame whose sender's window another frame held. The sender repeats it.
    ControlContended,
    /// Answered: the table was changed.
    ControlApplied,
    /// Answered: nothing to change.
    ControlSame,
    /// Answered: the entry is newer.
    ControlStaleEpoch,
    /// Answered: no such flow.
    ControlUnknownFlow,
    /// Answered: no room for another flow.
    ControlTableFull,
    /// Answered: to be repeated.
    ControlBusy,
    /// Answered: another life of the table.
    ControlWrongIncarnation,
}

impl Counter {
    /// Every counter, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::Unconfigured,
        Self::NotAddressedHere,
        Self::Other,
        Self::Malformed,
        Self::Fragment,
        Self::NoFlow,
        Self::OwnedHere,
        Self::Steered,
        Self::ForgottenBySyn,
        Self::ForgetContended,
        Self::WriteFailed,
        Self::ControlMalformed,
        Self::ControlForged,
        Self::ControlSenderUnknown,
        Self::ControlReplayed,
        Self::ControlContended,
        Self::ControlApplied,
        Self::ControlSame,
        Self::ControlStaleEpoch,
        Self::ControlUnknownFlow,
        Self::ControlTableFull,
        Self::ControlBusy,
        Self::ControlWrongIncarnation,
    ];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unconfigured => "unconfigured",
            Self::NotAddressedHere => "not_addressed_here",
            Self::Other => "other",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::NoFlow => "no_flow",
            Self::OwnedHere => "owned_here",
            Self::Steered => "steered",
            Self::ForgottenBySyn => "forgotten_by_syn",
            Self::ForgetContended => "forget_contended",
            Self::WriteFailed => "write_failed",
            Self::ControlMalformed => "control_malformed",
            Self::ControlForged => "control_forged",
            Self::ControlSenderUnknown => "control_sender_unknown",
            Self::ControlReplayed => "control_replayed",
            Self::ControlContended => "control_contended",
            Self::ControlApplied => "control_applied",
            Self::ControlSame => "control_same",
            Self::ControlStaleEpoch => "control_stale_epoch",
            Self::ControlUnknownFlow => "control_unknown_flow",
            Self::ControlTableFull => "control_table_full",
            Self::ControlBusy => "control_busy",
            Self::ControlWrongIncarnation => "control_wrong_incarnation",
        }
    }

    /// Where frames of a class are counted that the program does not judge further; `None` for TCP and control.
    #[inline(always)]
    pub const fn of_class(class: Class) -> Option<Self> {
        match class {
            Class::Unconfigured => Some(Self::Unconfigured),
            Class::NotAddressedHere => Some(Self::NotAddressedHere),
            Class::Other => Some(Self::Other),
            Class::Malformed => Some(Self::Malformed),
            Class::Fragment => Some(Self::Fragment),
            Class::Tcp | Class::Control => None,
        }
    }

    /// Where an answered request is counted.
    #[inline(always)]
    pub const fn of_result(result: ResultCode) -> Self {
        match result {
            ResultCode::Applied => Self::ControlApplied,
            ResultCode::Same => Self::ControlSame,
            ResultCode::StaleEpoch => Self::ControlStaleEpoch,
            ResultCode::UnknownFlow => Self::ControlUnknownFlow,
            ResultCode::TableFull => Self::ControlTableFull,
            ResultCode::Busy => Self::ControlBusy,
            ResultCode::WrongIncarnation => Self::ControlWrongIncarnation,
        }
    }
}

const COUNTERS: usize = Counter::ALL.len();

/// How many frames an instance saw, by what became of them. The kernel keeps one such value per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters([u64; COUNTERS]);

const _: () = assert!(size_of::<Counters>() == 23 * 8);

impl Counters {
    /// How many frames a counter counted.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Counts one frame.
    #[inline(always)]
    pub const fn count(&mut self, counter: Counter) {
        let index = counter as usize;
        // Always so; it spares the kernel's program the panic that it must not have.
        if index < COUNTERS {
            self.0[index] = self.0[index].wrapping_add(1);
        }
    }

    /// Adds another CPU's counts.
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
