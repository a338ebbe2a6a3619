//! Switching programs in the kernel on and off while replicas run.

use crate::{
    Offload, OffloadConfig, OffloadError,
    call::{Call, Caller},
    offload::{Installed, Shared},
};
use ashlar_kernel::replication::{Counters, GroupKey};
use ashlar_vr::Mode;
use ashlar_wire::replication::Scope;
use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
};

/// A group that may use programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    pub(crate) scope: Scope,
    /// Its place at its node.
    pub(crate) place: usize,
    pub(crate) mode: Mode,
    /// What they do for it.
    pub(crate) offload: Offload,
}

impl Switched {
    /// Whether programs may do this for it.
    pub(crate) fn check(&self, offload: Offload) -> Result<(), OffloadError> {
        match self.mode {
            Mode::Durable if offload.early_acknowledgement => {
                Err(OffloadError::Durable(self.scope.group))
            }
            Mode::Durable | Mode::Volatile => Ok(()),
        }
    }
}

/// The programs of a node. They are loaded and attached by whoever switches them on, which takes longer than the node's thread may
/// stand still.
pub(crate) struct Switch {
    config: Option<OffloadConfig>,
    own: SocketAddr,
    state: Mutex<State>,
}

struct State {
    groups: Vec<Switched>,
    installed: Option<Installed>,
}

impl Switch {
    pub(crate) fn new(
        config: Option<OffloadConfig>,
        own: SocketAddr,
        groups: Vec<Switched>,
    ) -> Self {
        Self { config, own, state: Mutex::new(State { groups, installed: None }) }
    }

    /// Switches on what groups begin with. What cannot be had is not used: replicas do without.
    pub(crate) fn begin(&self, caller: &Caller) {
        let wanted: Vec<_> = {
            let mut state = self.state();
            state
                .groups
                .iter_mut()
                .map(|group| (group.scope.group, std::mem::take(&mut group.offload)))
                .collect()
        };
        for (group, offload) in wanted.into_iter().filter(|(_, wanted)| *wanted != Offload::NONE) {
            if let Err(error) = self.set(caller, group, offload) {
                let why = error.causes();
                tracing::warn!(group, %offload, why, "the replica does without programs in the kernel");
            }
        }
    }

    pub(crate) fn set(
        &self,
        caller: &Caller,
        group: u32,
        offload: Offload,
    ) -> Result<(), OffloadError> {
        let mut state = self.state();
        let at = state.groups.iter().position(|known| known.scope.group == group);
        let (Some(at), Some(config)) = (at, &self.config) else {
            return Err(OffloadError::NoGroup(group));
        };
        state.groups[at].check(offload)?;
        if offload == state.groups[at].offload {
            return Ok(());
        }
        let before = state.offload();
        let after = state.offload_with(at, offload);
        let is_new = state.installed.is_none();
        let programs = state.installed(config, self.own)?;
        // Attached before anybody relies on them, and detached when nobody does any more.
        if let Err(error) = programs.attach(before.with(after)) {
            programs.attach(before).expect("detaching does not fail");
            if is_new {
                state.installed = None;
            }
            return Err(error);
        }
        if is_new {
            caller.call(Call::Ring(programs.take_bell()));
        }
        let is_single = after.receives() && programs.sees_trains();
        state.groups[at].offload = offload;
        let told = state.tell(caller, is_new, at, is_single);
        if told.is_err() {
            state.groups[at].offload = Offload::NONE;
        }
        told?;
        let programs = state.installed.as_mut().expect("they are there");
        programs.attach(after)
    }

    pub(crate) fn offloads(&self) -> Vec<(u32, Offload)> {
        self.state().groups.iter().map(|group| (group.scope.group, group.offload)).collect()
    }

    pub(crate) fn counters(&self) -> Option<Counters> {
        let state = self.state();
        let counters = state.installed.as_ref()?.counters();
        counters.inspect_err(|error| tracing::debug!(%error, "the counters of programs")).ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The programs, loaded if they were not.
    fn installed(
        &mut self,
        config: &OffloadConfig,
        own: SocketAddr,
    ) -> Result<&mut Installed, OffloadError> {
        if self.installed.is_none() {
            let key = |group: &Switched| GroupKey {
                cluster: group.scope.cluster,
                group: group.scope.group.into(),
            };
            let keys = self.groups.iter().map(key).collect();
            self.installed = Some(Installed::new(config, own, keys)?);
        }
        Ok(self.installed.as_mut().expect("they have just been loaded"))
    }

    /// Tells the node's thread what programs do for the group at a place; with new programs, all groups get memory to share with them.
    fn tell(
        &mut self,
        caller: &Caller,
        is_new: bool,
        at: usize,
        is_single: bool,
    ) -> Result<(), OffloadError> {
        let programs = self.installed.as_ref().expect("they are there");
        for (index, group) in self.groups.iter().enumerate() {
            if index != at && !is_new {
                continue;
            }
            let shared = is_new.then(|| Shared::new(group.scope, programs.group(index)));
            let (place, offload) = (group.place, group.offload);
            let (done, is_done) = mpsc::sync_channel(1);
            caller.call(Call::Switch { place, offload, shared, is_single, done });
            let is_so = is_done.recv().map_err(|_| OffloadError::Stopped)?;
            if !is_so {
                return Err(OffloadError::Stopped);
            }
        }
        Ok(())
    }

    /// Of all groups together.
    fn offload(&self) -> Offload {
        self.groups.iter().fold(Offload::NONE, |sum, group| sum.with(group.offload))
    }

    /// The same when one group has another one.
    fn offload_with(&self, at: usize, offload: Offload) -> Offload {
        let others = self.groups.iter().enumerate().filter(|(index, _)| *index != at);
        others.fold(offload, |sum, (_, group)| sum.with(group.offload))
    }
}
