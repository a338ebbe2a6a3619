//! What this host can do: found by trying, never taken from a version number.

mod limits;
mod namespaces;
mod privileges;
mod programs;
mod sockets;

use serde::Serialize;
use std::fmt;

/// Something that the host may have or lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Linux, of a release that can be read.
    Kernel,
    /// The effective user is root.
    Root,
    /// `CAP_BPF` is effective.
    CapBpf,
    /// `CAP_NET_ADMIN` is effective.
    CapNetAdmin,
    /// `CAP_PERFMON` is effective.
    CapPerfmon,
    /// `CAP_SYS_ADMIN` is effective.
    CapSysAdmin,
    /// This binary carries the kernel programs.
    KernelPrograms,
    /// Programs of type XDP can be loaded.
    Xdp,
    /// Programs of type traffic-control classifier can be loaded.
    TrafficControl,
    /// Classifiers can be attached by a link (TCX).
    Tcx,
    /// Memory of maps can be shared with a process.
    MappableMaps,
    /// A BPF file system is mounted where it belongs, or can be.
    BpfFileSystem,
    /// The kernel publishes its type information (BTF).
    Btf,
    /// Kernel programs are compiled to machine code.
    Jit,
    /// A TCP connection's state can be taken and put back (`TCP_REPAIR`).
    TcpRepair,
    /// A socket can use a foreign address (`IP_TRANSPARENT`).
    IpTransparent,
    /// The kernel can protect TLS records (kTLS).
    KernelTls,
    /// Network namespaces can be made.
    NetworkNamespaces,
    /// A share of the processor can be set for a group of processes.
    CpuQuota,
    /// `ip` of iproute2 is installed.
    IpCommand,
    /// Enough descriptors for many connections.
    FileDescriptors,
    /// Kernel memory for maps is not bounded by this process's limit on locked memory.
    LockedMemory,
}

impl Feature {
    /// Every feature, in the order of a report.
    pub const ALL: [Self; 22] = [
        Self::Kernel,
        Self::Root,
        Self::CapBpf,
        Self::CapNetAdmin,
        Self::CapPerfmon,
        Self::CapSysAdmin,
        Self::KernelPrograms,
        Self::Xdp,
        Self::TrafficControl,
        Self::Tcx,
        Self::MappableMaps,
        Self::BpfFileSystem,
        Self::Btf,
        Self::Jit,
        Self::TcpRepair,
        Self::IpTransparent,
        Self::KernelTls,
        Self::NetworkNamespaces,
        Self::CpuQuota,
        Self::IpCommand,
        Self::FileDescriptors,
        Self::LockedMemory,
    ];

    /// The name that people and other programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Root => "root",
            Self::CapBpf => "CAP_BPF",
            Self::CapNetAdmin => "CAP_NET_ADMIN",
            Self::CapPerfmon => "CAP_PERFMON",
            Self::CapSysAdmin => "CAP_SYS_ADMIN",
            Self::KernelPrograms => "kernel programs",
            Self::Xdp => "XDP",
            Self::TrafficControl => "traffic control",
            Self::Tcx => "TCX links",
            Self::MappableMaps => "mappable maps",
            Self::BpfFileSystem => "BPF file system",
            Self::Btf => "BTF",
            Self::Jit => "BPF JIT",
            Self::TcpRepair => "TCP_REPAIR",
            Self::IpTransparent => "IP_TRANSPARENT",
            Self::KernelTls => "kernel TLS",
            Self::NetworkNamespaces => "network namespaces",
            Self::CpuQuota => "CPU quota",
            Self::IpCommand => "ip command",
            Self::FileDescriptors => "file descriptors",
            Self::LockedMemory => "locked memory",
        }
    }

    /// What Ashlar needs it for.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Kernel => "everything",
            Self::Root => "the lab; kernel programs, unless the capabilities below are given",
            Self::CapBpf => "loading kernel programs",
            Self::CapNetAdmin => "attaching kernel programs, moving connections",
            Self::CapPerfmon => "kernel programs that compare packet pointers (none does yet)",
            Self::CapSysAdmin => "making network namespaces for the lab",
            Self::KernelPrograms => {
                "moving connections to the storage nodes; faults on purpose in the lab"
            }
            Self::Xdp => "kernel programs at the driver",
            Self::TrafficControl => "kernel programs in the network stack",
            Self::Tcx => "kernel programs in the network stack that go when their process dies",
            Self::MappableMaps => "replicas whose frames the kernel acknowledges",
            Self::BpfFileSystem => {
                "replicas that fence what their former process left in the kernel"
            }
            Self::Btf => "inspecting kernel programs with bpftool",
            Self::Jit => "kernel programs at full speed",
            Self::TcpRepair => "moving connections to the storage nodes",
            Self::IpTransparent => "storage nodes that answer from the front end's address",
            Self::KernelTls => "TLS records made by the kernel (not used yet)",
            Self::NetworkNamespaces => "the lab's hosts",
            Self::CpuQuota => "equal shares of the processor for the lab's hosts",
            Self::IpCommand => "the lab's links and addresses",
            Self::FileDescriptors => "one per connection",
            Self::LockedMemory => "maps of the kernel programs",
        }
    }
}

/// Whether the host has a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was tried, and works.
    Yes,
    /// It was tried, and does not.
    No,
    /// It could not be tried: mostly for lack of privileges.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// What trying a feature showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub feature: Feature,
    /// Whether the host has it.
    pub status: Status,
    /// What was seen: a version, a number, the kernel's error.
    pub detail: String,
    /// What Ashlar needs it for.
    pub purpose: &'static str,
    /// How to get it, where it is missing and can be had.
    pub hint: Option<&'static str>,
}

/// What a probe found, before it is labelled.
struct Finding {
    status: Status,
    detail: String,
    hint: Option<&'static str>,
}

impl Finding {
    fn yes(detail: impl Into<String>) -> Self {
        Self { status: Status::Yes, detail: detail.into(), hint: None }
    }

    fn no(detail: impl Into<String>, hint: &'static str) -> Self {
        Self { status: Status::No, detail: detail.into(), hint: Some(hint) }
    }

    fn unknown(detail: impl Into<String>, hint: &'static str) -> Self {
        Self { status: Status::Unknown, detail: detail.into(), hint: Some(hint) }
    }
}

/// Tries one feature. Takes milliseconds, leaves nothing behind.
pub fn probe(feature: Feature) -> Probe {
    let Finding { status, detail, hint } = match feature {
        Feature::Kernel => privileges::kernel(),
        Feature::Root => privileges::root(),
        Feature::CapBpf | Feature::CapNetAdmin | Feature::CapPerfmon | Feature::CapSysAdmin => {
            privileges::capability(feature)
        }
        Feature::KernelPrograms => programs::built_in(),
        Feature::Xdp => programs::type_is_supported(aya::programs::ProgramType::Xdp),
        Feature::TrafficControl => {
            programs::type_is_supported(aya::programs::ProgramType::SchedClassifier)
        }
        Feature::Tcx => programs::tcx(),
        Feature::MappableMaps => programs::mappable_maps(),
        Feature::BpfFileSystem => programs::bpf_file_system(),
        Feature::Btf => programs::btf(),
        Feature::Jit => programs::jit(),
        Feature::TcpRepair => sockets::tcp_repair(),
        Feature::IpTransparent => sockets::ip_transparent(),
        Feature::KernelTls => sockets::kernel_tls(),
        Feature::NetworkNamespaces => namespaces::network_namespaces(),
        Feature::CpuQuota => namespaces::cpu_quota(),
        Feature::IpCommand => namespaces::ip_command(),
        Feature::FileDescriptors => limits::file_descriptors(),
        Feature::LockedMemory => limits::locked_memory(),
    };
    Probe { feature, status, detail, purpose: feature.purpose(), hint }
}

/// Tries every feature.
pub fn probe_all() -> Vec<Probe> {
    Feature::ALL.into_iter().map(probe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_feature_is_probed_once_and_says_what_it_is_for() {
        let probes = probe_all();
        let features: HashSet<_> = probes.iter().map(|probe| probe.feature).collect();
        assert_eq!(features.len(), probes.len());
        let names: HashSet<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        assert_eq!(names.len(), Feature::ALL.len());
        for probe in probes {
            assert!(!probe.detail.is_empty(), "{probe:?}");
            assert!(!probe.purpose.is_empty(), "{probe:?}");
            assert_eq!(probe.hint.is_some(), probe.status != Status::Yes, "{probe:?}");
        }
    }

    #[test]
    fn probing_twice_finds_the_same() {
        let again =
            |feature| assert_eq!(probe(feature).status, probe(feature).status, "{feature:?}");
        Feature::ALL.into_iter().for_each(again);
    }

    #[test]
    fn a_probe_is_written_for_machines() {
        let probe = Probe {
            feature: Feature::CapNetAdmin,
            status: Status::No,
            detail: "not effective".to_owned(),
            purpose: "p",
            hint: Some("h"),
        };
        let json = serde_json::to_value(probe).unwrap();
        let expected = serde_json::json!({
            "feature": "cap-net-admin", "status": "no", "detail": "not effective", "purpose": "p", "hint": "h",
        });
        assert_eq!(json, expected);
    }
}
