//! The link of one host: between its interface and the bridge, and what is put in between.
//!
//! ```text
//!   plain     eth0 ── s1 on br0
//!   delayed   eth0 ── s1 ═ relay ═ s1-relay ── s1-bridge on br0
//! ```

use crate::error::Result;
use crate::name::LabName;
use crate::system::ethtool::{self, Feature, Setting};
use crate::topology::{BRIDGE, HOST_INTERFACE, LinkEnd, MTU_BYTES, SWITCH, hardware_address};
use crate::{ip, namespace};
use rustix::net::{AddressFamily, SocketType, netdevice};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The link between a host and the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// The lab that the link belongs to.
    pub(crate) lab: LabName,
    /// The host at the end of the link.
    pub(crate) host: String,
    /// The host's address: the hardware addresses follow from it.
    pub(crate) address: Ipv4Addr,
}

impl Link {
    /// The namespace of the switch.
    pub(crate) fn switch_namespace(&self) -> String {
        self.lab.namespace(SWITCH)
    }

    /// The namespace of the host.
    pub(crate) fn host_namespace(&self) -> String {
        self.lab.namespace(&self.host)
    }

    /// The switch's port at which the host's link ends.
    pub(crate) fn port(&self) -> &str {
        &self.host
    }

    /// Of the pair that a delay puts in: the end that is on the bridge in the port's place.
    pub(crate) fn bridge_side(&self) -> String {
        format!("{}-bridge", self.host)
    }

    /// Of the pair that a delay puts in: the end at the relay.
    pub(crate) fn relay_side(&self) -> String {
        format!("{}-relay", self.host)
    }

    /// The interface that stands for this host on the bridge now.
    pub(crate) fn on_bridge(&self) -> Result<String> {
        Ok(if self.is_delayed()? { self.bridge_side() } else { self.port().to_owned() })
    }

    /// Whether the pair of a delay is in place.
    pub(crate) fn is_delayed(&self) -> Result<bool> {
        let name = self.bridge_side();
        namespace::within(&self.switch_namespace(), || {
            rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
                .and_then(|socket| netdevice::name_to_index(&socket, &name))
                .is_ok()
        })
    }

    /// Takes the port down, or up again.
    pub(crate) fn set_up(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        ip::batch(Some(&self.switch_namespace()), &[format!("link set {} {state}", self.port())])
    }

    /// Puts a pair between port and bridge, for a relay to join. The link carries nothing until one does.
    pub(crate) fn insert_delay_pair(&self) -> Result<()> {
        let (port, bridge_side, relay_side) = (self.port(), self.bridge_side(), self.relay_side());
        let mac = |end| hardware_address(&self.lab, end, self.address);
        let switch = self.switch_namespace();
        ip::batch(
            Some(&switch),
            &[format!(
                "link add name {bridge_side} address {} mtu {MTU_BYTES} type veth peer name {relay_side} address {} mtu {MTU_BYTES}",
                mac(LinkEnd::DelayBridge),
                mac(LinkEnd::DelayRelay)
            )],
        )?;
        per_frame(&switch, &bridge_side)?;
        per_frame(&switch, &relay_side)?;
        ip::batch(
            Some(&switch),
            &[
                format!("link set {relay_side} up"),
                format!("link set {port} nomaster"),
                format!("link set {bridge_side} master {BRIDGE} up"),
            ],
        )
    }

    /// Puts the port back on the bridge and removes the pair, whatever of it is there.
    pub(crate) fn remove_delay_pair(&self) -> Result<()> {
        let mut lines = vec![format!("link set {} master {BRIDGE}", self.port())];
        if self.is_delayed()? {
            lines.insert(0, format!("link delete {}", self.bridge_side()));
        }
        ip::batch(Some(&self.switch_namespace()), &lines)
    }

    /// The offloads of both ends of the link.
    pub(crate) fn offloads(&self) -> Result<Vec<Setting>> {
        let mut settings = ethtool::read(&self.host_namespace(), HOST_INTERFACE)?;
        settings.extend(ethtool::read(&self.switch_namespace(), self.port())?);
        Ok(settings)
    }

    /// Switches off everything that joins frames or leaves them unfinished, at both ends: a fault then meets every
    /// frame by itself, as it would be on a wire, with its checksum.
    pub(crate) fn carry_single_frames(&self) -> Result<()> {
        per_frame(&self.host_namespace(), HOST_INTERFACE)?;
        per_frame(&self.switch_namespace(), self.port())
    }
}

fn per_frame(namespace: &str, interface: &str) -> Result<()> {
    Feature::ALL.into_iter().try_for_each(|feature| {
        Setting {
            namespace: namespace.to_owned(),
            interface: interface.to_owned(),
            feature,
            on: false,
        }
        .apply()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{Delay, FRONT_END, FaultAction, Lab, LabError, LabSpec, Probability};
    use ashlar_kernel::probe::Feature as Needs;
    use ashlar_kernel::testing::ledger;
    use std::time::Duration;

    const NEEDS: [Needs; 3] = [Needs::Root, Needs::NetworkNamespaces, Needs::IpCommand];

    fn spec(letter: char) -> LabSpec {
        let name = format!("u{:x}{letter}", std::process::id()).parse().unwrap();
        LabSpec::new(name).storage_nodes(1).start_nodes(false)
    }

    fn front_end_link(lab: &Lab) -> Link {
        let address = lab.address(FRONT_END).unwrap();
        Link { lab: lab.name().clone(), host: FRONT_END.to_owned(), address }
    }

    fn is_on(settings: &[Setting], interface: &str, feature: Feature) -> bool {
        settings
            .iter()
            .find(|setting| setting.interface == interface && setting.feature == feature)
            .unwrap()
            .on
    }

    #[test]
    fn a_link_that_is_ready_for_xdp_completes_checksums_and_polls() {
        if !ledger("a_link_that_is_ready_for_xdp_completes_checksums_and_polls", &NEEDS) {
            return;
        }
        let plain = Lab::up(&spec('a')).unwrap().down_on_drop();
        let offloads = front_end_link(&plain).offloads().unwrap();
        assert!(is_on(&offloads, HOST_INTERFACE, Feature::TransmitChecksum));
        assert!(is_on(&offloads, HOST_INTERFACE, Feature::TcpSegmentation));

        let ready = Lab::up(&spec('b').xdp_ready(true)).unwrap().down_on_drop();
        let offloads = front_end_link(&ready).offloads().unwrap();
        assert!(!is_on(&offloads, HOST_INTERFACE, Feature::TransmitChecksum));
        for interface in [HOST_INTERFACE, FRONT_END] {
            assert!(is_on(&offloads, interface, Feature::GenericReceive), "{interface}");
        }
    }

    #[test]
    fn a_fault_that_cannot_be_put_in_force_leaves_the_link_as_it_was() {
        if !ledger("a_fault_that_cannot_be_put_in_force_leaves_the_link_as_it_was", &NEEDS) {
            return;
        }
        // The program that runs here is the test, which cannot act as the agent.
        let lab = Lab::up(&spec('c')).unwrap().down_on_drop();
        let link = front_end_link(&lab);
        let before = link.offloads().unwrap();
        let delay = FaultAction::Delay(Delay {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            reorder: Probability::default(),
            seed: 0,
        });
        let error = lab.fault(FRONT_END, &delay).unwrap_err();
        assert!(matches!(error, LabError::FaultFailed { .. }), "{error}");
        assert_eq!(link.offloads().unwrap(), before);
        assert!(!link.is_delayed().unwrap());
        assert!(lab.status().unwrap().hosts.iter().all(|host| host.faults.is_empty()));
    }

    #[test]
    fn the_pair_of_a_delay_goes_in_and_out_any_number_of_times() {
        if !ledger("the_pair_of_a_delay_goes_in_and_out_any_number_of_times", &NEEDS) {
            return;
        }
        let lab = Lab::up(&spec('d')).unwrap().down_on_drop();
        let link = front_end_link(&lab);
        link.remove_delay_pair().unwrap();
        for _ in 0..2 {
            link.insert_delay_pair().unwrap();
            assert_eq!(link.on_bridge().unwrap(), "fe-bridge");
            let inserted = ethtool::read(&link.switch_namespace(), "fe-bridge").unwrap();
            assert!(inserted.iter().all(|setting| !setting.on), "{inserted:?}");
            link.remove_delay_pair().unwrap();
            assert_eq!(link.on_bridge().unwrap(), "fe");
        }
    }
}
