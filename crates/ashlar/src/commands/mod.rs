//! One module for each command.
#![allow(clippy::needless_pass_by_value, reason = "all commands have one signature")]

pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod obj;
pub(crate) mod sim;
pub(crate) mod up;
