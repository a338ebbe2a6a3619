//! A switch: its table, and its checks.

use super::{
    ConfigError, FLOWS_DEFAULT,
    file::{within, wrong},
    hand_off::{AttachTo, FLOWS_MAX},
};
use serde::Deserialize;
use std::{collections::HashSet, net::SocketAddr};

/// The longest name that the kernel gives an interface, in bytes.
const INTERFACE_BYTES_MAX: usize = 15;

/// Steering on a host that clients' packets pass on their way to front ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The interfaces that clients' packets come in by: 1 to [`Switch::INTERFACES_MAX`], each once.
    pub interfaces: Vec<String>,
    /// Where nodes send control datagrams to: an address of this host, usually its bridge's.
    pub control: SocketAddr,
    /// Where in the kernel packets are looked at.
    pub attach: AttachTo,
    /// Connections that can be steered at one time.
    pub flows_max: usize,
}

impl Switch {
    /// The most interfaces.
    pub const INTERFACES_MAX: usize = ashlar_kernel::steering::PORTS_MAX;
}

/// `[switch]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchTable {
    interfaces: Vec<String>,
    control: SocketAddr,
    attach: Option<AttachTo>,
    flows_max: Option<usize>,
}

impl SwitchTable {
    pub(super) fn check(self) -> Result<Switch, ConfigError> {
        within("switch.interfaces", self.interfaces.len(), 1, Switch::INTERFACES_MAX)?;
        let mut seen = HashSet::new();
        for name in &self.interfaces {
            if name.is_empty() || name.len() > INTERFACE_BYTES_MAX {
                let problem = format!("{name:?} is no name of an interface");
                return Err(wrong("switch.interfaces", problem));
            }
            if !seen.insert(name) {
                return Err(wrong("switch.interfaces", format!("{name} is there twice")));
            }
        }
        let address = self.control.ip();
        if address.is_unspecified() || address.is_multicast() || self.control.port() == 0 {
            let problem = format!("{} is no address of this host with a port", self.control);
            return Err(wrong("switch.control", problem));
        }
        let flows = self.flows_max.unwrap_or(FLOWS_DEFAULT);
        Ok(Switch {
            interfaces: self.interfaces,
            control: self.control,
            attach: self.attach.unwrap_or_default(),
            flows_max: within("switch.flows_max", flows, 1, FLOWS_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn check(text: &str) -> Result<Switch, ConfigError> {
        toml::from_str::<SwitchTable>(text).unwrap().check()
    }

    #[test]
    fn interfaces_and_an_address_are_enough() {
        let switch = check(
            r#"interfaces = ["eth1", "eth2"]
            control = "10.0.0.5:7471""#,
        );
        let switch = switch.unwrap();
        assert_eq!(switch.interfaces, ["eth1", "eth2"]);
        assert_eq!(switch.control, "10.0.0.5:7471".parse().unwrap());
        assert_eq!((switch.attach, switch.flows_max), (AttachTo::Tc, FLOWS_DEFAULT));
    }

    #[test]
    fn errors_name_the_key() {
        for (interfaces, rest, error) in [
            (r#"[]"#, "", "switch.interfaces: must be 1 to 256, not 0"),
            (r#"[""]"#, "", r#"switch.interfaces: "" is no name"#),
            (r#"["a-very-long-name"]"#, "", "is no name of an interface"),
            (r#"["a", "a"]"#, "", "switch.interfaces: a is there twice"),
            (r#"["a"]"#, "flows_max = 0", "switch.flows_max: must be 1 to"),
        ] {
            let text = format!("interfaces = {interfaces}\ncontrol = \"10.0.0.5:7471\"\n{rest}");
            let message = check(&text).unwrap_err().to_string();
            assert!(message.contains(error), "{message}");
        }
        for control in ["0.0.0.0:7471", "[ff02::1]:7471", "10.0.0.5:0"] {
            let text = format!("interfaces = [\"a\"]\ncontrol = \"{control}\"");
            let message = check(&text).unwrap_err().to_string();
            assert!(message.starts_with("switch.control: "), "{message}");
        }
    }
}
