#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate std;

mod control;
mod data;
mod headers;
mod model;
mod siphash;

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const ONE: Owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 0x11]), id: 1 };
const TWO: Owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 0x22]), id: 2 };
const INCARNATION: u64 = 0x1234_5678;
const SECOND_NS: u64 = 1_000_000_000;
const CONTROL_PORT: u16 = 9_700;

fn key() -> ControlKey {
    ControlKey::new(*b"sixteen byte key")
}

fn config() -> Config {
    let control = ControlAddresses {
        ipv4: Some(Ipv4Addr::new(10, 77, 0, 10)),
        ipv6: Some(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 10)),
        port: CONTROL_PORT,
    };
    Config::new(OWN, control, &key(), INCARNATION)
}

/// One flow for each client port.
fn flow(client_port: u16) -> FlowKey {
    let client = SocketAddr::from(([10, 77, 0, 99], client_port));
    FlowKey::new(client, SocketAddr::from(([10, 77, 0, 10], 80)))
}

fn identity(flow: &FlowKey) -> u32 {
    Entry::identity_of(flow.digest())
}

fn entry(flow: &FlowKey, owner: Owner, epoch: u64) -> Entry {
    Entry {
        identity: identity(flow),
        closing: 0,
        owner: owner.to_bits(),
        epoch,
        last_seen_ns: SECOND_NS,
    }
}
