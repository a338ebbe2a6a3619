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
