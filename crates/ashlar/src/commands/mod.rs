//! One module for each command.

pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod obj;
pub(crate) mod sim;
pub(crate) mod up;
