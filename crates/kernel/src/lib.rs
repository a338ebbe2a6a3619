//! The shell around the kernel programs: what this host's kernel can do, and how a program gets in, is driven and gets out again.
//!
//! - [`probe`] finds out what the host can do, by trying.
//! - [`chaos`] loses, repeats and damages frames of an interface on purpose.
//! - [`steering`] sends frames of a flow to the host that owns the connection.
//! - [`replication`] acknowledges, counts and copies replicas' frames.
//! - [`testing`] lets this workspace's tests say which of the host's features they need.

pub mod chaos;
mod embedded;
mod error;
mod link;
mod load;
pub mod probe;
pub mod replication;
pub mod steering;
mod system_call;
pub mod testing;

pub use error::Error;
