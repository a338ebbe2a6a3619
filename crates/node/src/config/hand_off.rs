//! How connections move to the storage nodes: the tables of a front end, and their checks.

use super::{
    ConfigError,
    file::{within, wrong},
};
use serde::Deserialize;
use std::net::SocketAddr;

/// Whether connections move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where this host can do it.
    #[default]
    Auto,
    /// Always; a host that cannot do it does not start.
    Handoff,
    /// Never: the front end relays every byte.
    Relay,
}

/// How a front end hands connections off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOff {
    /// Whether it does.
    pub mode: Mode,
    /// Responses and request bodies from this size on flow past the front end; none is measured at
    /// the start.
    pub threshold_bytes: Option<u64>,
    /// What delivers the packets of connections that have moved.
    pub steering: Steering,
}

/// Where steering runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// On the front end's own interface.
    Here(SteeringHere),
    /// On a switch that all packets from clients pass, which takes control datagrams at this address.
    Switch(SocketAddr),
}

/// Steering on an interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeringHere {
    /// The interface; none is the one that has the listener's address.
    pub interface: Option<String>,
    /// Where in the kernel.
    pub attach: AttachTo,
    /// The UDP port for control datagrams, at the listener's address.
    pub control_port: u16,
    /// Connections that can be steered at one time.
    pub flows_max: usize,
}

/// Where in the kernel steering looks at packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachTo {
    /// After the driver has made a socket buffer: works with every interface.
    #[default]
    Tc,
    /// In the driver: faster on hardware that has it.
    Xdp,
}

/// The control port of a front end that names none.
pub const CONTROL_PORT_DEFAULT: u16 = 7471;
/// The flows of a front end that names no number.
pub const FLOWS_DEFAULT: usize = 262_144;
/// The most flows.
pub(super) const FLOWS_MAX: usize = 16 << 20;

impl Default for Steering {
    fn default() -> Self {
        Self::Here(SteeringHere::default())
    }
}

impl Default for SteeringHere {
    fn default() -> Self {
        Self {
            interface: None,
            attach: AttachTo::default(),
            control_port: CONTROL_PORT_DEFAULT,
            flows_max: FLOWS_DEFAULT,
        }
    }
}

/// `[front_end.steering]` as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SteeringTable {
    switch: Option<SocketAddr>,
    interface: Option<String>,
    attach: Option<AttachTo>,
    control_port: Option<u16>,
    flows_max: Option<usize>,
}

impl SteeringTable {
    pub(super) fn check(self) -> Result<Steering, ConfigError> {
        if let Some(address) = self.switch {
            let keys = [
                ("interface", self.interface.is_some()),
                ("attach", self.attach.is_some()),
                ("control_port", self.control_port.is_some()),
                ("flows_max", self.flows_max.is_some()),
            ];
            if let Some((key, _)) = keys.into_iter().find(|(_, given)| *given) {
                let problem = "does not go with switch: that is set on the switch itself";
                return Err(wrong(&format!("front_end.steering.{key}"), problem));
            }
            if address.ip().is_unspecified() || address.port() == 0 {
                let problem = format!("{address} is no address and port of a switch");
                return Err(wrong("front_end.steering.switch", problem));
            }
            return Ok(Steering::Switch(address));
        }
        let default = SteeringHere::default();
        let flows = self.flows_max.unwrap_or(default.flows_max);
        let control_port = self.control_port.unwrap_or(default.control_port);
        Ok(Steering::Here(SteeringHere {
            interface: self.interface,
            attach: self.attach.unwrap_or_default(),
            control_port: within("front_end.steering.control_port", control_port.into(), 1, 65_535)?
                as u16,
            flows_max: within("front_end.steering.flows_max", flows, 1, FLOWS_MAX)?,
        }))
    }
}
