//! The kernel of a host, as an actor beside the replica's process.
//!
//! Its program decides about packets as the real one does ([`ashlar_fastpath::replication`]), in steps, and the process shares a
//! memory with it ([`Memory`]). A network card keeps packets until somebody has the time: mostly an event of their own, but also
//! each access of the process to the memory, and each look for outputs. So the program runs between any two things that the
//! process does, and the process may die there.

mod memory;
mod program;

pub(super) use memory::Memory;

use super::{
    Sabotage,
    world::{Checked, Event, World},
};
use crate::random::Random;
use ashlar_fastpath::replication::{Control, Counter, Counters, MODE_OFF, SLOTS};
use ashlar_vr::{Allowed, Entry, Message, View};
use program::Run;
use std::{
    cell::{RefCell, RefMut},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
};

/// Programs accept nothing when the process was not seen for so long, in microseconds of the host's clock.
pub(super) const LEASE_US: u64 = 30_000;
/// How long the programs of a process that was killed stay where they are, in microseconds.
const DETACHED_US: std::ops::Range<u64> = 1..26_000;
/// How long a packet stays on a card, or a run stands still, if the program does not run at once, in microseconds.
pub(super) const HELD_US: std::ops::Range<u64> = 1..5_000;
/// How long a packet waits in the process's socket, and the process for its processor, in microseconds.
const WAKE_US: std::ops::Range<u64> = 1..20;
/// So often the program runs where it may, and then goes on with the next step.
const RUNS: f64 = 0.4;
const GOES_ON: f64 = 0.8;
/// A process that will be killed in the middle of its work does so many accesses and outputs more, at most.
const LAST_POINTS_MAX: u64 = 12;
/// Of the packets that are passed, so many find no room in the process's socket while there are faults.
const PASSED_LOST: f64 = 0.02;

/// A packet that has come.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    from: usize,
    source: SocketAddr,
    message: Message,
}

/// A frame that was taken.
#[derive(Clone, Debug)]
struct Slot {
    /// Counts them from 1 on.
    number: u64,
    view: View,
    commit: u64,
    entries: Vec<Entry>,
}

/// What the rest of the world sees of a kernel, in this order.
#[derive(Debug)]
enum Effect {
    /// It was decided to acknowledge something: nothing can keep that from being sent, but the end of the host.
    Acknowledges(Message),
    /// That is sent.
    Leaves { to: SocketAddr, message: Message },
    /// A packet is left to the process.
    Passes(Packet, Counter),
    /// The process is woken.
    Wakes,
}

/// When a process that shall be killed in the middle of its work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Death {
    /// Nobody wants to kill it.
    #[default]
    Far,
    /// It shall be killed at its work.
    Near,
    /// After so many points of it.
    After(u64),
    /// It is dead: nothing that it does from here on happens.
    Here,
}

/// A kernel with its card, and the memory that it shares with the process.
#[derive(Debug)]
pub(super) struct Kernel {
    random: Random,
    sabotage: Option<Sabotage>,
    /// Slots that there are.
    slots_max: u64,
    /// What the host's clock shows.
    now_us: u64,
    control: Control,
    slots: VecDeque<Slot>,
    card: VecDeque<Packet>,
    run: Run,
    /// Acknowledgements that runs have decided on and not sent.
    leaving: VecDeque<(SocketAddr, Message)>,
    effects: Vec<Effect>,
    counters: Counters,
    /// Taken when the process shut the program out.
    fenced_with_slots: u64,
    /// Processes that found what a former one had armed.
    adopted: u64,
    /// The program runs until then, by true time; none if it is not attached.
    attached_until_us: Option<u64>,
    /// An event is on its way that lets the program run to its end.
    is_scheduled: bool,
    death: Death,
    /// For a defect: nothing is taken from slots behind this one until programs are let in again.
    take_until: Option<u64>,
    /// For a defect: the process is about to leave its view, and to lead the next.
    pub(super) leaves_for: Option<Leaves>,
    /// For a defect: the place and the digest that the program has seen last, in whatever packet.
    last_seen: (u64, u64),
}

/// How a process leaves a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    ToLead,
    ToFollow,
}

/// A kernel, shared by its host, and by its host's process.
pub(super) type Shared = Rc<RefCell<Kernel>>;

impl Kernel {
    pub(super) fn new(random: Random, slots_max: u64, sabotage: Option<Sabotage>) -> Self {
        assert!((1..=u64::from(SLOTS)).contains(&slots_max), "{slots_max} slots");
        Self {
            random,
            sabotage,
            slots_max,
            now_us: 0,
            control: Control::default(),
            slots: VecDeque::new(),
            card: VecDeque::new(),
            run: Run::Idle,
            leaving: VecDeque::new(),
            effects: Vec::new(),
            counters: Counters::default(),
            fenced_with_slots: 0,
            adopted: 0,
            attached_until_us: None,
            is_scheduled: false,
            death: Death::Far,
            take_until: None,
            leaves_for: None,
            last_seen: (0, 0),
        }
    }

    /// For a defect: what programs have taken is left where it is, because of what the process is about to do.
    fn leaves_slots(&self) -> bool {
        match self.leaves_for {
            Some(Leaves::ToLead) if self.has(Sabotage::DropSlotsToLead) => true,
            Some(_) => self.has(Sabotage::ApplyOldSlots),
            None => false,
        }
    }

    /// For those defects: nothing is taken before programs are shut out, so that there is something to leave.
    fn is_lazy(&self) -> bool {
        self.has(Sabotage::DropSlotsToLead) || self.has(Sabotage::ApplyOldSlots)
    }

    fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Whether a place of a view is in a slot that was not taken yet.
    pub(super) fn holds(&self, view: View, op: u64, digest: u64) -> bool {
        let accepted = self.control.accepted;
        let mut slots = self.slots.iter();
        slots.any(|slot| {
            slot.view == view
                && slot.number <= accepted
                && slot.entries.iter().any(|entry| (entry.op, entry.digest) == (op, digest))
        })
    }

    /// Whether the process is dead, though the world does not know.
    pub(super) fn is_process_dead(&self) -> bool {
        self.death == Death::Here
    }

    /// Between two things that the process does: the program may run, and the process may die.
    pub(super) fn point(&mut self) {
        if self.random.chance(RUNS) {
            while self.step() && self.random.chance(GOES_ON) {}
        }
        self.death = match self.death {
            Death::After(0) => Death::Here,
            Death::After(points) => Death::After(points - 1),
            death => death,
        };
    }

    /// What the process took is not coming back, and what the program was about to do it does; the lock of a dead process is
    /// taken over.
    fn adopt(&mut self) {
        self.death = Death::Far;
        if self.has(Sabotage::SkipAdoption) {
            return;
        }
        self.adopted += u64::from(self.control.mode != MODE_OFF);
        self.lock();
        self.point();
        self.control.mode = MODE_OFF;
        self.discard();
        self.unlock();
    }

    /// Nothing of what slots have counts any more.
    fn discard(&mut self) {
        self.slots.clear();
        self.control.drained = self.control.accepted;
    }

    /// The host has lost its memory.
    fn reset(&mut self) {
        (self.control, self.run) = (Control::default(), Run::Idle);
        self.slots.clear();
        self.card.clear();
        self.leaving.clear();
        self.effects.clear();
    }
}

impl World {
    /// A message between replicas arrives at a host.
    pub(super) fn arrive(&mut self, from: usize, to: usize, message: Message) -> Checked {
        if !self.is_for_kernel(to, &message) {
            return self.deliver(from, to, message);
        }
        let source = self.hosts[from].address;
        let mut kernel = self.kernel(to).expect("it is for one");
        kernel.card.push_back(Packet { from, source, message });
        let is_held = kernel.random.chance(0.5);
        while !is_held && kernel.step() {}
        drop(kernel);
        self.flush_kernel(to)
    }

    /// Whether a program looks at a message before a process does.
    pub(super) fn is_for_kernel(&self, host: usize, message: &Message) -> bool {
        let is_looked_at = matches!(message, Message::Prepare { .. } | Message::PrepareOk { .. });
        let now_us = self.queue.now_us();
        let kernel = self.hosts[host].kernel.as_ref().filter(|_| is_looked_at);
        let until_us = kernel.and_then(|kernel| kernel.borrow().attached_until_us);
        until_us.is_some_and(|until_us| now_us < until_us)
    }

    /// The kernel of a host whose programs are used, at this moment.
    pub(super) fn kernel(&self, host: usize) -> Option<RefMut<'_, Kernel>> {
        let at = &self.hosts[host];
        let mut kernel = at.kernel.as_ref()?.borrow_mut();
        kernel.now_us = at.local_us(self.queue.now_us());
        Some(kernel)
    }

    /// The program runs until nothing is left to it.
    pub(super) fn run_kernel(&mut self, host: usize) -> Checked {
        if let Some(mut kernel) = self.kernel(host) {
            kernel.is_scheduled = false;
            while kernel.step() {}
        }
        self.flush_kernel(host)
    }

    /// Lets the world see what a kernel has done since.
    pub(super) fn flush_kernel(&mut self, host: usize) -> Checked {
        let Some(mut kernel) = self.kernel(host) else { return Ok(()) };
        let effects = std::mem::take(&mut kernel.effects);
        let is_busy = kernel.is_busy() && !kernel.is_scheduled;
        kernel.is_scheduled |= is_busy;
        let held_us = if is_busy { kernel.random.magnitude(HELD_US) } else { 0 };
        drop(kernel);
        if is_busy {
            self.queue.push_after(held_us, Event::Kernel { host });
        }
        for effect in effects {
            match effect {
                Effect::Acknowledges(message) => {
                    self.record(|| format!("the program of host {host} decides: {message:?}"));
                    self.oracles_hear_program(host, &message)?;
                }
                Effect::Leaves { to, message } => self.transmit(host, to, &message),
                Effect::Passes(packet, why) => self.pass(host, packet, why),
                Effect::Wakes => {
                    let after_us = self.kernel_delay_us(host);
                    self.queue.push_after(after_us, Event::Woken { host });
                }
            }
        }
        Ok(())
    }

    /// A packet goes on to the socket of the process.
    fn pass(&mut self, to: usize, packet: Packet, why: Counter) {
        self.record(|| format!("the program of host {to} passes a packet: {}", why.name()));
        let (after_us, may_lose) = (self.kernel_delay_us(to), self.is_safe_phase);
        let Some(mut kernel) = self.kernel(to) else { return };
        let is_signal_lost = why == Counter::OkSignalled && kernel.has(Sabotage::SkipOwnLook);
        if may_lose && kernel.random.chance(if is_signal_lost { 0.5 } else { PASSED_LOST }) {
            return;
        }
        drop(kernel);
        let Packet { from, message, .. } = packet;
        self.queue.push_after(after_us, Event::Passed { from, to, message: Box::new(message) });
    }

    fn kernel_delay_us(&self, host: usize) -> u64 {
        self.kernel(host).map_or(0, |mut kernel| kernel.random.range(WAKE_US))
    }

    /// A process starts: whatever a former one had programs do comes to its end first.
    pub(super) fn adopt_kernel(&mut self, host: usize) -> Checked {
        let Some(mut kernel) = self.kernel(host) else { return Ok(()) };
        kernel.adopt();
        drop(kernel);
        self.flush_kernel(host)
    }

    /// The replica of a process that has started gets what it may share with the program.
    pub(super) fn accelerate(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        let (Some(kernel), Some(process)) = (&at.kernel, &mut at.process) else { return };
        kernel.borrow_mut().attached_until_us = Some(u64::MAX);
        process.accelerate(Memory::of(kernel), at.allowed);
    }

    /// What programs may do is changed, while they do it; sometimes the memory is taken away until the next time.
    pub(super) fn switch_offload(&mut self, host: usize) -> Checked {
        let Some(mut kernel) = self.kernel(host) else { return Ok(()) };
        let allowed = draw_allowed(&mut kernel.random);
        let is_taken_away = kernel.random.chance(0.2);
        drop(kernel);
        self.record(|| format!("host {host} switches to {allowed:?}"));
        self.hosts[host].allowed = allowed;
        self.coverage.programs_switched += 1;
        let Some((process, local_us)) = self.wake(host) else { return Ok(()) };
        if process.fast_path().is_none() {
            self.accelerate(host);
        } else if is_taken_away {
            process.decelerate(local_us);
            self.kernel(host).expect("it was shared").attached_until_us = None;
        } else {
            process.allow(allowed);
        }
        self.settle(host)
    }

    /// A process is killed, at once or at its work; whether the latter.
    pub(super) fn dooms(&mut self, host: usize) -> bool {
        let Some(mut kernel) = self.kernel(host) else { return false };
        let is_doomed = kernel.random.chance(0.5);
        if is_doomed && kernel.death == Death::Far {
            kernel.death = Death::Near;
        }
        is_doomed
    }

    /// A process begins to do something: one that shall be killed is, at some point of it.
    pub(super) fn begin_work(&mut self, host: usize) {
        let may = self.is_safe_phase && self.may_kill(host);
        let Some(mut kernel) = self.kernel(host) else { return };
        kernel.death = match kernel.death {
            Death::Near if may => {
                let points = kernel.random.below(LAST_POINTS_MAX);
                Death::After(points)
            }
            Death::Near | Death::After(_) if !self.is_safe_phase => Death::Far,
            death => death,
        };
    }

    /// It has done what it had to do, and lives.
    pub(super) fn end_work(&mut self, host: usize) {
        let Some(mut kernel) = self.kernel(host) else { return };
        kernel.leaves_for = None;
        if let Death::After(_) = kernel.death {
            kernel.death = Death::Near;
        }
    }

    /// A process has ended; with `power`, its host.
    pub(super) fn leave_kernel(&mut self, host: usize, power: bool) {
        let now_us = self.queue.now_us();
        let Some(mut kernel) = self.kernel(host) else { return };
        if power {
            kernel.reset();
            (kernel.attached_until_us, kernel.death) = (None, Death::Far);
            return;
        }
        kernel.death = Death::Here;
        if kernel.attached_until_us.is_some() && !kernel.has(Sabotage::OutliveProcess) {
            let after_us = kernel.random.magnitude(DETACHED_US);
            kernel.attached_until_us = Some(now_us + after_us);
        }
    }
}

impl World {
    /// At the end: what all programs have done.
    pub(super) fn count_programs(&mut self) {
        for kernel in self.hosts.iter().filter_map(|host| host.kernel.as_ref()) {
            let kernel = kernel.borrow();
            self.coverage.add_program(&kernel.counters);
            self.coverage.fences_with_slots += kernel.fenced_with_slots;
            self.coverage.programs_adopted += kernel.adopted;
        }
    }
}

/// What a host lets programs do: mostly both, but all kinds meet in a group.
pub(super) fn draw_allowed(random: &mut Random) -> Allowed {
    Allowed { early_acknowledgement: random.chance(0.75), quorum: random.chance(0.7) }
}
