//! What a hand-off needs of the operating system and of cryptography.
//!
//! - [`repair`] takes TCP connections out of a kernel and puts them into another.
//! - [`service_address`] makes a host take packets for an address that it does not claim.
//! - [`channel_identity`] makes hosts of one cluster know each other.
//! - [`steering_client`] asks steering to point flows at their owners.

pub mod channel_identity;
pub mod repair;
pub mod service_address;
pub mod steering_client;
