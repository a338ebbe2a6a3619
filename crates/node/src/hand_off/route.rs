//! Packets for a front end's listeners that steering sends to this host.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    process::Command,
};

/// The routing table, and the rules' priority: below the local table's.
const TABLE: &str = "7471";

/// The listeners for which this host takes packets.
#[derive(Default)]
pub(super) struct Routes(HashSet<SocketAddr>);

impl Routes {
    /// Takes packets for `listener`: of TCP, to its port, and nothing else. The host neither claims
    /// the address nor loses its own way to the front end, which has it.
    pub(super) fn add(&mut self, listener: SocketAddr) -> Result<(), String> {
        if self.0.contains(&listener) {
            return Ok(());
        }
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let family = if matches!(listener.ip(), IpAddr::V4(_)) { "-4" } else { "-6" };
        ip(&[family, "route", "replace", "local", &address, "dev", "lo", "table", TABLE])?;
        let rule = ["to", &address, "ipproto", "tcp", "dport", &port];
        let lookup = ["lookup", TABLE, "priority", TABLE];
        let all: Vec<&str> =
            [family, "rule", "add"].into_iter().chain(rule).chain(lookup).collect();
        match ip(&all) {
            Err(problem) if !problem.contains("File exists") => return Err(problem),
            _ => {}
        }
        self.0.insert(listener);
        Ok(())
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let problem = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), problem.trim()))
}
