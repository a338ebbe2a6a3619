//! The roles of an Ashlar process: protocol cores wired to sockets, disks and clocks.
//!
//! [`config`] reads and checks the configuration; [`run`] starts what it names. A process may be a
//! front end (`front_end`), a storage node (`storage_node`) or both.

mod admin;
mod body;
pub mod config;
pub mod logging;
mod metrics;
mod serve;
mod threads;
mod timer;
mod tls;
