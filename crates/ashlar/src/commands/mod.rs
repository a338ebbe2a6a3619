//! One module for each command, and what commands share.
#![allow(clippy::needless_pass_by_value, reason = "all commands have one signature")]

pub(crate) mod bench;
mod cancel;
pub(crate) mod doctor;
pub(crate) mod format;
pub(crate) mod kv;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod obj;
pub(crate) mod sim;
pub(crate) mod switch;
pub(crate) mod up;
