//! What tests of steering share.

use ashlar_kernel::steering::{
    ControlAddresses, ControlKey, FlowKey, MacAddress, Operation, Owner, Settings,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) const CONTROL_IPV4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub(crate) const CONTROL_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const CONTROL_PORT: u16 = 9_700;

/// The number of the host that the table belongs to.
pub(crate) const OWN_SENDER: u16 = 1;

pub(crate) const ONE: Owner = owner(1);
pub(crate) const TWO: Owner = owner(2);

/// An owner for each number.
pub(crate) const fn owner(id: u16) -> Owner {
    let [low, high] = id.to_le_bytes();
    Owner { mac: MacAddress([2, 0, 0, 0, high, low]), id }
}

pub(crate) fn key() -> ControlKey {
    ControlKey::new(*b"sixteen byte key")
}

pub(crate) fn settings() -> Settings {
    let control =
        ControlAddresses { ipv4: Some(CONTROL_IPV4), ipv6: Some(CONTROL_IPV6), port: CONTROL_PORT };
    Settings { flows_max: 1_024, senders_max: 8, ..Settings::new(control, key(), OWN_SENDER) }
}

/// A flow of its own for each number below 2^24.
pub(crate) fn flow(number: u32) -> FlowKey {
    let address = Ipv4Addr::from_bits(0x0b00_0000 + (number >> 8));
    let client = SocketAddr::from((address, 40_000 + (number & 0xff) as u16));
    FlowKey::new(client, SocketAddr::from((CONTROL_IPV4, 80)))
}

pub(crate) fn point(number: u32, owner: Owner, epoch: u64) -> Operation {
    Operation::Point { flow: flow(number), owner, epoch, closing: false }
}
