//! The world of the scripts: two owners, steering, and what carries their messages.

mod text;

use ashlar_handoff::{
    SecretBytes,
    protocol::{
        Exporter, ExporterOutput, Importer, ImporterOutput, Message, Owner, Refusal, Steered,
        Timeouts, answer_unknown,
    },
};
use std::collections::VecDeque;

/// What a move does when nothing goes wrong, and what is reached by it.
const STEPS: [(&str, &str); 11] = [
    ("freeze ok", "frozen"),
    ("export ok", "exported"),
    ("deliver E I", "offered"),
    ("import ok", "imported"),
    ("deliver I E", "checking"),
    ("check same", "pointing"),
    ("deliver E S", "pointed"),
    ("deliver S E", "going"),
    ("deliver E I", "leaving"),
    ("leave ok", "serving"),
    ("deliver I E", "taken"),
];

/// The most that can happen in one command.
const EVENTS_MAX: usize = 1_000;

#[derive(Default)]
pub(crate) struct World {
    now_ms: u64,
    exporter: Option<Exporter>,
    importer: Option<Importer>,
    exporter_to_importer: VecDeque<Message>,
    importer_to_exporter: VecDeque<Message>,
    exporter_to_steering: VecDeque<(Owner, u64)>,
    steering_to_exporter: VecDeque<Steered>,
    /// The flow's entry.
    entry: Option<(u64, Owner)>,
    /// Steering makes no new entries.
    full: bool,
    /// What this command has brought about.
    told: Vec<String>,
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
            ["delay", "E", "S"] => self.exporter_to_steering.rotate_left(1),
            ["lose", "all", "E", "S"] => self.exporter_to_steering.clear(),
            ["status"] => self.status(),
            _ => self.shell(&words),
        }
        self.drain();
        std::mem::take(&mut self.told)
    }

    fn begin(&mut self, options: &[&str]) {
        let away = options.contains(&"away");
        let epoch = 7;
        self.entry = away.then_some((epoch, Owner::Exporter));
        self.exporter = Some(Exporter::new(self.now_ms, epoch, !away, Timeouts::default()));
    }

    /// What the two shells and the operator do.
    fn shell(&mut self, words: &[&str]) {
        let now_ms = self.now_ms;
        let exporter = self.exporter.as_mut();
        let importer = self.importer.as_mut();
        match words {
            ["freeze", result] => exporter.unwrap().handle_frozen(now_ms, succeeds(result)),
            ["export", result] => {
                let image = succeeds(result).then(|| SecretBytes::from(&b"image"[..]));
                exporter.unwrap().handle_exported(now_ms, image);
            }
            ["import", "ok"] => importer.unwrap().handle_imported(now_ms, Ok(())),
            ["import", "fails"] => {
                importer.unwrap().handle_imported(now_ms, Err(Refusal::Kernel));
            }
            ["check", result] => {
                exporter.unwrap().handle_receive_sequence(now_ms, *result == "moved");
            }
            ["leave", result] => importer.unwrap().handle_left_repair(now_ms, succeeds(result)),
            ["cancel"] => exporter.unwrap().handle_cancelled(now_ms),
            ["flow", "returns"] => exporter.unwrap().handle_flow_returned(),
            _ => panic!("unknown command: {words:?}"),
        }
    }

    fn reach(&mut self, goal: &str) {
        for (step, reached) in STEPS {
            let told = self.perform(step);
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

    fn lose(&mut self, from: &str, to: &str) {
        match (from, to) {
            ("E", "I") => drop(self.exporter_to_importer.pop_front().unwrap()),
            ("I", "E") => drop(self.importer_to_exporter.pop_front().unwrap()),
            ("E", "S") => drop(self.exporter_to_steering.pop_front().unwrap()),
            ("S", "E") => drop(self.steering_to_exporter.pop_front().unwrap()),
            _ => panic!("no way from {from} to {to}"),
        }
    }

    fn repeat(&mut self, from: &str, to: &str) {
        match (from, to) {
            ("E", "S") => self.exporter_to_steering.push_back(self.exporter_to_steering[0]),
            ("S", "E") => self.steering_to_exporter.push_back(self.steering_to_exporter[0]),
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
                match &mut self.exporter {
                    Some(exporter) => exporter.handle_message(now_ms, &message),
                    None => self.exporter_to_importer.extend(answer_unknown(&message)),
                }
            }
            ("E", "S") => self.steer(),
            ("S", "E") => {
                let steered = self.steering_to_exporter.pop_front().unwrap();
                self.exporter.as_mut().unwrap().handle_steered(now_ms, steered);
            }
            _ => panic!("no way from {from} to {to}"),
        }
    }

    /// Steering: absolute, newer epochs win, the answer is the state.
    fn steer(&mut self) {
        let (owner, epoch) = self.exporter_to_steering.pop_front().unwrap();
        match self.entry {
            None if self.full => {}
            Some((held_epoch, _)) if held_epoch >= epoch => {}
            _ => self.entry = Some((epoch, owner)),
        }
        let (held_epoch, owner) = self.entry.unwrap_or((0, Owner::Nobody));
        let steered = Steered { answers_epoch: epoch, epoch: held_epoch, owner };
        self.told.push(text::steered(&steered));
        self.steering_to_exporter.push_back(steered);
    }

    fn break_channel(&mut self) {
        self.exporter_to_importer.clear();
        self.importer_to_exporter.clear();
        let now_ms = self.now_ms;
        self.exporter.iter_mut().for_each(|exporter| exporter.handle_channel_lost(now_ms));
        self.importer.iter_mut().for_each(|importer| importer.handle_channel_lost(now_ms));
    }

    fn drain(&mut self) {
        while let Some(output) = self.exporter.as_mut().and_then(Exporter::poll_output) {
            self.told.push(text::exporter_output(&output));
            match output {
                ExporterOutput::Send(message) => self.exporter_to_importer.push_back(message),
                ExporterOutput::Point { owner, epoch } => {
                    self.exporter_to_steering.push_back((owner, epoch));
                }
                _ => {}
            }
        }
        while let Some(output) = self.importer.as_mut().and_then(Importer::poll_output) {
            self.told.push(text::importer_output(&output));
            if let ImporterOutput::Send(message) = output {
                self.importer_to_exporter.push_back(message);
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

fn succeeds(result: &str) -> bool {
    match result {
        "ok" => true,
        "fails" => false,
        _ => panic!("neither ok nor fails: {result}"),
    }
}
