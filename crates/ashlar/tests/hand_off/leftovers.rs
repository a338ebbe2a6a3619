//! What connections leave behind on the hosts of a laboratory when they have ended: nothing.

use crate::{
    laboratory::{eventually, metric_of, output},
    program::{Program, run_on},
};
use ashlar_lab::{FRONT_END, Lab, Role};
use std::{
    collections::BTreeMap,
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// Longer than a front end keeps connections to storage nodes which it does not use.
const KEPT_FOR_MAX: Duration = Duration::from_secs(40);
/// Between two looks at what is at rest: each takes a dozen processes.
const REST_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What there is on the hosts of a laboratory.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// Connections in steering's table; none if the front end does not say.
    pub(crate) flows: Option<u64>,
    /// Connections of clients that are not just waiting for their name to be free, by host.
    pub(crate) connections: BTreeMap<String, Vec<String>>,
    /// Open descriptors of nodes, by host.
    pub(crate) descriptors: BTreeMap<String, usize>,
}

impl Leftovers {
    pub(crate) fn look(lab: &Lab) -> Self {
        let servers =
            || lab.hosts().filter(|host| matches!(host.role, Role::FrontEnd | Role::Storage));
        Self {
            flows: metric_of(lab, FRONT_END, "ashlar_steering_flows"),
            connections: servers()
                .map(|host| (host.name.clone(), client_connections(lab, &host.name)))
                .filter(|(_, connections)| !connections.is_empty())
                .collect(),
            descriptors: servers()
                .map(|host| (host.name.clone(), descriptors(lab, &host.name)))
                .collect(),
        }
    }

    /// What there is at rest: no connection is left, and what nodes keep for a while in case of more has gone.
    pub(crate) fn at_rest(lab: &Lab) -> Self {
        eventually("no connection is left", || Self::look(lab).has_no_connection());
        let mut rest = Self::look(lab);
        let since = Instant::now();
        while since.elapsed() < KEPT_FOR_MAX {
            // Nothing tells that a node keeps nothing any more.
            sleep(REST_LOOK_INTERVAL);
            let now = Self::look(lab);
            assert!(now.has_no_connection(), "nobody is there: {now:?}");
            // A look may meet what opens for a moment only.
            for (host, count) in now.descriptors {
                rest.descriptors.entry(host).and_modify(|least| *least = count.min(*least));
            }
        }
        rest
    }

    fn has_no_connection(&self) -> bool {
        self.flows == Some(0) && self.connections.is_empty()
    }

    /// Waits until no connection is left, and no more descriptors than when `idle`.
    pub(crate) fn vanish(lab: &Lab, idle: &Self) {
        let mut last = None;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("nothing is left", || {
                let now = Self::look(lab);
                let gone = now.has_no_connection()
                    && now.descriptors.iter().all(|(host, count)| *count <= idle.descriptors[host]);
                last = Some(now);
                gone
            });
        }));
        if seen.is_err() {
            for host in idle.descriptors.keys() {
                let sockets = output(lab, host, "ss", &["-tanpo"]).stdout;
                println!("sockets of {host}:\n{}", String::from_utf8_lossy(&sockets));
            }
            panic!("{last:?}\nwhen idle: {idle:?}");
        }
    }
}

/// The sockets of clients' connections on a host, as `ss` shows them.
fn client_connections(lab: &Lab, host: &str) -> Vec<String> {
    let filter = "( sport = :80 or sport = :443 )";
    let output = output(lab, host, "ss", &["-Htan", filter]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| {
        // A listener is none, and TIME-WAIT is the name's, not the connection's.
        !line.starts_with("LISTEN") && !line.starts_with("TIME-WAIT")
    });
    lines.map(str::to_owned).collect()
}

fn descriptors(lab: &Lab, host: &str) -> usize {
    let status = lab.status().unwrap();
    let host = status.hosts.iter().find(|known| known.name == host).unwrap();
    let node = host.processes.iter().find(|process| process.name == "node").unwrap();
    fs::read_dir(format!("/proc/{}/fd", node.pid)).unwrap().count()
}

/// Ends every node as an operator does, and looks at what the kernel still holds.
pub(crate) fn end_and_look(lab: &Lab, killed: bool) {
    let attached = || run_on::<usize>(lab, FRONT_END, &Program::Attached);
    assert_eq!(attached(), 1, "steering is there as long as the front end");
    for host in lab.hosts().filter(|host| matches!(host.role, Role::FrontEnd | Role::Storage)) {
        lab.stop_node(&host.name).unwrap();
        let rules = output(lab, &host.name, "ip", &["rule", "show", "priority", "7471"]).stdout;
        let routes = output(lab, &host.name, "ip", &["route", "show", "table", "7471"]).stdout;
        // What a killed node left stays: nobody can tell whose it is.
        if !killed {
            assert_eq!(String::from_utf8_lossy(&rules), "", "{}", host.name);
            assert_eq!(String::from_utf8_lossy(&routes), "", "{}", host.name);
        }
    }
    assert_eq!(attached(), 0, "a kernel program outlives its process");
}
