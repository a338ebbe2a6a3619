//! The world of the scripts: two owners, steering, and what carries their messages.

mod text;

use ashlar_handoff::{
    SecretBytes,
    protocol::{
        Cause, Exporter, ExporterOutput, Importer, ImporterOutput, Message, Owner, Received,
        Refusal, Steered, Timeouts,
    },
};
use std::collections::VecDeque;

/// The flow's epoch when a move begins.
const EPOCH: u64 = 7;

/// What a move does when nothing goes wrong, and what is reached by it.
const STEPS: [(&str, &str); 11] = [
    ("deliver E S", "known"),
    ("deliver S E", "freezing"),
    ("freeze ok", "frozen"),
    ("export ok", "exported"),
    ("deliver E I", "offered"),
    ("import ok", "claiming"),
    ("deliver I S", "claimed"),
    ("deliver S I", "leaving"),
    ("leave ok", "serving"),
    ("deliver I E", "taken"),
    ("check same", "lingering"),
];

/// The most that can happen in one command.
const EVENTS_MAX: usize = 1_000;

/// Asks steering to follow whoever asks.
#[derive(Clone, Copy)]
struct Request {
    makes_an_entry: bool,
    epoch: u64,
}

pub(crate) struct World {
    now_ms: u64,
    exporter: Option<Exporter>,
    importer: Option<Importer>,
    exporter_to_importer: VecDeque<Message>,
    importer_to_exporter: VecDeque<Message>,
    exporter_to_steering: VecDeque<Request>,
    importer_to_steering: VecDeque<Request>,
    steering_to_exporter: VecDeque<Steered>,
    steering_to_importer: VecDeque<Steered>,
    /// The flow's entry.
    entry: Option<(u64, Owner)>,
    /// Steering makes no new entries.
    full: bool,
    /// E's shell has been asked what its socket has received.
    has_looked: bool,
    /// What it finds from the second time on, and says at once.
    received: Received,
    /// What this command has brought about.
    told: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now_ms: 0,
            exporter: None,
            importer: None,
            exporter_to_importer: VecDeque::new(),
            importer_to_exporter: VecDeque::new(),
            exporter_to_steering: VecDeque::new(),
            importer_to_steering: VecDeque::new(),
            steering_to_exporter: VecDeque::new(),
            steering_to_importer: VecDeque::new(),
            entry: None,
            full: false,
            has_looked: false,
            received: Received::Nothing,
            told: Vec::new(),
        }
    }
}

impl World {
    /// Performs a command and tells what came of it.
    pub(crate) fn perform(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["begin", ref options @ ..] => self.begin(options),
            ["reach", goal] => self.reach(goal),
            ["wait", milliseconds] => self.wait(milliseconds.parse().unwrap()),
            ["lose", from, to] => self.lose(from, to),
            ["repeat", from, to] => self.repeat(from, to),
            ["deliver", from, to] => self.deliver(from, to),
            ["channel", "breaks"] => self.break_channel(),
            ["E", "dies"] => self.exporter = None,
            ["I", "dies"] => self.importer = None,
            ["S", "is", "full"] => self.full = true,
            ["S", "follows", owner, epoch] => {
                self.entry = Some((epoch.parse().unwrap(), text::owner_named(owner)));
            }
            ["S", "forgets"] => self.entry = None,
            ["delay", from, "S"] => self.requests(from).rotate_left(1),
            ["lose", "all", from, "S"] => self.requests(from).clear(),
            ["E", "receives", what] => self.received = received(what),
            ["status"] => self.status(),
            _ => self.shell(&words),
        }
        self.drain();
        std::mem::take(&mut self.told)
    }

    fn begin(&mut self, options: &[&str]) {
        let away = options.contains(&"away");
        self.entry = away.then_some((EPOCH, Owner::Exporter));
        self.exporter = Some(Exporter::new(self.now_ms, EPOCH, !away, Timeouts::default()));
    }

    /// What the two shells and the operator do.
    fn shell(&mut self, words: &[&str]) {
        let now_ms = self.now_ms;
        let exporter = self.exporter.as_mut();
        let importer = self.importer.as_mut();
        match words {
            ["freeze", result] => exporter.unwrap().handle_frozen(now_ms, succeeds(result)),
            ["export", result] => {
                let image = match *result {
                    "ok" => Ok(SecretBytes::from(&b"image"[..])),
                    "fails" => Err(Cause::NotExported),
                    "moved" => Err(Cause::ReceiveSequenceMoved),
                    _ => panic!("neither ok nor fails nor moved: {result}"),
                };
                exporter.unwrap().handle_exported(now_ms, image);
            }
            ["import", "ok"] => importer.unwrap().handle_imported(now_ms, Ok(EPOCH)),
            ["import", "fails"] => {
                importer.unwrap().handle_imported(now_ms, Err(Refusal::Kernel));
            }
            ["check", result] => {
                self.received = received(result);
                exporter.unwrap().handle_received(now_ms, self.received.clone());
            }
            ["leave", result] => importer.unwrap().handle_left_repair(now_ms, succeeds(result)),
            ["cancel"] => exporter.unwrap().handle_cancelled(now_ms),
            ["flow", "returns"] => exporter.unwrap().handle_flow_returned(),
            _ => panic!("unknown command: {words:?}"),
        }
    }

    fn reach(&mut self, goal: &str) {
        for (step, reached) in STEPS {
            let is_done = match reached {
                // Only who gets the frames of unknown flows introduces one.
                "known" => self.exporter_to_steering.is_empty(),
                "freezing" => self.steering_to_exporter.is_empty(),
                _ => false,
            };
            let told = if is_done { Vec::new() } else { self.perform(step) };
            self.told.extend(told);
            if reached == goal {
                return;
            }
        }
        panic!("no step reaches {goal}");
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, milliseconds: u64) {
        let end_ms = self.now_ms + milliseconds;
        for _ in 0..EVENTS_MAX {
            let exporter = self.exporter.as_ref().and_then(Exporter::poll_timeout);
            let importer = self.importer.as_ref().and_then(Importer::poll_timeout);
            let Some(next_ms) = exporter.into_iter().chain(importer).min() else { break };
            if next_ms > end_ms {
                break;
            }
            let passed_ms = next_ms - self.now_ms;
            self.now_ms = next_ms;
            if let Some(exporter) = &mut self.exporter {
                exporter.handle_timeout(next_ms);
            }
            if let Some(importer) = &mut self.importer {
                importer.handle_timeout(next_ms);
            }
            self.told.push(format!("(after {passed_ms} ms)"));
            self.drain();
        }
        self.now_ms = end_ms;
    }

    /// What is on its way to steering from one of the owners.
    fn requests(&mut self, from: &str) -> &mut VecDeque<Request> {
        match from {
            "E" => &mut self.exporter_to_steering,
            "I" => &mut self.importer_to_steering,
            _ => panic!("no way from {from} to S"),
        }
    }

    /// What is on its way from steering to one of the owners.
    fn answers(&mut self, to: &str) -> &mut VecDeque<Steered> {
        match to {
            "E" => &mut self.steering_to_exporter,
            "I" => &mut self.steering_to_importer,
            _ => panic!("no way from S to {to}"),
        }
    }

    fn lose(&mut self, from: &str, to: &str) {
        match (from, to) {
            ("E", "I") => drop(self.exporter_to_importer.pop_front().unwrap()),
            ("I", "E") => drop(self.importer_to_exporter.pop_front().unwrap()),
            (from, "S") => drop(self.requests(from).pop_front().unwrap()),
            ("S", to) => drop(self.answers(to).pop_front().unwrap()),
            _ => panic!("no way from {from} to {to}"),
        }
    }

    fn repeat(&mut self, from: &str, to: &str) {
        match (from, to) {
            (from, "S") => {
                let requests = self.requests(from);
                assert!(!requests[0].makes_an_entry, "steering sees it once");
                requests.push_back(requests[0]);
            }
            ("S", to) => {
                let answers = self.answers(to);
                answers.push_back(answers[0]);
            }
            _ => panic!("the way from {from} to {to} repeats nothing"),
        }
    }

    fn deliver(&mut self, from: &str, to: &str) {
        let now_ms = self.now_ms;
        match (from, to) {
            ("E", "I") => {
                let message = self.exporter_to_importer.pop_front().unwrap();
                match (&mut self.importer, message) {
                    (Some(importer), message) => importer.handle_message(now_ms, &message),
                    (importer, Message::Offer { image }) => {
                        *importer = Some(Importer::new(now_ms, image, Timeouts::default()));
                    }
                    (None, _) => {}
                }
            }
            ("I", "E") => {
                let message = self.importer_to_exporter.pop_front().unwrap();
                if let Some(exporter) = &mut self.exporter {
                    exporter.handle_message(now_ms, &message);
                }
            }
            ("E", "S") => self.steer("E", Owner::Exporter),
            ("I", "S") => self.steer("I", Owner::Importer),
            ("S", "E") => {
                let steered = self.steering_to_exporter.pop_front().unwrap();
                self.exporter.as_mut().unwrap().handle_steered(now_ms, steered);
            }
            ("S", "I") => {
                let steered = self.steering_to_importer.pop_front().unwrap();
                self.importer.as_mut().unwrap().handle_steered(now_ms, steered);
            }
            _ => panic!("no way from {from} to {to}"),
        }
    }

    /// Steering: absolute, newer epochs win, claims make no entry, the answer is the state.
    fn steer(&mut self, asker: &str, owner: Owner) {
        let Request { makes_an_entry, epoch } = self.requests(asker).pop_front().unwrap();
        let follows = match self.entry {
            None => makes_an_entry && !self.full,
            Some((held_epoch, _)) => held_epoch < epoch,
        };
        if follows {
            self.entry = Some((epoch, owner));
        }
        let (held_epoch, owner) = self.entry.unwrap_or((0, Owner::Nobody));
        let steered = Steered { answers_epoch: epoch, epoch: held_epoch, owner };
        self.told.push(text::steered(asker, &steered));
        self.answers(asker).push_back(steered);
    }

    /// The importer goes on without its channel.
    fn break_channel(&mut self) {
        self.exporter_to_importer.clear();
        self.importer_to_exporter.clear();
        let now_ms = self.now_ms;
        self.exporter.iter_mut().for_each(|exporter| exporter.handle_channel_lost(now_ms));
    }

    fn drain(&mut self) {
        while let Some(output) = self.exporter.as_mut().and_then(Exporter::poll_output) {
            if output == ExporterOutput::CheckReceived && self.has_looked {
                let exporter = self.exporter.as_mut().unwrap();
                exporter.handle_received(self.now_ms, self.received.clone());
                continue;
            }
            self.told.push(text::exporter_output(&output));
            match output {
                ExporterOutput::CheckReceived => self.has_looked = true,
                ExporterOutput::Send(message) => self.exporter_to_importer.push_back(message),
                ExporterOutput::Introduce { epoch } => {
                    self.exporter_to_steering.push_back(Request { makes_an_entry: true, epoch });
                }
                ExporterOutput::Claim { epoch } => {
                    self.exporter_to_steering.push_back(Request { makes_an_entry: false, epoch });
                }
                _ => {}
            }
        }
        while let Some(output) = self.importer.as_mut().and_then(Importer::poll_output) {
            self.told.push(text::importer_output(&output));
            match output {
                ImporterOutput::Send(message) => self.importer_to_exporter.push_back(message),
                ImporterOutput::Claim { epoch } => {
                    self.importer_to_steering.push_back(Request { makes_an_entry: false, epoch });
                }
                _ => {}
            }
        }
    }

    fn status(&mut self) {
        let exporter = match &self.exporter {
            None => "dead",
            Some(exporter) if exporter.is_finished() => "finished",
            Some(_) => "busy",
        };
        let importer = match &self.importer {
            None => "not there",
            Some(importer) if importer.is_finished() => "finished",
            Some(_) => "busy",
        };
        let steering = match self.entry {
            None => "knows no entry".to_owned(),
            Some((epoch, owner)) => format!("follows {} at epoch {epoch}", text::owner(owner)),
        };
        self.told.push(format!("E is {exporter}, I is {importer}, S {steering}"));
    }
}

/// `same`, a number of bytes, or `more`.
fn received(what: &str) -> Received {
    match what {
        "same" => Received::Nothing,
        "more" => Received::More,
        bytes => Received::Bytes(vec![7; bytes.parse().unwrap()].into()),
    }
}

fn succeeds(result: &str) -> bool {
    match result {
        "ok" => true,
        "fails" => false,
        _ => panic!("neither ok nor fails: {result}"),
    }
}
