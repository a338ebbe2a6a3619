//! The owner that gives a connection away; [`crate::protocol`] has the conversation.

use super::{Cause, Message, OUTPUTS_MAX, Outcome, Timeouts};
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
    outputs: VecDeque<ExporterOutput>,
}

/// Where a move stands, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The shell freezes the socket.
    Freezing,
    /// The shell reads the socket's state.
    Exporting,
    /// The importer has the image.
    Offered,
    /// The importer's socket exists; the shell looks at ours a last time.
    Checking,
    /// Steering may follow the importer any moment: no way back but through steering.
    Pointing(Retry),
    /// Steering shall follow us again. The importer is mute for ever.
    TakingBack(Retry, Cause),
    /// The importer may send any moment: no way back.
    Going,
    /// The importer serves. Our socket catches what was steered here before.
    Lingering,
    /// Over; our socket is alive or gone.
    Done,
}

/// When a `Point` is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Retry {
    at_ms: u64,
    /// How long it was since the last one.
    pause_ms: u64,
}

/// To whom steering delivers a flow's frames, as seen from a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The host that the connection leaves.
    Exporter,
    /// The host that it goes to.
    Importer,
    /// A third one.
    Other,
    /// Steering has no entry for the flow, and no room for one.
    Nobody,
}

/// Steering's answer: the flow's entry after a `Point`, whether it was followed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steered {
    /// The epoch of the `Point` that this answers.
    pub answers_epoch: u64,
    /// The entry's epoch; without an entry it means nothing.
    pub epoch: u64,
    /// The entry's owner.
    pub owner: Owner,
}

/// What the exporter's shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExporterOutput {
    /// Freeze the socket, then call [`Exporter::handle_frozen`].
    Freeze,
    /// Read the frozen socket's state, then call [`Exporter::handle_exported`].
    Export,
    /// Send a message to the importer.
    Send(Message),
    /// See whether the frozen socket's receive sequence is that of the image, then call
    /// [`Exporter::handle_receive_sequence`].
    CheckReceiveSequence,
    /// Ask steering; its answer goes to [`Exporter::handle_steered`], if one comes.
    Point {
        /// Whom it shall follow: one of the two.
        owner: Owner,
        /// Over any entry of a lower epoch.
        epoch: u64,
    },
    /// Bring the frozen socket back to life.
    Thaw,
    /// Reset the client from the frozen socket, and close it.
    Reset,
    /// Close the frozen socket in repair mode: no segment leaves.
    CloseSilently,
    /// How it ended.
    Report(Outcome),
}

impl Exporter {
    /// Begins to give away a connection whose flow has `epoch` at steering. With `is_home`, frames of
    /// flows without an entry come to this host. A flow whose epochs are used up stays.
    ///
    /// # Panics
    /// When `timeouts` are not consistent.
    pub fn new(now_ms: u64, epoch: u64, is_home: bool, timeouts: Timeouts) -> Self {
        assert!(timeouts.is_consistent(), "{timeouts:?}");
        let mut exporter = Self {
            timeouts,
            epoch,
            is_home,
            state: State::Freezing,
            deadline_ms: now_ms + timeouts.freeze_ms,
            outputs: VecDeque::new(),
        };
        if epoch <= EPOCH_MAX {
            exporter.output(ExporterOutput::Freeze);
        } else {
            exporter.keep(epoch, Cause::NotExported);
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

    /// The encoded image is there, or the socket is not one that moves.
    pub fn handle_exported(&mut self, now_ms: u64, image: Option<SecretBytes>) {
        match (self.state, image) {
            (State::Exporting, Some(image)) => {
                self.enter(State::Offered, now_ms + self.timeouts.offer_ms);
                self.output(ExporterOutput::Send(Message::Offer { image }));
            }
            (State::Exporting, None) => self.keep(self.epoch, Cause::NotExported),
            _ => {}
        }
    }

    /// The importer said something.
    pub fn handle_message(&mut self, now_ms: u64, message: &Message) {
        match (message, self.state) {
            (Message::Imported, State::Offered) => {
                self.enter(State::Checking, now_ms + self.timeouts.check_ms);
                self.output(ExporterOutput::CheckReceiveSequence);
            }
            // It came too late, and the importer waits for nothing.
            (Message::Imported, State::TakingBack(..) | State::Done) => {
                self.output(ExporterOutput::Send(Message::Cancel));
            }
            (Message::Refused { reason }, State::Offered | State::Checking) => {
                self.keep(self.epoch, Cause::Refused(*reason));
            }
            // Even after `Go`: who refuses has sent nothing and never will.
            (Message::Refused { reason }, State::Pointing(_) | State::Going) => {
                self.take_back(now_ms, Cause::Refused(*reason));
            }
            (Message::Taken, State::Going) => {
                self.enter(State::Lingering, now_ms + self.timeouts.linger_ms);
                self.output(ExporterOutput::Report(Outcome::Moved { epoch: self.pointed_epoch() }));
            }
            _ => {}
        }
    }

    /// The frozen socket was looked at: its receive sequence has `moved` since the export, or not.
    pub fn handle_receive_sequence(&mut self, now_ms: u64, moved: bool) {
        match self.state {
            State::Checking if moved => self.cancel(Cause::ReceiveSequenceMoved),
            State::Checking => {
                let retry = self.first_retry(now_ms);
                self.enter(State::Pointing(retry), now_ms + self.timeouts.point_ms);
                self.point();
            }
            _ => {}
        }
    }

    /// Steering answered.
    pub fn handle_steered(&mut self, now_ms: u64, steered: Steered) {
        let (asked_epoch, asked_owner) = match self.state {
            State::Pointing(_) => (self.pointed_epoch(), Owner::Importer),
            State::TakingBack(..) => (self.taken_back_epoch(), Owner::Exporter),
            _ => return,
        };
        if steered.owner == Owner::Nobody {
            // An answer to an earlier `Point` says nothing about the last one.
            if steered.answers_epoch == asked_epoch {
                self.no_room(now_ms);
            }
        } else if (steered.epoch, steered.owner) == (asked_epoch, asked_owner) {
            self.steered_as_asked(now_ms);
        } else if steered.epoch >= asked_epoch {
            self.output(ExporterOutput::Send(Message::Cancel));
            self.end(ExporterOutput::CloseSilently, Cause::Superseded);
        }
        // Else a lower epoch holds: this answers an earlier `Point`, or the entry could not be
        // changed yet. The `Point` is repeated.
    }

    /// The channel to the importer broke. It drops what it has not taken.
    pub fn handle_channel_lost(&mut self, now_ms: u64) {
        match self.state {
            State::Freezing | State::Exporting | State::Offered | State::Checking => {
                self.keep(self.epoch, Cause::ChannelLost);
            }
            State::Pointing(_) => self.take_back(now_ms, Cause::ChannelLost),
            // `Go` may have arrived: the reset at the deadline harms no client that was served
            // meanwhile.
            State::Going | State::TakingBack(..) | State::Lingering | State::Done => {}
        }
    }

    /// The shell wants the connection back, if it still can be had.
    pub fn handle_cancelled(&mut self, now_ms: u64) {
        match self.state {
            State::Freezing | State::Exporting => self.keep(self.epoch, Cause::Cancelled),
            State::Offered | State::Checking => self.cancel(Cause::Cancelled),
            State::Pointing(_) => self.take_back(now_ms, Cause::Cancelled),
            State::TakingBack(..) | State::Going | State::Lingering | State::Done => {}
        }
    }

    /// The flow is about to be imported here again: the lingering socket makes room.
    pub fn handle_flow_returned(&mut self) {
        if self.state == State::Lingering {
            self.output(ExporterOutput::CloseSilently);
            self.state = State::Done;
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if now_ms >= self.deadline_ms {
            self.deadline_passed(now_ms);
        } else if let State::Pointing(retry) | State::TakingBack(retry, _) = &mut self.state
            && now_ms >= retry.at_ms
        {
            retry.pause_ms = (2 * retry.pause_ms).min(self.timeouts.point_pause_max_ms);
            retry.at_ms = now_ms + retry.pause_ms;
            self.point();
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
            State::Pointing(retry) | State::TakingBack(retry, _) => {
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
            State::Freezing => self.keep(self.epoch, Cause::FreezeTimeout),
            State::Exporting => self.keep(self.epoch, Cause::ExportTimeout),
            State::Offered => self.cancel(Cause::OfferTimeout),
            State::Checking => self.cancel(Cause::CheckTimeout),
            State::Pointing(_) => self.take_back(now_ms, Cause::SteeringSilent),
            // Steering may follow either of us, and the importer is mute: nobody may go on.
            State::TakingBack(..) => self.end(ExporterOutput::Reset, Cause::SteeringSilent),
            State::Going => self.end(ExporterOutput::Reset, Cause::TakenTimeout),
            State::Lingering => {
                self.output(ExporterOutput::CloseSilently);
                self.state = State::Done;
            }
            State::Done => {}
        }
    }

    /// Steering follows whom it was told to.
    fn steered_as_asked(&mut self, now_ms: u64) {
        match self.state {
            State::TakingBack(_, cause) => self.keep(self.taken_back_epoch(), cause),
            _ => {
                self.enter(State::Going, now_ms + self.timeouts.taken_ms);
                let epoch = self.pointed_epoch();
                self.output(ExporterOutput::Send(Message::Go { epoch }));
            }
        }
    }

    /// Steering has no entry for the flow and can make none.
    fn no_room(&mut self, now_ms: u64) {
        match self.state {
            // Without an entry the frames come here.
            State::TakingBack(_, cause) if self.is_home => {
                self.keep(self.taken_back_epoch(), cause);
            }
            State::TakingBack(..) => self.end(ExporterOutput::Reset, Cause::SteeringFull),
            _ => self.take_back(now_ms, Cause::SteeringFull),
        }
    }

    /// Gives up before steering was asked: nothing has happened but that time was lost.
    fn cancel(&mut self, cause: Cause) {
        self.output(ExporterOutput::Send(Message::Cancel));
        self.keep(self.epoch, cause);
    }

    /// Gives up after steering was asked, while the importer is mute.
    fn take_back(&mut self, now_ms: u64, cause: Cause) {
        self.output(ExporterOutput::Send(Message::Cancel));
        let retry = self.first_retry(now_ms);
        self.enter(State::TakingBack(retry, cause), now_ms + self.timeouts.take_back_ms);
        self.point();
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

    /// The epoch of a `Point` at the importer.
    fn pointed_epoch(&self) -> u64 {
        self.epoch + 1
    }

    /// The epoch of a `Point` at us, over that.
    fn taken_back_epoch(&self) -> u64 {
        self.epoch + 2
    }

    fn first_retry(&self, now_ms: u64) -> Retry {
        let pause_ms = self.timeouts.point_pause_ms;
        Retry { at_ms: now_ms + pause_ms, pause_ms }
    }

    fn point(&mut self) {
        let (owner, epoch) = match self.state {
            State::TakingBack(..) => (Owner::Exporter, self.taken_back_epoch()),
            _ => (Owner::Importer, self.pointed_epoch()),
        };
        self.output(ExporterOutput::Point { owner, epoch });
    }

    fn output(&mut self, output: ExporterOutput) {
        assert!(self.outputs.len() < OUTPUTS_MAX, "the shell drains outputs");
        self.outputs.push_back(output);
    }
}
