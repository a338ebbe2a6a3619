//! The conversation of two owners and steering that moves one connection.
//!
//! Three parties take part: the *exporter*, which owns the connection, the *importer*, which shall
//! own it, and *steering*, which delivers the client's frames to one of them. The two owners talk
//! over a channel that keeps the order and breaks rather than loses; steering is asked by datagrams
//! that may be lost, repeated and late.
//!
//! | message           | from → to           | meaning |
//! |-------------------|---------------------|---------|
//! | `Offer(image)`    | exporter → importer | here is a frozen connection |
//! | `Imported`        | importer → exporter | its socket exists here, mute |
//! | `Refused(reason)` | importer → exporter | it does not, and never sends a byte |
//! | `Cancel`          | exporter → importer | drop it silently |
//! | `Point(owner, epoch)` | exporter → steering | the flow's frames go there; answered with what holds |
//! | `Go(epoch)`       | exporter → importer | it is yours |
//! | `Taken`           | importer → exporter | it is mine |
//!
//! One rule carries the safety: **an importer sends nothing before `Go`, and an exporter that has
//! sent `Go` sends nothing any more**, unless the importer answers `Refused`, which it does only if
//! it never sent anything and never will. Whoever cannot know resets or falls silent. The client's
//! bytes are therefore continued by one owner at most, whatever is lost and whoever dies.
//!
//! An exporter takes its time back from steering: once it has sent a first `Point`, a late copy of
//! it may still be under way, so it thaws only after a `Point` at itself, with a higher epoch, was
//! acknowledged.
//!
//! # The shell's duties
//! 1. Perform outputs in their order, each before the next input about this move, and drain
//!    `poll_output` after every call. Call `handle_timeout` at `poll_timeout`.
//! 2. [`ExporterOutput::Freeze`]: read and write no more, wait until everything written was sent once,
//!    attach the filter that drops everything, enter repair mode; then
//!    [`Exporter::handle_frozen`]. The socket stays open and mute.
//! 3. [`ExporterOutput::Export`]: only a connection that may move is offered: no response to its
//!    present request was begun, and [`ConnectionImage::check`](crate::image::ConnectionImage::check)
//!    passes.
//! 4. [`ExporterOutput::Thaw`] undoes any part of 2 that was done, and may come before
//!    [`Exporter::handle_frozen`]. [`ExporterOutput::Reset`] sends the client a reset from the frozen
//!    socket, with its own sequence numbers: a client that has heard from the importer ignores it.
//! 5. [`ImporterOutput::Import`] creates the socket in repair mode and sends nothing. If the same flow
//!    lingers here from an earlier move, [`Exporter::handle_flow_returned`] and its outputs come
//!    first. If it is served here, the offer is refused as [`Refusal::FlowInUse`].
//! 6. [`ImporterOutput::CloseSilently`] closes in repair mode, and is harmless without a socket. An
//!    import that ends after it is reported all the same, and closed by a second one.
//! 7. A move's id is unique among all that the exporter's process offers on this channel. A message of a
//!    move that is not known is answered with [`answer_unknown`]. Machines are kept until
//!    `is_finished`.
//! 8. When the channel breaks, both ends tell all their moves, before anything from a new channel.
//! 9. Steering's answer is handed in with the state that it tells, never with what was asked. An answer
//!    that asks to try again is none: the `Point` is repeated anyway.

mod exporter;
mod importer;
mod message;
mod timeouts;

pub use exporter::{Exporter, ExporterOutput, Owner, Steered};
pub use importer::{Importer, ImporterOutput};
pub use message::{MESSAGE_BYTES_MAX, Message, MessageError, MoveId, Refusal, answer_unknown};
pub use timeouts::Timeouts;

/// How a move ended for one of its owners. Told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The connection is at the importer: the exporter forgets it, the importer serves it.
    Moved {
        /// The flow's epoch from now on.
        epoch: u64,
    },
    /// The connection is at the exporter, as it was: it is relayed or tried elsewhere.
    Kept {
        /// The flow's epoch from now on.
        epoch: u64,
        /// Why it did not move.
        cause: Cause,
    },
    /// The connection is not here any more: at the importer, it never was.
    Ended {
        /// Why.
        cause: Cause,
    },
}

/// Why a move did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// Sent bytes were still waiting to be sent at the deadline.
    #[error("the socket was not frozen in time")]
    FreezeTimeout,
    /// The socket could not be frozen.
    #[error("the socket cannot be frozen")]
    NotFrozen,
    /// The socket's state was not read in time.
    #[error("the socket was not exported in time")]
    ExportTimeout,
    /// The socket's state cannot be read, or is not one that moves.
    #[error("the socket cannot be exported")]
    NotExported,
    /// The importer did not answer the offer.
    #[error("the importer did not answer the offer in time")]
    OfferTimeout,
    /// The importer did not want the connection, or lost it before it was told to go on.
    #[error("the importer refused: {0}")]
    Refused(Refusal),
    /// The channel between the owners broke.
    #[error("the channel to the other owner broke")]
    ChannelLost,
    /// A segment had passed the filter before it was attached, and arrived after the export.
    #[error("the client's bytes arrived during the export")]
    ReceiveSequenceMoved,
    /// The frozen socket's receive sequence was not looked up in time.
    #[error("the frozen socket was not checked in time")]
    CheckTimeout,
    /// Steering has no room for the flow.
    #[error("steering has no room for the flow")]
    SteeringFull,
    /// Steering did not answer.
    #[error("steering did not answer in time")]
    SteeringSilent,
    /// Steering follows somebody with a newer epoch: the flow is no longer this connection.
    #[error("somebody else has pointed the flow elsewhere")]
    Superseded,
    /// The importer was told to go on and did not confirm that it did.
    #[error("the importer did not confirm that it serves")]
    TakenTimeout,
    /// The exporter changed its mind.
    #[error("the exporter cancelled the move")]
    Cancelled,
    /// The importer's socket was not made in time.
    #[error("the socket was not imported in time")]
    ImportTimeout,
    /// The importer was not told to go on.
    #[error("the exporter did not say to go on in time")]
    GoTimeout,
    /// The importer's socket did not leave repair mode in time.
    #[error("the imported socket did not come to life in time")]
    LeaveTimeout,
}

/// The most outputs between two calls; more mean that the shell does not drain them.
const OUTPUTS_MAX: usize = 16;
