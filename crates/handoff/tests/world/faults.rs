//! What may go wrong in a world.

/// What may still go wrong. Messages may always be lost: nobody has to deliver them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Deadlines pass at any moment.
    pub(crate) deadlines: bool,
    /// So many of the three parties die.
    pub(crate) deaths: u8,
    /// So many messages arrive and stay under way.
    pub(crate) repetitions: u8,
    /// So often steering forgets all its entries.
    pub(crate) memory_losses: u8,
    /// So often the channel between the owners breaks.
    pub(crate) breaks: u8,
    /// So often the exporter's shell changes its mind.
    pub(crate) cancellations: u8,
    /// So many steps of the shells fail.
    pub(crate) failures: u8,
    /// The importer gives the connection back whenever it has it.
    pub(crate) returns: bool,
    /// When the exporter's shell fails to see an unchanged socket, it cannot say what came either.
    pub(crate) is_late_unknown: bool,
    /// Steering has no room.
    pub(crate) is_full: bool,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        deadlines: false,
        deaths: 0,
        repetitions: 0,
        memory_losses: 0,
        breaks: 0,
        cancellations: 0,
        failures: 0,
        returns: false,
        is_late_unknown: false,
        is_full: false,
    };
}

/// How the shells do their duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shell {
    Dutiful,
    ThawsInsteadOfResetting,
    ServesInsteadOfClosing,
    /// As a client does that asks steering again until it is answered.
    IntroducesTwice,
}
