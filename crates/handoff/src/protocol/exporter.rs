//! The owner that gives a connection away; [`crate::protocol`] has the conversation.

use super::{Cause, Message, OUTPUTS_MAX, Outcome, Owner, Retry, Steered, Timeouts};
use crate::{SecretBytes, image::EPOCH_MAX};
use std::collections::VecDeque;

/// Gives one connection to an importer, or takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exporter {
    timeouts: Timeouts,
    /// The flow's epoch when the move began.
    epoch: u64,
    /// Frames of a flow that steering does not know come to this host.
    is_home: bool,
    state: State,
    /// When the present step has taken too long.
    deadline_ms: u64,
    /// So many bytes from behind the image has the importer been sent.
    late_bytes: usize,
    /// The importer has been told that nobody can go on.
    has_cut: bool,
    outputs: VecDeque<ExporterOutput>,
}

/// Where a move stands, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Steering shall know the flow: only then can it be claimed.
    Introducing,
    /// The shell freezes the socket.
    Freezing,
    /// The shell reads the socket's state.
    Exporting,
    /// The importer has the image, and may claim the flow any moment.
    Offered,
    /// The importer may never answer. We claim the epoch that it claims: one of us gets it.
    Contesting(Retry, Cause),
    /// The importer is mute for ever. We claim the epoch over its.
    TakingBack(Retry, Cause),
    /// The importer has the flow. The shell looks what our socket has received since its export.
    Confirming,
    /// The importer serves. Our socket catches what was steered here before, and is looked at again
    /// and again: a segment past the filter takes its time if its processor does not run.
    Lingering(Retry),
    /// The same, for the last time.
    Closing,
    /// Over; our socket is alive or gone.
    Done,
}

/// What the exporter's shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExporterOutput {
    /// Make steering follow this host, with a new entry if there is none. Ask once and never again; the
    /// answer goes to [`Exporter::handle_steered`], if one comes.
    Introduce {
        /// The flow's epoch.
        epoch: u64,
    },
    /// Freeze the socket, then call [`Exporter::handle_frozen`].
    Freeze,
    /// Read the frozen socket's state, then call [`Exporter::handle_exported`].
    Export,
    /// Send a message to the importer.
    Send(Message),
    /// Claim the flow for this host; steering's answer goes to [`Exporter::handle_steered`], if one
    /// comes.
    Claim {
        /// Over an entry of a lower epoch.
        epoch: u64,
    },
    /// See what the frozen socket has received since its export, then call
    /// [`Exporter::handle_received`].
    CheckReceived,
    /// Bring the frozen socket back to life.
    Thaw,
    /// Reset the client from the frozen socket, and close it.
    Reset,
    /// Close the frozen socket in repair mode: no segment leaves.
    CloseSilently,
    /// How it ended.
    Report(Outcome),
}

/// What a frozen socket has received since its export. The client never repeats it: it was
/// acknowledged, or will be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Received {
    /// No more than the image has.
    Nothing,
    /// These bytes, all that came since; at most
    /// [`RECEIVED_BYTES_MAX`](crate::image::RECEIVED_BYTES_MAX).
    Bytes(SecretBytes),
    /// Something that cannot be passed on: the client's FIN, more bytes than that, or nobody knows.
    More,
}

impl Exporter {
    /// Begins to give away a connection whose flow has `epoch` at steering. With `is_home`, frames of
    /// flows without an entry come to this host, and this flow may have none. A flow whose epochs are
    /// used up stays.
    ///
    /// # Panics
    /// When `timeouts` are not consistent.
    pub fn new(now_ms: u64, epoch: u64, is_home: bool, timeouts: Timeouts) -> Self {
        assert!(timeouts.is_consistent(), "{timeouts:?}");
        let mut exporter = Self {
            timeouts,
            epoch,
            is_home,
            state: State::Introducing,
            deadline_ms: now_ms + timeouts.introduce_ms,
            late_bytes: 0,
            has_cut: false,
            outputs: VecDeque::new(),
        };
        if epoch > EPOCH_MAX {
            exporter.keep(epoch, Cause::NotExported);
        } else if is_home {
            exporter.output(ExporterOutput::Introduce { epoch });
        } else {
            exporter.freeze(now_ms);
        }
        exporter
    }

    /// The socket is frozen, or cannot be.
    pub fn handle_frozen(&mut self, now_ms: u64, frozen: bool) {
        match self.state {
            State::Freezing if frozen => {
                self.enter(State::Exporting, now_ms + self.timeouts.export_ms);
                self.output(ExporterOutput::Export);
            }
            State::Freezing => self.keep(self.epoch, Cause::NotFrozen),
            _ => {}
        }
    }

    /// The encoded image is there, or why the connection stays: [`Cause::NotExported`] or
    /// [`Cause::ReceiveSequenceMoved`].
    pub fn handle_exported(&mut self, now_ms: u64, exported: Result<SecretBytes, Cause>) {
        match (self.state, exported) {
            (State::Exporting, Ok(image)) => {
                self.enter(State::Offered, now_ms + self.timeouts.offer_ms);
                self.output(ExporterOutput::Send(Message::Offer { image }));
            }
            (State::Exporting, Err(cause)) => self.keep(self.epoch, cause),
            _ => {}
        }
    }

    /// The importer said something.
    pub fn handle_message(&mut self, now_ms: u64, message: &Message) {
        match (message, self.state) {
            (Message::Taken, State::Offered | State::Contesting(..)) => self.confirm(now_ms),
            // Neither has claimed the flow: it is ours as it was.
            (Message::Refused { reason, claimed: false }, State::Offered) => {
                self.keep(self.epoch, Cause::Refused(*reason));
            }
            (Message::Refused { reason, .. }, State::Offered | State::Contesting(..)) => {
                self.take_back(now_ms, Cause::Refused(*reason));
            }
            _ => {}
        }
    }

    /// Steering answered.
    pub fn handle_steered(&mut self, now_ms: u64, steered: Steered) {
        let asked_epoch = match self.state {
            State::Introducing => self.epoch,
            State::Contesting(..) => self.claimed_epoch(),
            State::TakingBack(..) => self.taken_back_epoch(),
            _ => return,
        };
        if steered.owner == Owner::Nobody {
            // An answer to an earlier request says nothing about the last one.
            if steered.answers_epoch == asked_epoch {
                self.no_entry();
            }
        } else if steered.epoch >= asked_epoch {
            self.entry_holds(now_ms, steered.epoch == asked_epoch, steered.owner);
        }
        // Else a lower epoch holds: this answers an earlier request, or the entry could not be changed
        // yet. A claim is repeated.
    }

    /// The frozen socket was looked at, and has received that.
    pub fn handle_received(&mut self, now_ms: u64, received: Received) {
        if !matches!(self.state, State::Confirming | State::Lingering(_) | State::Closing) {
            return;
        }
        match received {
            Received::Bytes(bytes) if bytes.len() > self.late_bytes && !self.has_cut => {
                self.late_bytes = bytes.len();
                self.output(ExporterOutput::Send(Message::Late { bytes }));
            }
            Received::More if !self.has_cut => {
                self.has_cut = true;
                self.output(ExporterOutput::Send(Message::Cut));
            }
            Received::Nothing | Received::Bytes(_) | Received::More => {}
        }
        match self.state {
            State::Confirming => self.linger(now_ms),
            State::Closing => self.close(),
            _ => {}
        }
    }

    /// The channel to the importer broke. It may go on all the same.
    pub fn handle_channel_lost(&mut self, now_ms: u64) {
        match self.state {
            // The introduction is under way: the connection must never be introduced again.
            State::Introducing => self.keep(self.epoch, Cause::SteeringSilent),
            State::Freezing | State::Exporting => self.keep(self.epoch, Cause::ChannelLost),
            State::Offered => self.contest(now_ms, Cause::ChannelLost),
            _ => {}
        }
    }

    /// The shell wants the connection back, if it still can be had.
    pub fn handle_cancelled(&mut self, now_ms: u64) {
        match self.state {
            // The introduction is under way: the connection must never be introduced again.
            State::Introducing => self.keep(self.epoch, Cause::SteeringSilent),
            State::Freezing | State::Exporting => self.keep(self.epoch, Cause::Cancelled),
            State::Offered => self.contest(now_ms, Cause::Cancelled),
            _ => {}
        }
    }

    /// The flow is about to be imported here again, with a higher epoch: the importer has had it, and
    /// our socket makes room.
    pub fn handle_flow_returned(&mut self) {
        match self.state {
            State::Offered | State::Contesting(..) | State::Confirming => {
                self.output(ExporterOutput::CloseSilently);
                self.report_moved();
            }
            State::Lingering(_) | State::Closing => self.output(ExporterOutput::CloseSilently),
            _ => return,
        }
        self.state = State::Done;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if now_ms >= self.deadline_ms {
            self.deadline_passed(now_ms);
            return;
        }
        let (State::Contesting(retry, _) | State::TakingBack(retry, _) | State::Lingering(retry)) =
            &mut self.state
        else {
            return;
        };
        if !retry.is_due(now_ms, &self.timeouts) {
            return;
        }
        match self.state {
            State::Lingering(_) => self.output(ExporterOutput::CheckReceived),
            _ => self.claim(),
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<ExporterOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Exporter::handle_timeout`]; never if the move is over.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Done => None,
            State::Contesting(retry, _) | State::TakingBack(retry, _) | State::Lingering(retry) => {
                Some(retry.at_ms.min(self.deadline_ms))
            }
            _ => Some(self.deadline_ms),
        }
    }

    /// Whether the machine can be forgotten.
    pub fn is_finished(&self) -> bool {
        self.state == State::Done && self.outputs.is_empty()
    }

    fn deadline_passed(&mut self, now_ms: u64) {
        match self.state {
            State::Introducing => self.keep(self.epoch, Cause::SteeringSilent),
            State::Freezing => self.keep(self.epoch, Cause::FreezeTimeout),
            State::Exporting => self.keep(self.epoch, Cause::ExportTimeout),
            State::Offered => self.contest(now_ms, Cause::OfferTimeout),
            // The importer may have the flow, or have lost it: we cannot go on.
            State::Contesting(..) | State::TakingBack(..) => {
                self.end(ExporterOutput::Reset, Cause::SteeringSilent);
            }
            State::Confirming => self.linger(now_ms),
            State::Lingering(_) => {
                self.enter(State::Closing, now_ms + self.timeouts.check_ms);
                self.output(ExporterOutput::CheckReceived);
            }
            State::Closing => self.close(),
            State::Done => {}
        }
    }

    /// Steering has no entry for the flow.
    fn no_entry(&mut self) {
        match self.state {
            State::Introducing => self.keep(self.epoch, Cause::SteeringFull),
            // Frames without an entry come here, and the importer is mute for ever.
            State::TakingBack(_, cause) if self.is_home => {
                self.keep(self.taken_back_epoch(), cause);
            }
            // Whoever got the epoch before the entry went is not known any more.
            _ => self.end(ExporterOutput::Reset, Cause::SteeringForgot),
        }
    }

    /// Steering has the flow with the epoch that was asked for, if `as_asked`, or a higher one.
    fn entry_holds(&mut self, now_ms: u64, as_asked: bool, owner: Owner) {
        match (self.state, owner) {
            (State::Introducing, Owner::Exporter) if as_asked => self.freeze(now_ms),
            // Nothing was offered: the flow's frames are somebody else's, the connection is ours.
            (State::Introducing, _) => self.keep(self.epoch, Cause::Superseded),
            (State::Contesting(_, cause), Owner::Exporter) if as_asked => {
                self.keep(self.claimed_epoch(), cause);
            }
            (State::Contesting(..), Owner::Importer) if as_asked => self.confirm(now_ms),
            (State::TakingBack(_, cause), Owner::Exporter) if as_asked => {
                self.keep(self.taken_back_epoch(), cause);
            }
            _ => self.end(ExporterOutput::CloseSilently, Cause::Superseded),
        }
    }

    fn freeze(&mut self, now_ms: u64) {
        self.enter(State::Freezing, now_ms + self.timeouts.freeze_ms);
        self.output(ExporterOutput::Freeze);
    }

    /// Takes part in what the importer may have decided already, or may yet.
    fn contest(&mut self, now_ms: u64, cause: Cause) {
        let retry = Retry::first(now_ms, &self.timeouts);
        self.enter(State::Contesting(retry, cause), now_ms + self.timeouts.take_back_ms);
        self.claim();
    }

    /// Takes the flow from an importer that has given it up.
    fn take_back(&mut self, now_ms: u64, cause: Cause) {
        let retry = Retry::first(now_ms, &self.timeouts);
        self.enter(State::TakingBack(retry, cause), now_ms + self.timeouts.take_back_ms);
        self.claim();
    }

    /// The importer has the flow, for good.
    fn confirm(&mut self, now_ms: u64) {
        self.enter(State::Confirming, now_ms + self.timeouts.check_ms);
        self.output(ExporterOutput::CheckReceived);
    }

    fn linger(&mut self, now_ms: u64) {
        let look = Retry::first(now_ms, &self.timeouts);
        self.enter(State::Lingering(look), now_ms + self.timeouts.linger_ms);
        self.report_moved();
    }

    fn close(&mut self) {
        self.output(ExporterOutput::CloseSilently);
        self.state = State::Done;
    }

    fn report_moved(&mut self) {
        self.output(ExporterOutput::Report(Outcome::Moved { epoch: self.claimed_epoch() }));
    }

    fn keep(&mut self, epoch: u64, cause: Cause) {
        self.output(ExporterOutput::Thaw);
        self.output(ExporterOutput::Report(Outcome::Kept { epoch, cause }));
        self.state = State::Done;
    }

    fn end(&mut self, output: ExporterOutput, cause: Cause) {
        self.output(output);
        self.output(ExporterOutput::Report(Outcome::Ended { cause }));
        self.state = State::Done;
    }

    fn enter(&mut self, state: State, deadline_ms: u64) {
        self.state = state;
        self.deadline_ms = deadline_ms;
    }

    /// The epoch that the importer claims, and we when we contest it.
    fn claimed_epoch(&self) -> u64 {
        self.epoch + 1
    }

    /// The epoch over that.
    fn taken_back_epoch(&self) -> u64 {
        self.epoch + 2
    }

    fn claim(&mut self) {
        let epoch = match self.state {
            State::TakingBack(..) => self.taken_back_epoch(),
            _ => self.claimed_epoch(),
        };
        self.output(ExporterOutput::Claim { epoch });
    }

    fn output(&mut self, output: ExporterOutput) {
        assert!(self.outputs.len() < OUTPUTS_MAX, "the shell drains outputs");
        self.outputs.push_back(output);
    }
}
