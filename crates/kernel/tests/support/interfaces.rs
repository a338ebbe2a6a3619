//! What is attached where, as the kernel tells it.

use ashlar_kernel::testing::{self, NamespacePair, Side};
use std::process::Command;

/// The hardware address of an interface of the calling thread's namespace.
pub(crate) fn ethernet_address(interface: &str) -> [u8; 6] {
    let link = link(interface);
    let octets: Vec<u8> = link["address"]
        .as_str()
        .unwrap()
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

/// The identifier of the XDP program on an interface.
pub(crate) fn xdp_program(pair: &NamespacePair, side: Side, interface: &str) -> Option<u32> {
    pair.run(side, || testing::xdp_program(interface))
}

/// How many programs of any kind are attached to an interface.
pub(crate) fn attached_programs(pair: &NamespacePair, side: Side, interface: &str) -> usize {
    pair.run(side, || testing::attached_programs(interface))
}

fn link(interface: &str) -> serde_json::Value {
    let output = Command::new("ip")
        .args(["-json", "-details", "link", "show", "dev", interface])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut links: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    links.remove(0)
}
