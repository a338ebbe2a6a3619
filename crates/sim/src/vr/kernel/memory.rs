//! The memory, as the process has it.

use super::{Kernel, LEASE_US, Shared, program::bits};
use crate::vr::Sabotage;
use ashlar_fastpath::replication::{MODE_FOLLOW, MODE_LEAD, MODE_OFF};
use ashlar_vr::{Configuration, FastPath, Share, Taken};
use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
};

/// What a process shares with the program of its host.
#[derive(Debug)]
pub(in crate::vr) struct Memory(Rc<RefCell<Kernel>>);

impl Memory {
    pub(super) fn of(kernel: &Shared) -> Self {
        Self(Rc::clone(kernel))
    }

    /// The memory, as long as the process lives: nothing that it does later happens.
    fn access(&self) -> Option<RefMut<'_, Kernel>> {
        let mut kernel = self.0.borrow_mut();
        kernel.point();
        (!kernel.is_process_dead()).then_some(kernel)
    }
}

impl FastPath for Memory {
    fn close(&mut self) {
        let Some(mut kernel) = self.access() else { return };
        if kernel.has(Sabotage::SkipFence) {
            return;
        }
        if kernel.has(Sabotage::DrainBeforeFence) {
            kernel.take_until = Some(kernel.control.accepted);
            kernel.point();
            kernel.point();
        }
        kernel.lock();
        drop(kernel);
        let Some(mut kernel) = self.access() else { return };
        kernel.control.mode = MODE_OFF;
        let has_slots = kernel.control.drained < kernel.control.accepted;
        kernel.fenced_with_slots += u64::from(has_slots);
        if kernel.leaves_slots() {
            kernel.take_until = Some(kernel.control.drained);
        }
        drop(kernel);
        let Some(mut kernel) = self.access() else { return };
        kernel.unlock();
        kernel.point();
    }

    fn open(&mut self, now_us: u64, share: &Share, configuration: &Configuration) {
        let Some(mut kernel) = self.access() else { return };
        kernel.lock();
        drop(kernel);
        let Some(mut kernel) = self.access() else { return };
        let keeps_slots = kernel.has(Sabotage::ApplyOldSlots) && kernel.take_until.is_some();
        if !keeps_slots {
            kernel.discard();
        }
        kernel.take_until = None;
        let keeps_tail = kernel.has(Sabotage::KeepTail);
        let control = &mut kernel.control;
        control.members = Default::default();
        for (member, address) in control.members.iter_mut().zip(configuration.members()) {
            *member = bits(*address);
        }
        (control.acknowledged, control.is_asleep) = Default::default();
        match *share {
            Share::Nothing => control.mode = MODE_OFF,
            Share::Follow { view, leader, place, op, digest } => {
                let is_same_view = control.view == view.bits() && control.tail_op > 0;
                if !(keeps_tail && is_same_view) {
                    (control.tail_op, control.tail_digest) = (op, digest);
                }
                (control.view, control.place) = (view.bits(), place as u64);
                control.leader = leader as u64;
                control.lease_until_ns = lease_until_ns(now_us);
                control.mode = MODE_FOLLOW;
            }
            Share::Lead { view, place, needed, commit } => {
                (control.view, control.place) = (view.bits(), place as u64);
                (control.leader, control.needed) = (place as u64, needed as u64);
                control.signalled_op = commit;
                control.mode = MODE_LEAD;
            }
        }
        drop(kernel);
        let Some(mut kernel) = self.access() else { return };
        kernel.unlock();
        kernel.point();
    }

    fn keep_open(&mut self, now_us: u64, commit: u64) {
        let Some(mut kernel) = self.access() else { return };
        kernel.control.lease_until_ns = lease_until_ns(now_us);
        if kernel.control.mode == MODE_LEAD && kernel.control.signalled_op < commit {
            kernel.lock();
            kernel.point();
            kernel.control.signalled_op = kernel.control.signalled_op.max(commit);
            kernel.unlock();
        }
    }

    fn take(&mut self) -> Option<Taken> {
        let mut kernel = self.access()?;
        if kernel.leaves_slots() || (kernel.is_lazy() && kernel.control.mode != MODE_OFF) {
            return None;
        }
        let until = kernel.take_until.unwrap_or(u64::MAX).min(kernel.control.accepted);
        if kernel.control.drained >= until {
            return None;
        }
        kernel.control.drained += 1;
        let slot = kernel.slots.pop_front().expect("what was accepted is in a slot");
        assert_eq!(slot.number, kernel.control.drained, "slots are taken in their order");
        Some(Taken::Prepare { commit: slot.commit, entries: slot.entries })
    }

    fn acknowledged(&mut self, place: usize) -> Option<(u64, u64)> {
        let kernel = self.access()?;
        if kernel.has(Sabotage::SkipOwnLook) {
            return None;
        }
        let known = kernel.control.acknowledged[place];
        Some((known.next_op.checked_sub(1)?, known.digest))
    }

    fn fall_asleep(&mut self) -> bool {
        let Some(mut kernel) = self.access() else { return true };
        kernel.control.is_asleep = 1;
        kernel.point();
        let is_empty = kernel.control.drained == kernel.control.accepted;
        if !is_empty {
            kernel.control.is_asleep = 0;
        }
        is_empty
    }

    fn wake_up(&mut self) {
        let Some(mut kernel) = self.access() else { return };
        kernel.control.is_asleep = 0;
    }
}

fn lease_until_ns(now_us: u64) -> u64 {
    (now_us + LEASE_US) * 1_000
}
