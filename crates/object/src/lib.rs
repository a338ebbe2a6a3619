//! The object store's decisions, without I/O.
//!
//! Which partition a key belongs to and which nodes replicate it ([`map`]); what an object is
//! ([`model`]); how a write travels along its chain ([`chain`]) and when a replica may answer a
//! read alone ([`read`]); what HTTP's conditions ([`condition`]), ranges ([`range`]) and our
//! listings ([`list`]) mean. Nothing here opens a socket or a file, reads a clock or draws a random
//! number: the shells in `storage` and `node` do, and the simulator does in their place.
//!
//! Read in this order: [`key`], [`model`], [`map`], [`chain`], [`read`].

pub mod chain;
pub mod condition;
pub mod key;
pub mod list;
pub mod map;
pub mod model;
pub mod range;
pub mod read;
pub mod synthetic;

pub use key::Key;
pub use map::{ClusterMap, NodeIndex, PartitionIndex};
pub use model::{Body, Change, ETag, Entry, ObjectMeta, Operation, StageId, Version};
