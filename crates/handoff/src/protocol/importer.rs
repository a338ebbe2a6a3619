//! The owner that takes a connection over; [`crate::protocol`] has the conversation.

use super::{Cause, Message, OUTPUTS_MAX, Outcome, Owner, Refusal, Retry, Steered, Timeouts};
use crate::SecretBytes;
use std::collections::VecDeque;

/// Takes one connection from an exporter, or drops it without a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Importer {
    timeouts: Timeouts,
    state: State,
    /// When the present step has taken too long, or a memory is old enough.
    deadline_ms: u64,
    /// What the exporter's kernel received behind the image, until the connection is served.
    late: SecretBytes,
    outputs: VecDeque<ImporterOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The shell makes the socket.
    Importing,
    /// The socket exists, mute, and must stay so until steering says that the flow is ours.
    Claiming { epoch: u64, retry: Retry },
    /// The connection is ours; the shell brings the socket to life.
    Leaving {
        epoch: u64,
        /// The exporter has said that nobody can go on.
        is_cut: bool,
    },
    /// It serves. Remembered for a while, in case that the exporter has more to say.
    Serving,
    /// Nothing was sent and nothing will be.
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
    /// Claim the flow for this host; steering's answer goes to [`Importer::handle_steered`], if one
    /// comes.
    Claim {
        /// Over an entry of a lower epoch.
        epoch: u64,
    },
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
    /// Put into the socket's receive queue what it lacks of these bytes, which begin at the image's
    /// receive sequence. If that cannot be done, reset the connection.
    Receive(SecretBytes),
    /// Close the socket in repair mode, if there is one: no segment leaves.
    CloseSilently,
    /// Close the socket, whatever its state and whoever serves it, with a reset.
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
            late: SecretBytes::default(),
            outputs: VecDeque::from([ImporterOutput::Import(image)]),
        }
    }

    /// The socket exists, and the image had this epoch; or why it cannot.
    pub fn handle_imported(&mut self, now_ms: u64, result: Result<u64, Refusal>) {
        match (self.state, result) {
            (State::Importing, Ok(image_epoch)) => {
                let (epoch, retry) = (image_epoch + 1, Retry::first(now_ms, &self.timeouts));
                self.enter(State::Claiming { epoch, retry }, now_ms + self.timeouts.claim_ms);
                self.output(ImporterOutput::Claim { epoch });
            }
            (State::Importing, Err(reason)) => {
                self.refuse(now_ms, reason, false, Cause::Refused(reason));
            }
            // Dropped while it was made.
            (State::Dropped | State::Done, Ok(_)) => self.output(ImporterOutput::CloseSilently),
            _ => {}
        }
    }

    /// Steering answered.
    pub fn handle_steered(&mut self, now_ms: u64, steered: Steered) {
        let State::Claiming { epoch, .. } = self.state else { return };
        let is_ours = steered.owner == Owner::Importer && steered.epoch == epoch;
        if is_ours {
            let state = State::Leaving { epoch, is_cut: false };
            self.enter(state, now_ms + self.timeouts.leave_ms);
            self.output(ImporterOutput::LeaveRepair);
        } else if steered.owner == Owner::Nobody && steered.answers_epoch == epoch {
            self.refuse(now_ms, Refusal::FlowForgotten, true, Cause::SteeringForgot);
        } else if steered.owner != Owner::Nobody && steered.epoch >= epoch {
            self.refuse(now_ms, Refusal::Superseded, true, Cause::Superseded);
        }
    }

    /// The exporter said something.
    pub fn handle_message(&mut self, now_ms: u64, message: &Message) {
        match message {
            Message::Cut => self.cut(now_ms),
            Message::Late { bytes } => self.receive_late(bytes),
            Message::Offer { .. } | Message::Taken | Message::Refused { .. } => {}
        }
    }

    fn cut(&mut self, now_ms: u64) {
        match &mut self.state {
            State::Importing | State::Claiming { .. } => {
                self.drop_silently(now_ms, Cause::ReceiveSequenceMoved);
            }
            State::Leaving { is_cut, .. } => *is_cut = true,
            State::Serving => {
                self.output(ImporterOutput::Reset);
                self.enter(State::Broken, now_ms + self.timeouts.remember_ms);
            }
            State::Dropped | State::Broken | State::Done => {}
        }
    }

    fn receive_late(&mut self, bytes: &SecretBytes) {
        match self.state {
            State::Importing | State::Claiming { .. } | State::Leaving { .. } => {
                // The exporter says all that it has, each time; old words may come late.
                if bytes.len() > self.late.len() {
                    self.late = bytes.clone();
                }
            }
            State::Serving => self.output(ImporterOutput::Receive(bytes.clone())),
            State::Dropped | State::Broken | State::Done => {}
        }
    }

    /// The socket has left repair mode and is alive, or it could not and is mute as before.
    pub fn handle_left_repair(&mut self, now_ms: u64, alive: bool) {
        match self.state {
            State::Leaving { is_cut: true, .. } if alive => {
                self.break_off(now_ms, Cause::ReceiveSequenceMoved);
            }
            State::Leaving { epoch, .. } if alive => {
                self.output(ImporterOutput::Send(Message::Taken));
                self.output(ImporterOutput::Serve { epoch });
                if !self.late.is_empty() {
                    let late = std::mem::take(&mut self.late);
                    self.output(ImporterOutput::Receive(late));
                }
                self.output(ImporterOutput::Report(Outcome::Moved { epoch }));
                self.enter(State::Serving, now_ms + self.timeouts.remember_ms);
            }
            State::Leaving { .. } => {
                let reason = Refusal::Kernel;
                self.refuse(now_ms, reason, true, Cause::Refused(reason));
            }
            _ => {}
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if now_ms >= self.deadline_ms {
            self.deadline_passed(now_ms);
        } else if let State::Claiming { epoch, retry } = &mut self.state
            && retry.is_due(now_ms, &self.timeouts)
        {
            let epoch = *epoch;
            self.output(ImporterOutput::Claim { epoch });
        }
    }

    fn deadline_passed(&mut self, now_ms: u64) {
        match self.state {
            State::Importing => self.refuse(now_ms, Refusal::Expired, false, Cause::ImportTimeout),
            State::Claiming { .. } => {
                self.refuse(now_ms, Refusal::SteeringSilent, true, Cause::SteeringSilent);
            }
            // Nobody knows whether it is still mute: not a case for `Refused`.
            State::Leaving { .. } => self.break_off(now_ms, Cause::LeaveTimeout),
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
        match self.state {
            State::Done => None,
            State::Claiming { retry, .. } => Some(retry.at_ms.min(self.deadline_ms)),
            _ => Some(self.deadline_ms),
        }
    }

    /// Whether the machine can be forgotten, once no import is under way.
    pub fn is_finished(&self) -> bool {
        self.state == State::Done && self.outputs.is_empty()
    }

    fn refuse(&mut self, now_ms: u64, reason: Refusal, claimed: bool, cause: Cause) {
        self.drop_silently(now_ms, cause);
        self.output(ImporterOutput::Send(Message::Refused { reason, claimed }));
    }

    fn drop_silently(&mut self, now_ms: u64, cause: Cause) {
        self.output(ImporterOutput::CloseSilently);
        self.output(ImporterOutput::Report(Outcome::Ended { cause }));
        self.enter(State::Dropped, now_ms + self.timeouts.remember_ms);
    }

    /// Ends a connection that is ours, before it is served.
    fn break_off(&mut self, now_ms: u64, cause: Cause) {
        self.output(ImporterOutput::Reset);
        self.output(ImporterOutput::Report(Outcome::Ended { cause }));
        self.enter(State::Broken, now_ms + self.timeouts.remember_ms);
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
