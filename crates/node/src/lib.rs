//! The roles of an Ashlar process: protocol cores wired to sockets, disks and clocks.
//!
//! [`config`] reads and checks the configuration; [`run`] starts what it names. A process may be a
//! front end (`front_end`), a storage node (`storage_node`) or both.

mod admin;
mod body;
pub mod config;
mod front_end;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hand_off;
mod listing;
pub mod logging;
mod metrics;
mod peer;
pub mod replication;
mod response;
pub mod run;
mod serve;
pub mod signals;
mod storage_node;
mod threads;
mod timer;
mod tls;
