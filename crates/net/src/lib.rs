//! What a hand-off needs of the operating system and of cryptography.
//!
//! - [`channel_identity`] makes hosts of one cluster know each other.

pub mod channel_identity;
