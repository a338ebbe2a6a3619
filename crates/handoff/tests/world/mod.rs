//! One exporter, one importer, steering, and what lies between them.

mod actions;
mod faults;
mod invariants;

pub(crate) use faults::{Faults, Shell};

use ashlar_handoff::{
    SecretBytes,
    protocol::{
        Cause, Exporter, ExporterOutput, Importer, ImporterOutput, Message, Outcome, Owner,
        Received, Refusal, Steered, Timeouts,
    },
};

const EPOCH: u64 = 1;
/// What the exporter's socket receives behind the image.
const LATE: &[u8] = b"late";
/// The most copies of one message under way: more tell nothing new.
const COPIES_MAX: usize = 2;
/// Two claims fit before each deadline.
const TIMEOUTS: Timeouts = Timeouts {
    introduce_ms: 2,
    freeze_ms: 2,
    export_ms: 2,
    offer_ms: 4,
    check_ms: 2,
    take_back_ms: 2,
    linger_ms: 2,
    import_ms: 1,
    claim_ms: 2,
    claim_pause_ms: 1,
    claim_pause_max_ms: 1,
    leave_ms: 1,
    remember_ms: 4,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Socket {
    /// Not there yet, or not any more.
    Absent,
    /// Frozen, or in repair mode.
    Mute,
    Alive,
}

/// What a shell was told to do and has not yet reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    Freeze,
    Export,
    Check,
    Import,
    Leave,
}

/// Who asks steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Asker {
    Exporter,
    Importer,
}

/// Asks steering to follow the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    asker: Asker,
    makes_an_entry: bool,
    epoch: u64,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Report {
        task: Task,
        succeeds: bool,
    },
    ToImporter {
        index: usize,
        stays: bool,
    },
    ToExporter {
        index: usize,
        stays: bool,
    },
    ToSteering {
        index: usize,
        stays: bool,
    },
    FromSteering {
        index: usize,
        stays: bool,
    },
    ExporterDeadline,
    ImporterDeadline,
    Cancel,
    Break,
    ExporterLearnsOfTheBreak,
    ImporterIsCutOff,
    /// The importer has served the connection and gives it back.
    FlowReturns,
    SteeringForgets,
    SteeringDies,
    /// It dies once it has performed so many of the outputs of what happens.
    ExporterDies {
        after_outputs: usize,
        action: Option<Box<Action>>,
    },
    ImporterDies {
        after_outputs: usize,
        action: Option<Box<Action>>,
    },
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct World {
    faults: Faults,
    shell: Shell,
    is_home: bool,
    exporter: Exporter,
    exporter_now_ms: u64,
    exporter_alive: bool,
    exporter_socket: Socket,
    importer: Option<Importer>,
    importer_now_ms: u64,
    importer_alive: bool,
    importer_socket: Socket,
    tasks: Vec<Task>,
    to_importer: Vec<Message>,
    to_exporter: Vec<Message>,
    to_steering: Vec<Request>,
    from_steering: Vec<(Asker, Steered)>,
    channel_broken: bool,
    exporter_cut: bool,
    importer_cut: bool,
    entry: Option<(u64, Owner)>,
    steering_alive: bool,
    steering_forgot: bool,
    /// The exporter's socket has come back to life at some time.
    thawed: bool,
    /// The importer's socket has come to life at some time.
    served: bool,
    /// The exporter has passed late bytes on, and the importer has received them.
    sent_late: bool,
    received_late: bool,
    outcomes: Vec<Outcome>,
}

impl World {
    pub(crate) fn new(is_home: bool, faults: Faults, shell: Shell) -> Self {
        let mut world = Self {
            faults,
            shell,
            is_home,
            exporter: Exporter::new(0, EPOCH, is_home, TIMEOUTS),
            exporter_now_ms: 0,
            exporter_alive: true,
            exporter_socket: Socket::Alive,
            importer: None,
            importer_now_ms: 0,
            importer_alive: true,
            importer_socket: Socket::Absent,
            tasks: Vec::new(),
            to_importer: Vec::new(),
            to_exporter: Vec::new(),
            to_steering: Vec::new(),
            from_steering: Vec::new(),
            channel_broken: false,
            exporter_cut: false,
            importer_cut: false,
            entry: (!is_home && !faults.is_full).then_some((EPOCH, Owner::Exporter)),
            steering_alive: true,
            steering_forgot: false,
            thawed: false,
            served: false,
            sent_late: false,
            received_late: false,
            outcomes: Vec::new(),
        };
        world.perform_exporter_outputs(usize::MAX);
        world
    }

    pub(crate) fn perform(&mut self, action: &Action) {
        match action {
            Action::ExporterDies { after_outputs, action } => {
                self.faults.deaths -= 1;
                if let Some(action) = action {
                    self.input(action);
                    self.perform_exporter_outputs(*after_outputs);
                }
                while self.exporter.poll_output().is_some() {}
                self.exporter_alive = false;
                self.exporter_socket = Socket::Absent;
                self.tasks.retain(|task| matches!(task, Task::Import | Task::Leave));
            }
            Action::ImporterDies { after_outputs, action } => {
                self.faults.deaths -= 1;
                if let Some(action) = action {
                    self.input(action);
                    self.perform_importer_outputs(*after_outputs);
                }
                self.importer = None;
                self.importer_alive = false;
                self.importer_socket = Socket::Absent;
                self.tasks.retain(|task| !matches!(task, Task::Import | Task::Leave));
            }
            action => {
                self.input(action);
                self.perform_exporter_outputs(usize::MAX);
                self.perform_importer_outputs(usize::MAX);
            }
        }
        self.forget_what_nobody_gets();
        self.to_importer.sort_by_key(rank);
        self.to_exporter.sort_by_key(rank);
        self.to_steering.sort();
        self.from_steering.sort_by_key(|(asker, steered)| {
            (*asker, steered.answers_epoch, steered.epoch, steered.owner as u8)
        });
        self.tasks.sort_by_key(|task| *task as u8);
    }

    /// What is under way to the dead makes no difference.
    fn forget_what_nobody_gets(&mut self) {
        if !self.exporter_alive {
            self.to_exporter.clear();
            self.from_steering.retain(|(asker, _)| *asker == Asker::Importer);
        }
        if !self.importer_alive {
            self.from_steering.retain(|(asker, _)| *asker == Asker::Exporter);
        }
        if !self.importer_alive || self.importer_cut {
            self.to_importer.clear();
        }
        if self.exporter_cut {
            self.to_exporter.clear();
        }
        if !self.steering_alive {
            self.to_steering.clear();
        }
    }

    /// Gives a machine its input and leaves its outputs where they are.
    fn input(&mut self, action: &Action) {
        match *action {
            Action::Report { task, succeeds } => self.report(task, succeeds),
            Action::ToImporter { index, stays } => {
                let message = take(&mut self.to_importer, index, stays, &mut self.faults);
                self.importer_receives(message);
            }
            Action::ToExporter { index, stays } => {
                let message = take(&mut self.to_exporter, index, stays, &mut self.faults);
                self.exporter.handle_message(self.exporter_now_ms, &message);
            }
            Action::ToSteering { index, stays } => {
                let request = take(&mut self.to_steering, index, stays, &mut self.faults);
                self.steer(request);
            }
            Action::FromSteering { index, stays } => {
                match take(&mut self.from_steering, index, stays, &mut self.faults) {
                    (Asker::Exporter, steered) => {
                        self.exporter.handle_steered(self.exporter_now_ms, steered);
                    }
                    (Asker::Importer, steered) => {
                        let importer = self.importer.as_mut().unwrap();
                        importer.handle_steered(self.importer_now_ms, steered);
                    }
                }
            }
            Action::ExporterDeadline => {
                self.exporter_now_ms = self.exporter.poll_timeout().unwrap();
                self.exporter.handle_timeout(self.exporter_now_ms);
            }
            Action::ImporterDeadline => {
                let importer = self.importer.as_mut().unwrap();
                self.importer_now_ms = importer.poll_timeout().unwrap();
                importer.handle_timeout(self.importer_now_ms);
            }
            Action::Cancel => {
                self.faults.cancellations -= 1;
                self.exporter.handle_cancelled(self.exporter_now_ms);
            }
            Action::Break => {
                self.faults.breaks -= 1;
                self.channel_broken = true;
            }
            Action::ExporterLearnsOfTheBreak => {
                self.exporter_cut = true;
                self.exporter.handle_channel_lost(self.exporter_now_ms);
            }
            Action::ImporterIsCutOff => self.importer_cut = true,
            Action::FlowReturns => {
                self.faults.returns = false;
                self.exporter.handle_flow_returned();
            }
            Action::SteeringForgets => {
                self.faults.memory_losses -= 1;
                self.entry = None;
                self.steering_forgot = true;
            }
            Action::SteeringDies => {
                self.faults.deaths -= 1;
                self.steering_alive = false;
            }
            Action::ExporterDies { .. } | Action::ImporterDies { .. } => unreachable!(),
        }
    }

    fn report(&mut self, task: Task, succeeds: bool) {
        let position = self.tasks.iter().position(|pending| *pending == task).unwrap();
        self.tasks.remove(position);
        if !succeeds {
            self.faults.failures -= 1;
        }
        let now_ms = self.exporter_now_ms;
        let importer = self.importer.as_mut();
        match task {
            Task::Freeze => {
                if succeeds {
                    self.exporter_socket = Socket::Mute;
                }
                self.exporter.handle_frozen(now_ms, succeeds);
            }
            Task::Export => {
                let image = succeeds.then(|| SecretBytes::from(&b"image"[..]));
                self.exporter.handle_exported(now_ms, image.ok_or(Cause::NotExported));
            }
            Task::Check => {
                let received = if succeeds {
                    Received::Nothing
                } else if self.faults.is_late_unknown {
                    Received::More
                } else {
                    Received::Bytes(SecretBytes::from(LATE))
                };
                self.exporter.handle_received(now_ms, received);
            }
            Task::Import => {
                if succeeds {
                    self.importer_socket = Socket::Mute;
                }
                let result = if succeeds { Ok(EPOCH) } else { Err(Refusal::Kernel) };
                importer.unwrap().handle_imported(self.importer_now_ms, result);
            }
            Task::Leave => {
                if succeeds {
                    self.importer_lives();
                }
                let importer = self.importer.as_mut().unwrap();
                importer.handle_left_repair(self.importer_now_ms, succeeds);
            }
        }
    }

    fn importer_receives(&mut self, message: Message) {
        match (&mut self.importer, message) {
            (Some(importer), message) => importer.handle_message(self.importer_now_ms, &message),
            (importer, Message::Offer { image }) => {
                *importer = Some(Importer::new(self.importer_now_ms, image, TIMEOUTS));
            }
            (None, _) => {}
        }
    }

    /// Steering: absolute, newer epochs win, the answer is the state.
    fn steer(&mut self, request: Request) {
        let Request { asker, makes_an_entry, epoch } = request;
        let may_change = match self.entry {
            None => makes_an_entry && !self.faults.is_full,
            Some((held_epoch, _)) => held_epoch < epoch,
        };
        if may_change {
            let owner = match asker {
                Asker::Exporter => Owner::Exporter,
                Asker::Importer => Owner::Importer,
            };
            self.entry = Some((epoch, owner));
        }
        let (held_epoch, owner) = self.entry.unwrap_or((0, Owner::Nobody));
        let steered = Steered { answers_epoch: epoch, epoch: held_epoch, owner };
        put(&mut self.from_steering, (asker, steered));
    }

    fn perform_exporter_outputs(&mut self, outputs_max: usize) {
        for _ in 0..outputs_max {
            let Some(output) = self.exporter.poll_output() else { return };
            match output {
                ExporterOutput::Freeze => self.tasks.push(Task::Freeze),
                ExporterOutput::Export => self.tasks.push(Task::Export),
                ExporterOutput::CheckReceived => {
                    if !self.tasks.contains(&Task::Check) {
                        self.tasks.push(Task::Check);
                    }
                }
                ExporterOutput::Send(message) => {
                    self.sent_late |= matches!(message, Message::Late { .. });
                    self.send_to_importer(message);
                }
                ExporterOutput::Introduce { epoch } => {
                    let asker = Asker::Exporter;
                    let request = Request { asker, makes_an_entry: true, epoch };
                    put(&mut self.to_steering, request);
                    if self.shell == Shell::IntroducesTwice {
                        put(&mut self.to_steering, request);
                    }
                }
                ExporterOutput::Claim { epoch } => {
                    let asker = Asker::Exporter;
                    put(&mut self.to_steering, Request { asker, makes_an_entry: false, epoch });
                }
                ExporterOutput::Thaw => self.exporter_thaws(),
                ExporterOutput::Reset if self.shell == Shell::ThawsInsteadOfResetting => {
                    self.exporter_thaws();
                }
                ExporterOutput::Reset | ExporterOutput::CloseSilently => {
                    self.exporter_socket = Socket::Absent;
                }
                ExporterOutput::Report(outcome) => self.outcomes.push(outcome),
            }
        }
    }

    fn perform_importer_outputs(&mut self, outputs_max: usize) {
        for _ in 0..outputs_max {
            let Some(output) = self.importer.as_mut().and_then(Importer::poll_output) else {
                return;
            };
            match output {
                ImporterOutput::Import(_) => self.tasks.push(Task::Import),
                ImporterOutput::Claim { epoch } => {
                    let asker = Asker::Importer;
                    put(&mut self.to_steering, Request { asker, makes_an_entry: false, epoch });
                }
                ImporterOutput::LeaveRepair => self.tasks.push(Task::Leave),
                ImporterOutput::Send(message) if !self.importer_cut => {
                    put(&mut self.to_exporter, message);
                }
                ImporterOutput::Send(_) => {}
                ImporterOutput::Serve { .. } => assert_eq!(self.importer_socket, Socket::Alive),
                ImporterOutput::CloseSilently if self.shell == Shell::ServesInsteadOfClosing => {
                    if self.importer_socket == Socket::Mute {
                        self.importer_lives();
                    }
                }
                ImporterOutput::CloseSilently => {
                    assert_ne!(self.importer_socket, Socket::Alive, "it would vanish in service");
                    self.importer_socket = Socket::Absent;
                }
                ImporterOutput::Reset => {
                    self.importer_socket = Socket::Absent;
                    self.tasks.retain(|task| *task != Task::Leave);
                }
                ImporterOutput::Receive(bytes) => {
                    assert_eq!(&*bytes, LATE);
                    assert_eq!(self.importer_socket, Socket::Alive);
                    self.received_late = true;
                }
                ImporterOutput::Report(outcome) => self.outcomes.push(outcome),
            }
        }
    }

    fn send_to_importer(&mut self, message: Message) {
        if !self.exporter_cut {
            put(&mut self.to_importer, message);
        }
    }

    fn exporter_thaws(&mut self) {
        self.tasks.retain(|task| *task != Task::Freeze);
        self.exporter_socket = Socket::Alive;
        self.thawed = true;
    }

    fn importer_lives(&mut self) {
        self.importer_socket = Socket::Alive;
        self.served = true;
    }
}

/// An order in which equal messages lie together: the queues are bags.
fn rank(message: &Message) -> (u8, u8) {
    match message {
        Message::Offer { .. } => (0, 0),
        Message::Refused { reason, claimed } => (1 + u8::from(*claimed), *reason as u8),
        Message::Taken => (3, 0),
        Message::Cut => (4, 0),
        Message::Late { .. } => (5, 0),
    }
}

fn put<T: PartialEq>(queue: &mut Vec<T>, message: T) {
    if queue.iter().filter(|queued| **queued == message).count() < COPIES_MAX {
        queue.push(message);
    }
}

fn take<T: Clone>(queue: &mut Vec<T>, index: usize, stays: bool, faults: &mut Faults) -> T {
    if stays {
        faults.repetitions -= 1;
        queue[index].clone()
    } else {
        queue.remove(index)
    }
}
