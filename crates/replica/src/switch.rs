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
        let State { groups, installed } = &mut *state;
        let is_new = installed.is_none();
        if is_new {
            let key = |group: &Switched| GroupKey {
                cluster: group.scope.cluster,
                group: group.scope.group.into(),
            };
            *installed = Some(Installed::new(config, self.own, groups.iter().map(key).collect())?);
        }
        let programs = installed.as_mut().expect("they have just been loaded");
        // Attached before anybody relies on them, and detached when nobody does any more.
        if let Err(error) = programs.attach(before.and(after)) {
            let unchanged = programs.attach(before);
            debug_assert!(unchanged.is_ok(), "detaching does not fail");
            if is_new {
                *installed = None;
            }
            return Err(error);
        }
        if is_new {
            caller.call(Call::Ring(programs.take_bell()));
        }
        for (index, group) in groups.iter_mut().enumerate() {
            let shared = is_new.then(|| Shared::new(group.scope, programs.group(index)));
            if index == at {
                group.offload = offload;
            }
            if index == at || is_new {
                let (place, offload) = (group.place, group.offload);
                let (done, is_done) = mpsc::sync_channel(1);
                caller.call(Call::Switch { place, offload, shared, done });
                is_done.recv().map_err(|_| OffloadError::Stopped)?;
            }
        }
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
    /// Of all groups together.
    fn offload(&self) -> Offload {
        self.groups.iter().fold(Offload::NONE, |sum, group| sum.and(group.offload))
    }

    /// The same when one group has another one.
    fn offload_with(&self, at: usize, offload: Offload) -> Offload {
        let others = self.groups.iter().enumerate().filter(|(index, _)| *index != at);
        others.fold(offload, |sum, (_, group)| sum.and(group.offload))
    }
}
