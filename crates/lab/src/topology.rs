//! Who is where: hosts, addresses, hardware addresses, and the commands that build and wire them. Pure.
//!
//! ```text
//!   client 10.77.0.2 ─┐
//!   fe    10.77.0.10 ─┼─ switch (bridge br0; 10.77.0.3 if it steers)
//!   s1    10.77.0.21 ─┤
//!   s2    10.77.0.22 ─┘
//! ```

use crate::name::LabName;
use crate::spec::LabSpec;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The host from which clients speak.
pub const CLIENT: &str = "client";
/// The host of the front end.
pub const FRONT_END: &str = "fe";
/// The host that joins the others.
pub const SWITCH: &str = "switch";

/// The interface of every host but the switch.
pub(crate) const HOST_INTERFACE: &str = "eth0";
/// The bridge in the switch.
pub(crate) const BRIDGE: &str = "br0";
/// The largest frame payload on every link, in bytes.
pub(crate) const MTU_BYTES: u32 = 1_500;
/// The congestion window that every connection begins with, in segments: as on hosts that serve large objects over a
/// network of their own. A connection that was moved begins with it again.
const INITIAL_WINDOW_SEGMENTS: u32 = 64;

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Clients speak from here.
    Client,
    /// Accepts the clients' connections.
    FrontEnd,
    /// Holds objects.
    Storage,
    /// Joins the hosts; has an address only if it steers.
    Switch,
}

/// One host of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `client`, `fe`, `s1` …, `switch`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The network namespace that is its network stack.
    pub namespace: String,
    /// Its IPv4 address; a switch that does not steer has none.
    pub address: Option<Ipv4Addr>,
    /// The hardware address of its interface; a switch that does not steer has none.
    pub mac: Option<String>,
}

impl Host {
    /// The switch's port that this host's link ends at: it bears the host's name.
    pub fn port(&self) -> &str {
        &self.name
    }
}

/// Which end of which link a hardware address belongs to.
#[derive(Clone, Copy)]
pub(crate) enum LinkEnd {
    /// The host's own interface.
    Host = 0,
    /// The switch's port.
    Port = 1,
    /// The pair that a delay fault puts between port and bridge: the end on the bridge.
    DelayBridge = 2,
    /// The same pair: the end at the relay.
    DelayRelay = 3,
    /// No link's: the bridge itself.
    Bridge = 4,
}

/// The hosts of a lab, the switch last.
pub(crate) fn hosts(spec: &LabSpec) -> Vec<Host> {
    let mut hosts = vec![
        station(&spec.name, CLIENT.to_owned(), Role::Client, 2),
        station(&spec.name, FRONT_END.to_owned(), Role::FrontEnd, 10),
    ];
    for number in 1..=spec.storage_nodes {
        hosts.push(station(&spec.name, format!("s{number}"), Role::Storage, 20 + number));
    }
    hosts.push(switch(spec));
    hosts
}

fn switch(spec: &LabSpec) -> Host {
    let address = spec.switch.then_some(Ipv4Addr::new(10, 77, 0, 3));
    Host {
        name: SWITCH.to_owned(),
        role: Role::Switch,
        namespace: spec.name.namespace(SWITCH),
        mac: address.map(|address| hardware_address(&spec.name, LinkEnd::Bridge, address)),
        address,
    }
}

fn station(lab: &LabName, name: String, role: Role, last_byte: u8) -> Host {
    let address = Ipv4Addr::new(10, 77, 0, last_byte);
    Host {
        namespace: lab.namespace(&name),
        name,
        role,
        mac: Some(hardware_address(lab, LinkEnd::Host, address)),
        address: Some(address),
    }
}

/// A locally administered hardware address, the same in every run, different for every end of every link and for
/// labs of different names, so that a capture can be read.
pub(crate) fn hardware_address(lab: &LabName, end: LinkEnd, address: Ipv4Addr) -> String {
    let [lab_high, lab_low] = fold(lab.as_str().as_bytes()).to_be_bytes();
    let last = address.octets()[3];
    format!("02:a5:{lab_high:02x}:{lab_low:02x}:{:02x}:{last:02x}", end as u8)
}

/// FNV-1a, folded to 16 bits: a name's mark, not a digest.
fn fold(bytes: &[u8]) -> u16 {
    let hash = bytes
        .iter()
        .fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as u16
}

/// The batch for ip(8) that makes the namespaces.
pub(crate) fn namespace_batch(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| format!("netns add {}", host.namespace)).collect()
}

/// The batch for ip(8), inside the switch, that makes the bridge and a link to every host.
pub(crate) fn switch_batch(lab: &LabName, hosts: &[Host]) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".to_owned(),
        // Without the spanning tree a port forwards at once; without snooping the bridge asks the hosts nothing.
        format!(
            "link add name {BRIDGE} mtu {MTU_BYTES} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ),
        format!("link set {BRIDGE} up"),
    ];
    for host in hosts {
        let (Some(address), Some(mac)) = (host.address, &host.mac) else {
            continue;
        };
        if host.role == Role::Switch {
            lines.push(format!("link set {BRIDGE} address {mac}"));
            lines.push(format!("address add {address}/24 dev {BRIDGE}"));
            continue;
        }
        let port = host.port();
        let port_mac = hardware_address(lab, LinkEnd::Port, address);
        lines.push(format!(
            "link add name {port} address {port_mac} mtu {MTU_BYTES} type veth \
             peer name {HOST_INTERFACE} address {mac} mtu {MTU_BYTES} netns {}",
            host.namespace
        ));
        lines.push(format!("link set {port} master {BRIDGE} up"));
    }
    lines
}

/// The batch for ip(8), inside a host, that gives it its address.
pub(crate) fn host_batch(host: &Host) -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned()];
    if let Some(address) = host.address {
        lines.push(format!("address add {address}/24 broadcast + dev {HOST_INTERFACE}"));
        lines.push(format!("link set {HOST_INTERFACE} up"));
        // In place of the kernel's own route.
        let [a, b, c, _] = address.octets();
        lines.push(format!(
            "route replace {a}.{b}.{c}.0/24 dev {HOST_INTERFACE} proto kernel scope link src {address} \
             initcwnd {INITIAL_WINDOW_SEGMENTS}"
        ));
    }
    lines
}

/// The text of `/etc/hosts` inside the lab: `curl http://fe/` works.
pub(crate) fn hosts_file(hosts: &[Host]) -> String {
    let mut text = "127.0.0.1 localhost\n".to_owned();
    for host in hosts {
        if let Some(address) = host.address {
            text.push_str(&format!("{address} {}\n", host.name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::spec::STORAGE_NODES_MAX;
    use std::collections::HashSet;

    fn spec(name: &str) -> LabSpec {
        LabSpec::new(name.parse().unwrap())
    }

    #[test]
    fn hosts_have_the_documented_addresses() {
        let hosts = hosts(&spec("lab").storage_nodes(2));
        let table: Vec<_> = hosts
            .iter()
            .map(|host| (host.name.as_str(), host.address.map(|a| a.to_string())))
            .collect();
        assert_eq!(
            table,
            [
                ("client", Some("10.77.0.2".to_owned())),
                ("fe", Some("10.77.0.10".to_owned())),
                ("s1", Some("10.77.0.21".to_owned())),
                ("s2", Some("10.77.0.22".to_owned())),
                ("switch", None),
            ]
        );
        assert_eq!(hosts[2].namespace, "ashlar-lab-s1");
    }

    #[test]
    fn every_link_end_of_the_largest_lab_has_its_own_hardware_address() {
        let spec = spec("lab").storage_nodes(STORAGE_NODES_MAX);
        let mut seen = HashSet::new();
        for host in hosts(&spec) {
            let Some(address) = host.address else {
                continue;
            };
            for end in [LinkEnd::Host, LinkEnd::Port, LinkEnd::DelayBridge, LinkEnd::DelayRelay] {
                assert!(
                    seen.insert(hardware_address(&spec.name, end, address)),
                    "{} repeats",
                    host.name
                );
            }
        }
    }

    #[test]
    fn labs_of_different_names_have_different_hardware_addresses() {
        let address = Ipv4Addr::new(10, 77, 0, 2);
        let of = |name: &str| hardware_address(&name.parse().unwrap(), LinkEnd::Host, address);
        assert_ne!(of("one"), of("two"));
        assert_eq!(of("one"), of("one"));
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        // IFNAMSIZ is 16 with the terminating zero.
        for host in hosts(&spec("twelve-chars").storage_nodes(STORAGE_NODES_MAX)) {
            assert!(host.port().len() <= 15);
        }
    }

    #[test]
    fn a_switch_that_steers_is_a_host_of_its_own() {
        let spec = spec("lab").storage_nodes(1).switch(true);
        let hosts = hosts(&spec);
        let switch = hosts.last().unwrap();
        assert_eq!(switch.address, Some(Ipv4Addr::new(10, 77, 0, 3)));
        let macs: HashSet<_> = hosts.iter().map(|host| host.mac.clone().unwrap()).collect();
        assert_eq!(macs.len(), hosts.len());
        let lines = switch_batch(&spec.name, &hosts);
        let ports = lines.iter().filter(|line| line.contains("type veth")).count();
        assert_eq!(ports, hosts.len() - 1);
        assert!(lines.iter().any(|line| line == "address add 10.77.0.3/24 dev br0"));
    }

    #[test]
    fn the_switch_gets_one_port_for_each_other_host() {
        let spec = spec("lab").storage_nodes(3);
        let hosts = hosts(&spec);
        let lines = switch_batch(&spec.name, &hosts);
        let ports = lines.iter().filter(|line| line.contains("type veth")).count();
        assert_eq!(ports, hosts.len() - 1);
        assert!(lines.iter().any(|line| line == "link set s3 master br0 up"));
    }
}
