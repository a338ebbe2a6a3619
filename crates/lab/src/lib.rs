//! A cluster of network namespaces on one machine.
//!
//! A lab is a set of hosts, each a network namespace with its own address, CPU quota and processes, joined by a switch.
//! The nodes are the real `ashlar` binary. Links and nodes can be disturbed. Everything needs root and Linux.
//!
//! ```no_run
//! use ashlar_lab::{CpuQuota, Engine, Lab, LabSpec};
//!
//! let spec = LabSpec::new("bench".parse()?)
//!     .storage_nodes(3)
//!     .engine(Engine::Synthetic)
//!     .server_quota(CpuQuota::from_percent(20)?);
//! let lab = Lab::up(&spec)?.down_on_drop();
//! let url = format!("http://{}/1000", lab.address("fe")?);
//! let status = lab.command("client", "curl")?.args(["--silent", &url]).status()?;
//! assert!(status.success());
//! println!("the front end used {} s of CPU time", lab.cpu_seconds("fe")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a lab consists of is in a file before it is made, so that [`Lab::remove`] cleans up after any crash.

mod agent;
mod cgroup;
mod configuration;
mod delay_queue;
mod down;
mod error;
mod fault;
mod faults;
mod ip;
mod lab;
mod launch;
mod link;
mod name;
mod namespace;
mod nodes;
mod observer;
mod process;
mod relay;
mod spec;
mod state;
mod status;
mod system;
mod topology;
mod up;
mod usage;

pub use agent::run_fault_agent;
pub use configuration::{
    ADMIN_PORT, HTTP_PORT, HTTPS_PORT, STORAGE_HANDOFF_PORT, STORAGE_HTTP_PORT, STORAGE_PEER_PORT,
};
pub use error::{LabError, Result};
pub use fault::{
    Chaos, DELAY_MAX, Delay, FaultAction, FrameMatch, LinkFault, Probability, Protocol,
};
pub use lab::Lab;
pub use name::LabName;
pub use observer::Observer;
pub use process::ProcessState;
pub use spec::{CpuQuota, Engine, FrontEnd, LabSpec, Mode, REPLICAS_MAX, STORAGE_NODES_MAX};
pub use status::{FaultStatus, HostStatus, ProcessStatus, Status};
pub use topology::{CLIENT, FRONT_END, Host, Role, SWITCH};
