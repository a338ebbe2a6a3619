//! The owner that takes a connection over; [`crate::protocol`] has the conversation.

use super::{Cause, Message, OUTPUTS_MAX, Outcome, Refusal, Timeouts};
use crate::SecretBytes;
use std::collections::VecDeque;

/// Takes one connection from an exporter, or drops it without a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Importer {
    timeouts: Timeouts,
    state: State,
    /// When the present step has taken too long, or a memory is old enough.
    deadline_ms: u64,
    outputs: VecDeque<ImporterOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The shell makes the socket.
    Importing,
    /// The socket exists, mute, and must stay so.
    Waiting,
    /// The connection is ours; the shell brings the socket to life.
    Leaving { epoch: u64 },
    /// It serves. Remembered for a while, to answer again.
    Serving,
    /// Nothing was sent and nothing will be. Remembered for a while, to refuse a late `Go`.
    Dropped,
    /// The socket was reset. Nobody goes on.
    Broken,
    /// Forgotten.
    Done,
}

/// What the importer's shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImporterOutput {
    /// Decode the image, make the socket in repair mode, then call [`Importer::handle_imported`].
    Import(SecretBytes),
    /// Send a message to the exporter.
    Send(Message),
    /// Leave repair mode, with a window probe that starts the client again, then call
    /// [`Importer::handle_left_repair`].
    LeaveRepair,
    /// Serve the connection.
    Serve {
        /// The flow's epoch at steering.
        epoch: u64,
    },
    /// Close the socket in repair mode, if there is one: no segment leaves.
    CloseSilently,
    /// Close the socket, whatever its state, with a reset.
    Reset,
    /// How it ended.
    Report(Outcome),
}

impl Importer {
    /// Begins with an offer.
    ///
    /// # Panics
    /// When `timeouts` are not consistent.
    pub fn new(now_ms: u64, image: SecretBytes, timeouts: Timeouts) -> Self {
        assert!(timeouts.is_consistent(), "{timeouts:?}");
        Self {
            timeouts,
            state: State::Importing,
            deadline_ms: now_ms + timeouts.import_ms,
            outputs: VecDeque::from([ImporterOutput::Import(image)]),
        }
    }

    /// The socket exists, or why it cannot.
    pub fn handle_imported(&mut self, now_ms: u64, result: Result<(), Refusal>) {
        match (self.state, result) {
            (State::Importing, Ok(())) => {
                self.enter(State::Waiting, now_ms + self.timeouts.go_ms);
                self.output(ImporterOutput::Send(Message::Imported));
            }
            (State::Importing, Err(reason)) => {
                self.refuse(now_ms, reason, Cause::Refused(reason));
            }
            // Dropped while it was made.
            (State::Dropped | State::Done, Ok(())) => self.output(ImporterOutput::CloseSilently),
            _ => {}
        }
    }

    /// The exporter said something.
    pub fn handle_message(&mut self, now_ms: u64, message: &Message) {
        match (message, self.state) {
            (Message::Go { epoch }, State::Waiting) => {
                let state = State::Leaving { epoch: *epoch };
                self.enter(state, now_ms + self.timeouts.leave_ms);
                self.output(ImporterOutput::LeaveRepair);
            }
            (Message::Go { .. }, State::Serving) => {
                self.output(ImporterOutput::Send(Message::Taken));
            }
            (Message::Go { .. }, State::Dropped) => {
                let reason = Refusal::Expired;
                self.output(ImporterOutput::Send(Message::Refused { reason }));
            }
            (Message::Cancel, State::Importing | State::Waiting) => {
                self.drop_silently(now_ms, Cause::Cancelled);
            }
            _ => {}
        }
    }

    /// The socket has left repair mode and is alive, or it could not and is mute as before.
    pub fn handle_left_repair(&mut self, now_ms: u64, alive: bool) {
        match self.state {
            State::Leaving { epoch } if alive => {
                self.output(ImporterOutput::Send(Message::Taken));
                self.output(ImporterOutput::Serve { epoch });
                self.output(ImporterOutput::Report(Outcome::Moved { epoch }));
                self.enter(State::Serving, now_ms + self.timeouts.remember_ms);
            }
            State::Leaving { .. } => {
                let reason = Refusal::Kernel;
                self.refuse(now_ms, reason, Cause::Refused(reason));
            }
            _ => {}
        }
    }

    /// The channel to the exporter broke. Before `Go`, it may have taken the connection back.
    pub fn handle_channel_lost(&mut self, now_ms: u64) {
        if matches!(self.state, State::Importing | State::Waiting) {
            self.drop_silently(now_ms, Cause::ChannelLost);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if now_ms < self.deadline_ms {
            return;
        }
        match self.state {
            State::Importing => self.refuse(now_ms, Refusal::Expired, Cause::ImportTimeout),
            State::Waiting => self.refuse(now_ms, Refusal::Expired, Cause::GoTimeout),
            // Nobody knows whether it is still mute: not a case for `Refused`.
            State::Leaving { .. } => {
                self.output(ImporterOutput::Reset);
                let cause = Cause::LeaveTimeout;
                self.output(ImporterOutput::Report(Outcome::Ended { cause }));
                self.enter(State::Broken, now_ms + self.timeouts.remember_ms);
            }
            State::Serving | State::Dropped | State::Broken => self.state = State::Done,
            State::Done => {}
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<ImporterOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Importer::handle_timeout`]; never if the move is forgotten.
    pub fn poll_timeout(&self) -> Option<u64> {
        (self.state != State::Done).then_some(self.deadline_ms)
    }

    /// Whether the machine can be forgotten, once no import is under way.
    pub fn is_finished(&self) -> bool {
        self.state == State::Done && self.outputs.is_empty()
    }

    fn refuse(&mut self, now_ms: u64, reason: Refusal, cause: Cause) {
        self.drop_silently(now_ms, cause);
        self.output(ImporterOutput::Send(Message::Refused { reason }));
    }

    fn drop_silently(&mut self, now_ms: u64, cause: Cause) {
        self.output(ImporterOutput::CloseSilently);
        self.output(ImporterOutput::Report(Outcome::Ended { cause }));
        self.enter(State::Dropped, now_ms + self.timeouts.remember_ms);
    }

    fn enter(&mut self, state: State, deadline_ms: u64) {
        self.state = state;
        self.deadline_ms = deadline_ms;
    }

    fn output(&mut self, output: ImporterOutput) {
        assert!(self.outputs.len() < OUTPUTS_MAX, "the shell drains outputs");
        self.outputs.push_back(output);
    }
}
