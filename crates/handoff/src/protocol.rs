//! The conversation of two owners and steering that moves one connection.
//!
//! Three parties take part: the *exporter*, which owns the connection, the *importer*, which shall
//! own it, and *steering*, which delivers the client's frames to one of them. The two owners talk
//! over a channel that keeps the order and breaks rather than loses; steering is asked by datagrams
//! that may be lost, repeated and late.
//!
//! | message             | from → to           | meaning |
//! |---------------------|---------------------|---------|
//! | `Introduce(epoch)`  | exporter → steering | the flow's frames come to me: an entry that can be claimed |
//! | `Offer(image)`      | exporter → importer | here is a frozen connection |
//! | `Claim(epoch)`      | either → steering   | the flow's frames go to me, if its entry has a lower epoch; answered with what holds |
//! | `Taken`             | importer → exporter | I serve it |
//! | `Refused(reason, claimed)` | importer → exporter | I do not, and never send a byte; I may have claimed the flow |
//! | `Late(bytes)`       | exporter → importer | bytes came here after the image was made: receive them |
//! | `Cut`               | exporter → importer | what came here cannot be passed on: reset the connection |
//!
//! One rule carries the safety: **steering's entry is the only permission to speak, and it is given
//! once.** The importer claims the epoch after the image's, with its socket mute, and speaks when it has
//! it. The exporter has been silent since before the offer, and speaks again only when it has that
//! very epoch itself, or when the importer has said that it never will. Of two claims of one epoch
//! steering follows the first, and a claim never makes an entry: what steering has forgotten nobody
//! gets. The client's bytes are therefore continued by one owner at most, whatever is lost and whoever
//! dies; whoever cannot know resets or falls silent.
//!
//! An entry is made by the exporter that the frames come to anyway, before it freezes anything, and by
//! one datagram that is never repeated: a late copy could make an entry again that was claimed and
//! forgotten. An exporter without an answer keeps the connection, and must not move it again.
//!
//! # The shell's duties
//! 1. Perform outputs in their order, each before the next input about this move, and drain
//!    `poll_output` after every call. Call `handle_timeout` at `poll_timeout`.
//! 2. [`ExporterOutput::Introduce`]: ask at most once, and not any more when the move has ended. A request
//!    that steering refused as meant for another life of its table was none. After [`Cause::SteeringSilent`] without an offer,
//!    never begin a move of this connection again.
//! 3. [`ExporterOutput::Freeze`]: read and write no more, wait until everything written was sent once,
//!    attach the filter that drops everything, enter repair mode; then
//!    [`Exporter::handle_frozen`]. The socket stays open and mute.
//! 4. [`ExporterOutput::Export`]: only a connection that may move is offered: no response to its
//!    present request was begun, and [`ConnectionImage::check`](crate::image::ConnectionImage::check)
//!    passes. Look at the receive sequence again behind the export: whatever slipped past the filter is
//!    mostly seen here, where it costs nothing. What comes later is passed on
//!    ([`ExporterOutput::CheckReceived`], [`ImporterOutput::Receive`]).
//! 5. [`ExporterOutput::Thaw`] undoes any part of 3 that was done, and may come before
//!    [`Exporter::handle_frozen`]. [`ExporterOutput::Reset`] sends the client a reset from the frozen
//!    socket, with its own sequence numbers: a client that has heard from the importer ignores it.
//! 6. [`ImporterOutput::Import`] creates the socket in repair mode and sends nothing. If the same flow
//!    was offered from here, with a lower epoch than this image's, [`Exporter::handle_flow_returned`]
//!    and its outputs come first, unless the frozen socket has received what this image does not have:
//!    bytes are missing then. In that case, and if the flow is served here, the offer is
//!    refused as [`Refusal::FlowInUse`].
//! 7. [`ImporterOutput::CloseSilently`] closes in repair mode, and is harmless without a socket. An
//!    import that ends after it is reported all the same, and closed by a second one.
//!    [`ImporterOutput::Reset`] may come while the connection is served.
//! 8. A move's id is unique among all that the exporter's process offers on this channel. A message of a
//!    move that is not known is ignored. Machines are kept until `is_finished`.
//! 9. When the channel breaks, the exporters on it are told, before anything from a new channel. The
//!    importers go on.
//! 10. Steering's answer is handed in with the state that it tells, never with what was asked. An answer
//!     that asks to try again is none: a claim is repeated anyway.

mod exporter;
mod importer;
mod message;
mod steered;
mod timeouts;

pub use exporter::{Exporter, ExporterOutput, Received};
pub use importer::{Importer, ImporterOutput};
pub use message::{MESSAGE_BYTES_MAX, Message, MessageError, MoveId, Refusal};
use steered::Retry;
pub use steered::{Owner, Steered};
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
    /// The importer did not want the connection, or did not get it.
    #[error("the importer refused: {0}")]
    Refused(Refusal),
    /// The channel between the owners broke.
    #[error("the channel to the other owner broke")]
    ChannelLost,
    /// A segment had passed the filter before it was attached, and arrived after the export.
    #[error("the client's bytes arrived behind the export")]
    ReceiveSequenceMoved,
    /// Steering has no room for the flow.
    #[error("steering has no room for the flow")]
    SteeringFull,
    /// Steering does not know the flow any more: nobody can say who has it.
    #[error("steering has forgotten the flow")]
    SteeringForgot,
    /// Steering did not answer.
    #[error("steering did not answer in time")]
    SteeringSilent,
    /// Steering follows somebody with a newer epoch: the flow is no longer this connection.
    #[error("somebody else has pointed the flow elsewhere")]
    Superseded,
    /// The exporter changed its mind.
    #[error("the exporter cancelled the move")]
    Cancelled,
    /// The importer's socket was not made in time.
    #[error("the socket was not imported in time")]
    ImportTimeout,
    /// The importer's socket did not leave repair mode in time.
    #[error("the imported socket did not come to life in time")]
    LeaveTimeout,
}

/// The most outputs between two calls; more mean that the shell does not drain them.
const OUTPUTS_MAX: usize = 16;
