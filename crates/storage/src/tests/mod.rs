//! Tests of the whole engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrent;
mod damage;
mod engine;
mod kill;
mod model;
mod power_loss;
mod property;
