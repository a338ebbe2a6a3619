//! Looks for large bodies that no entry names, long after their writes must have come.
//!
//! A request removes the bodies of its write if that fails ([`super::upload`]); what is left is what
//! a node in front had no time to remove when it crashed.

use super::chain_thread::{ChainHandle, Input};
use crate::peer::stage::blocking;
use ashlar_object::StageId;
use ashlar_storage::{Engine, SWEEP_SLICES};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Bodies that one look finds at most: the chain thread removes them between two batches.
pub(super) const BODIES_MAX: usize = 16;

/// How often to look, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two looks, each at one of [`SWEEP_SLICES`] slices of all bodies.
    pub(super) interval: Duration,
    /// Bodies are left alone until they have not been written to for this long. All replicas have
    /// ended a body minutes after the first has; its write is numbered next.
    pub(super) age: Duration,
}

impl Default for Pace {
    /// All bodies are looked at within little more than an hour.
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), age: Duration::from_secs(3600) }
    }
}

/// Sweeps until the chain thread ends.
pub(super) async fn sweep(engine: Arc<dyn Engine>, chain: ChainHandle, pace: Pace) {
    const _: () = assert!(SWEEP_SLICES == u8::MAX as usize + 1);
    let mut ticks = interval(pace.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slice = 0u8;
    while !chain.is_closed() {
        ticks.tick().await;
        let stages = look(&engine, slice, pace.age).await;
        slice = slice.wrapping_add(1);
        if !stages.is_empty() {
            chain.send(Input::Unnamed { stages }).await;
        }
    }
}

async fn look(engine: &Arc<dyn Engine>, slice: u8, age: Duration) -> Vec<StageId> {
    let engine = engine.clone();
    let found = blocking(move || engine.unnamed_stages(slice, age, BODIES_MAX)).await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look for bodies that no object names");
        Vec::new()
    })
}
