//! What a lab is doing, for people and for machines.

use crate::error::Result;
use crate::name::LabName;
use crate::process::ProcessState;
use crate::state::{FaultRecord, HostState, State};
use crate::topology::Role;
use crate::usage;
use serde::Serialize;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A lab at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The lab's name.
    pub name: LabName,
    /// Whether `up` came to its end; if not, only `down` is of use.
    pub complete: bool,
    /// The hosts, the switch last.
    pub hosts: Vec<HostStatus>,
}

/// A host at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its network namespace.
    pub namespace: String,
    /// Its address; a switch that does not steer has none.
    pub address: Option<Ipv4Addr>,
    /// Its hardware address; a switch that does not steer has none.
    pub mac: Option<String>,
    /// Its limit of CPU time in percent of one core, if it has one.
    pub quota_percent: Option<u32>,
    /// The CPU time used since the lab was built, in seconds; absent where nothing counts it.
    pub cpu_seconds: Option<f64>,
    /// The memory of everything that runs on it, in bytes.
    pub resident_bytes: u64,
    /// What the lab started on it.
    pub processes: Vec<ProcessStatus>,
    /// What disturbs its link.
    pub faults: Vec<FaultStatus>,
}

/// A process that the lab started.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessStatus {
    /// `node`, or a peer's name.
    pub name: String,
    /// The process number.
    pub pid: i32,
    /// Whether it runs.
    pub state: ProcessState,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A fault of a link.
#[derive(Clone, Debug, Serialize)]
pub struct FaultStatus {
    /// What it is, with its settings, in one line.
    pub description: String,
    /// False when the process that kept it up has ended by itself: clear the link.
    pub in_force: bool,
    /// The process that keeps it up, if it takes one.
    pub agent_pid: Option<i32>,
    /// What it did so far, up to a second ago.
    pub statistics: Option<serde_json::Value>,
}

/// Looks at everything that the state names.
pub(crate) fn status(state: &State) -> Result<Status> {
    let hosts = state.hosts.iter().map(|host| host_status(state, host)).collect::<Result<_>>()?;
    Ok(Status { name: state.name.clone(), complete: state.complete, hosts })
}

fn host_status(state: &State, host: &HostState) -> Result<HostStatus> {
    let name = &host.host.name;
    Ok(HostStatus {
        name: name.clone(),
        role: host.host.role,
        namespace: host.host.namespace.clone(),
        address: host.host.address,
        mac: host.host.mac.clone(),
        quota_percent: host.quota.map(|quota| quota.percent()),
        // The groups of a lab that is being built, or removed, may not be there.
        cpu_seconds: host.cgroup.cpu_seconds().unwrap_or_default(),
        resident_bytes: usage::resident_bytes(host),
        processes: state
            .processes
            .iter()
            .filter(|record| record.host == *name)
            .map(|record| ProcessStatus {
                name: record.name.clone(),
                pid: record.process.pid,
                state: record.process.state(),
                log: record.log.clone(),
            })
            .collect(),
        faults: state
            .faults
            .iter()
            .filter(|record| record.host == *name)
            .map(fault_status)
            .collect(),
    })
}

fn fault_status(record: &FaultRecord) -> FaultStatus {
    let text = record.statistics.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    FaultStatus {
        description: record.fault.to_string(),
        in_force: record.agent.map_or(record.statistics.is_none(), |agent| agent.is_alive()),
        agent_pid: record.agent.map(|agent| agent.pid),
        statistics: text.and_then(|text| serde_json::from_str(&text).ok()),
    }
}
