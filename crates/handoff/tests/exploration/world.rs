//! One exporter, one importer, steering, and what lies between them.

use ashlar_handoff::{
    SecretBytes,
    protocol::{
        Exporter, ExporterOutput, Importer, ImporterOutput, Message, Outcome, Owner, Refusal,
        Steered, Timeouts, answer_unknown,
    },
};

const EPOCH: u64 = 1;
/// The most copies of one message under way: more tell nothing new.
const COPIES_MAX: usize = 2;
/// The most deadlines that one machine may need to end.
const DEADLINES_MAX: usize = 16;
/// Two `Point`s fit before each deadline.
const TIMEOUTS: Timeouts = Timeouts {
    freeze_ms: 2,
    export_ms: 2,
    offer_ms: 2,
    check_ms: 2,
    point_ms: 2,
    point_pause_ms: 1,
    point_pause_max_ms: 1,
    take_back_ms: 2,
    taken_ms: 2,
    linger_ms: 2,
    import_ms: 4,
    go_ms: 4,
    leave_ms: 4,
    remember_ms: 4,
};

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
        is_full: false,
    };
}

/// How the shells do their duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shell {
    Dutiful,
    ThawsInsteadOfResetting,
    ServesInsteadOfClosing,
}

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
    ImporterLearnsOfTheBreak,
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
    to_steering: Vec<(Owner, u64)>,
    from_steering: Vec<Steered>,
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
            outcomes: Vec::new(),
        };
        world.perform_exporter_outputs(usize::MAX);
        world
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for task in &self.tasks {
            actions.push(Action::Report { task: *task, succeeds: true });
            if self.faults.failures > 0 {
                actions.push(Action::Report { task: *task, succeeds: false });
            }
        }
        self.deliveries(&mut actions);
        if self.faults.deadlines {
            if self.exporter_alive && self.exporter.poll_timeout().is_some() {
                actions.push(Action::ExporterDeadline);
            }
            let importer = self.importer.as_ref().and_then(Importer::poll_timeout);
            if self.importer_alive && importer.is_some() {
                actions.push(Action::ImporterDeadline);
            }
        }
        if self.faults.cancellations > 0 && self.exporter_alive {
            actions.push(Action::Cancel);
        }
        if self.faults.breaks > 0 {
            actions.push(Action::Break);
        }
        if self.channel_broken && !self.exporter_cut && self.exporter_alive {
            actions.push(Action::ExporterLearnsOfTheBreak);
        }
        if self.channel_broken && !self.importer_cut && self.importer_alive {
            actions.push(Action::ImporterLearnsOfTheBreak);
        }
        if self.faults.memory_losses > 0 && self.steering_alive {
            actions.push(Action::SteeringForgets);
        }
        if self.faults.deaths > 0 {
            self.deaths(&mut actions);
        }
        actions
    }

    fn deliveries(&self, actions: &mut Vec<Action>) {
        for stays in [false, true] {
            if stays && self.faults.repetitions == 0 {
                continue;
            }
            if self.importer_alive {
                let indexes = 0..self.to_importer.len();
                actions.extend(indexes.map(|index| Action::ToImporter { index, stays }));
            }
            if self.exporter_alive {
                let indexes = 0..self.to_exporter.len();
                actions.extend(indexes.map(|index| Action::ToExporter { index, stays }));
                let indexes = 0..self.from_steering.len();
                actions.extend(indexes.map(|index| Action::FromSteering { index, stays }));
            }
            if self.steering_alive {
                let indexes = 0..self.to_steering.len();
                actions.extend(indexes.map(|index| Action::ToSteering { index, stays }));
            }
        }
    }

    /// Deaths at rest, and between the outputs of whatever else may happen.
    fn deaths(&self, actions: &mut Vec<Action>) {
        if self.steering_alive {
            actions.push(Action::SteeringDies);
        }
        let living = actions.clone();
        if self.exporter_alive {
            actions.push(Action::ExporterDies { after_outputs: 0, action: None });
        }
        if self.importer_alive {
            actions.push(Action::ImporterDies { after_outputs: 0, action: None });
        }
        for action in living {
            let (of_exporter, outputs) = self.outputs_of(&action);
            for after_outputs in 1..outputs {
                let action = Some(Box::new(action.clone()));
                actions.push(if of_exporter {
                    Action::ExporterDies { after_outputs, action }
                } else {
                    Action::ImporterDies { after_outputs, action }
                });
            }
        }
    }

    /// Whose outputs an action gives, and how many.
    fn outputs_of(&self, action: &Action) -> (bool, usize) {
        let mut world = self.clone();
        world.input(action);
        let exporter = std::iter::from_fn(|| world.exporter.poll_output()).count();
        let importer = world
            .importer
            .as_mut()
            .map_or(0, |importer| std::iter::from_fn(|| importer.poll_output()).count());
        (exporter > 0, exporter.max(importer))
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
        self.to_importer.sort_by_key(|message| format!("{message:?}"));
        self.to_exporter.sort_by_key(|message| format!("{message:?}"));
        self.to_steering.sort_by_key(|(_, epoch)| *epoch);
        self.from_steering.sort_by_key(|steered| (steered.answers_epoch, steered.epoch));
        self.tasks.sort_by_key(|task| *task as u8);
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
                if self.exporter.is_finished() && !stays {
                    // Some shells forget what is finished at once.
                    self.send_to_importer(answer_unknown(&message));
                } else {
                    self.exporter.handle_message(self.exporter_now_ms, &message);
                }
            }
            Action::ToSteering { index, stays } => {
                let (owner, epoch) = take(&mut self.to_steering, index, stays, &mut self.faults);
                self.steer(owner, epoch);
            }
            Action::FromSteering { index, stays } => {
                let steered = take(&mut self.from_steering, index, stays, &mut self.faults);
                self.exporter.handle_steered(self.exporter_now_ms, steered);
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
                self.to_exporter.clear();
                self.exporter.handle_channel_lost(self.exporter_now_ms);
            }
            Action::ImporterLearnsOfTheBreak => {
                self.importer_cut = true;
                self.to_importer.clear();
                if let Some(importer) = &mut self.importer {
                    importer.handle_channel_lost(self.importer_now_ms);
                }
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
                self.exporter.handle_exported(now_ms, image);
            }
            Task::Check => self.exporter.handle_receive_sequence(now_ms, !succeeds),
            Task::Import => {
                if succeeds {
                    self.importer_socket = Socket::Mute;
                }
                let result = if succeeds { Ok(()) } else { Err(Refusal::Kernel) };
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
    fn steer(&mut self, owner: Owner, epoch: u64) {
        match self.entry {
            None if self.faults.is_full => {}
            Some((held_epoch, _)) if held_epoch >= epoch => {}
            _ => self.entry = Some((epoch, owner)),
        }
        let (held_epoch, owner) = self.entry.unwrap_or((0, Owner::Nobody));
        let steered = Steered { answers_epoch: epoch, epoch: held_epoch, owner };
        put(&mut self.from_steering, steered);
    }

    fn perform_exporter_outputs(&mut self, outputs_max: usize) {
        for _ in 0..outputs_max {
            let Some(output) = self.exporter.poll_output() else { return };
            match output {
                ExporterOutput::Freeze => self.tasks.push(Task::Freeze),
                ExporterOutput::Export => self.tasks.push(Task::Export),
                ExporterOutput::CheckReceiveSequence => self.tasks.push(Task::Check),
                ExporterOutput::Send(message) => self.send_to_importer(Some(message)),
                ExporterOutput::Point { owner, epoch } => {
                    put(&mut self.to_steering, (owner, epoch))
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
                ImporterOutput::Report(outcome) => self.outcomes.push(outcome),
            }
        }
    }

    fn send_to_importer(&mut self, message: Option<Message>) {
        if let Some(message) = message.filter(|_| !self.exporter_cut) {
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

/// What must hold.
impl World {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.thawed && self.served {
            return Err("two continuations".into());
        }
        let follows = self.entry.map(|(_, owner)| owner);
        if !self.steering_forgot {
            let at_home = if self.is_home { None } else { Some(Owner::Exporter) };
            let follows_exporter = follows == Some(Owner::Exporter) || follows == at_home;
            if self.thawed && !follows_exporter && !self.faults.is_full {
                return Err(format!("the exporter goes on, steering follows {follows:?}"));
            }
            if self.served && follows != Some(Owner::Importer) {
                return Err(format!("the importer goes on, steering follows {follows:?}"));
            }
        }
        if self.faults == Faults::NONE {
            let steered_here = match follows {
                Some(Owner::Importer) => self.importer_socket,
                _ => self.exporter_socket,
            };
            if steered_here == Socket::Absent {
                return Err("a frame of the client would meet no socket".into());
            }
        }
        self.check_nobody_is_stuck()
    }

    fn check_nobody_is_stuck(&self) -> Result<(), String> {
        let mut world = self.clone();
        for _ in 0..DEADLINES_MAX {
            if !world.exporter_alive || world.exporter.poll_timeout().is_none() {
                break;
            }
            world.perform(&Action::ExporterDeadline);
        }
        if world.exporter_alive {
            if !world.exporter.is_finished() {
                return Err(format!("the exporter is stuck: {:?}", world.exporter));
            }
            if world.exporter_socket == Socket::Mute {
                return Err("the exporter's socket stays frozen".into());
            }
        }
        for _ in 0..DEADLINES_MAX {
            let importer = world.importer.as_ref().and_then(Importer::poll_timeout);
            if !world.importer_alive || importer.is_none() {
                break;
            }
            world.perform(&Action::ImporterDeadline);
        }
        if world.tasks.contains(&Task::Import) && world.importer_alive {
            world.report(Task::Import, true);
            world.perform_importer_outputs(usize::MAX);
        }
        if world.importer.is_some_and(|importer| !importer.is_finished()) && world.importer_alive {
            return Err("the importer is stuck".into());
        }
        if world.importer_socket == Socket::Mute {
            return Err("the importer's socket stays mute".into());
        }
        Ok(())
    }

    /// Whether the connection is where it should be.
    pub(crate) fn has_moved(&self) -> bool {
        let moved = Outcome::Moved { epoch: EPOCH + 1 };
        self.outcomes == [moved, moved]
            && self.importer_socket == Socket::Alive
            && self.exporter_socket == Socket::Mute
            && self.entry == Some((EPOCH + 1, Owner::Importer))
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = String> {
        self.outcomes.iter().map(|outcome| format!("{outcome:?}"))
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
