//! `ashlar doctor`: what this host can do.

use anyhow::Context;
use ashlar_kernel::probe::{Feature, Probe, Status, probe_all};
use ashlar_kernel::steering::memory_bytes;
use std::io::{self, Write};

/// Width of the column of names: the longest is 18 characters long.
const NAME_COLUMNS: usize = 20;

/// Width of the column of statuses.
const STATUS_COLUMNS: usize = 9;

/// Arguments of `ashlar doctor`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar doctor
  sudo ashlar doctor --json | jq '.features[] | select(.status != \"yes\")'

Each feature is tried, not looked up, and nothing is left behind. The exit code is 0 whatever is \
missing: the object store itself needs none of these features.")]
pub(crate) struct Args {
    /// Write one line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let probes = probe_all();
    let report = if args.json { json(&probes) } else { table(&probes) };
    match io::stdout().lock().write_all(report.as_bytes()) {
        // Whoever reads only the first lines has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the report"),
    }
}

fn json(probes: &[Probe]) -> String {
    let memory = memory_bytes(FLOWS_SHOWN);
    let hand_off = serde_json::json!({
        "missing": names(probes, &HAND_OFF),
        "missing_on_a_switch": names(probes, &STEERING),
        "flows": FLOWS_SHOWN,
        "steering_bytes_empty": memory.empty_bytes,
        "steering_bytes_full": memory.full_bytes,
    });
    let replication = serde_json::json!({ "missing": names(probes, &REPLICATION) });
    let report = serde_json::json!({
        "features": probes, "hand_off": hand_off, "replication": replication,
    });
    format!("{report}\n")
}

/// What connections need to move, on front ends and on storage nodes.
const HAND_OFF: [Feature; 5] = [
    Feature::CapNetAdmin,
    Feature::TcpRepair,
    Feature::IpTransparent,
    Feature::KernelPrograms,
    Feature::Tcx,
];

/// What steering needs: on a front end, or on a switch in its place.
const STEERING: [Feature; 3] = [Feature::CapNetAdmin, Feature::KernelPrograms, Feature::Tcx];

/// What the kernel needs to answer and copy replicas' frames.
const REPLICATION: [Feature; 7] = [
    Feature::CapBpf,
    Feature::CapNetAdmin,
    Feature::KernelPrograms,
    Feature::Xdp,
    Feature::Tcx,
    Feature::MappableMaps,
    Feature::BpfFileSystem,
];

/// For so many connections the memory of steering is shown.
const FLOWS_SHOWN: u32 = 1_000_000;

/// Which of these features are missing, by name.
fn names(probes: &[Probe], wanted: &[Feature]) -> Vec<&'static str> {
    let missing = probes.iter().filter(|probe| probe.status != Status::Yes);
    let missing = missing.map(|probe| probe.feature).filter(|feature| wanted.contains(feature));
    missing.map(Feature::name).collect()
}

/// Whether front ends of this host can hand connections to storage nodes.
fn hand_off(probes: &[Probe]) -> [String; 2] {
    const MIB: u64 = 1 << 20;
    let (missing, for_steering) = (names(probes, &HAND_OFF), names(probes, &STEERING));
    let verdict = if missing.is_empty() {
        "Connections can move: mode = \"auto\" of a front end hands large bodies off.".into()
    } else if missing == for_steering && !missing.contains(&Feature::CapNetAdmin.name()) {
        format!(
            "Connections can move only where a switch steers (front_end.steering.switch); \
             for steering here, {} is missing.",
            missing.join(", ")
        )
    } else {
        format!("Connections cannot move, front ends relay: {} is missing.", missing.join(", "))
    };
    let memory = memory_bytes(FLOWS_SHOWN);
    let memory = format!(
        "Steering's table takes {} MiB of kernel memory for {FLOWS_SHOWN} flows, {} MiB with all of them there.",
        memory.empty_bytes / MIB,
        memory.full_bytes / MIB
    );
    [verdict, memory]
}

/// Whether the kernel can answer and copy replicas' frames here.
fn replication(probes: &[Probe]) -> String {
    let missing = names(probes, &REPLICATION);
    if missing.is_empty() {
        return "The kernel can acknowledge and copy replicas' frames.".into();
    }
    format!("Replicas do without help of the kernel: {} is missing.", missing.join(", "))
}

fn table(probes: &[Probe]) -> String {
    let mut lines = vec![row("FEATURE", "STATUS", "DETAIL")];
    for probe in probes {
        let status = probe.status.to_string();
        // The kernel's errors may have several lines; the first one says it.
        let detail = probe.detail.lines().next().unwrap_or_default();
        lines.push(row(probe.feature.name(), &status, detail));
        if let Some(hint) = probe.hint {
            lines.push(row("", "", &format!("needed for: {}", probe.purpose)));
            lines.push(row("", "", &format!("to get it:  {hint}")));
        }
    }
    let missing = probes.iter().filter(|probe| probe.status != Status::Yes).count();
    lines.push(String::new());
    lines.push(match missing {
        0 => format!("All {} features are there.", probes.len()),
        _ => format!(
            "{missing} of {} features are missing or unknown; only what they are needed for suffers.",
            probes.len()
        ),
    });
    lines.extend(hand_off(probes));
    lines.push(replication(probes));
    lines.join("\n") + "\n"
}

fn row(name: &str, status: &str, detail: &str) -> String {
    format!("{name:NAME_COLUMNS$}{status:STATUS_COLUMNS$}{detail}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn probe(feature: Feature, status: Status, hint: Option<&'static str>) -> Probe {
        let detail = "first line\nsecond line".to_owned();
        Probe { feature, status, detail, purpose: "the lab", hint }
    }

    #[test]
    fn the_table_shows_hints_only_for_what_is_missing() {
        let report = table(&[
            probe(Feature::Root, Status::Yes, None),
            probe(Feature::NetworkNamespaces, Status::Unknown, Some("run as root")),
        ]);
        let expected = "\
FEATURE             STATUS   DETAIL
root                yes      first line
network namespaces  unknown  first line
                             needed for: the lab
                             to get it:  run as root

1 of 2 features are missing or unknown; only what they are needed for suffers.
Connections can move: mode = \"auto\" of a front end hands large bodies off.
Steering's table takes 16 MiB of kernel memory for 1000000 flows, 138 MiB with all of them there.
The kernel can acknowledge and copy replicas' frames.
";
        assert_eq!(report, expected);
    }

    #[test]
    fn what_connections_need_to_move_is_named() {
        let [verdict, _] = hand_off(&[
            probe(Feature::TcpRepair, Status::No, None),
            probe(Feature::Btf, Status::No, None),
        ]);
        assert_eq!(verdict, "Connections cannot move, front ends relay: TCP_REPAIR is missing.");
    }

    #[test]
    fn what_replicas_need_of_the_kernel_is_named() {
        let verdict = replication(&[
            probe(Feature::Xdp, Status::No, None),
            probe(Feature::BpfFileSystem, Status::Unknown, None),
            probe(Feature::Btf, Status::No, None),
        ]);
        let expected = "Replicas do without help of the kernel: XDP, BPF file system is missing.";
        assert_eq!(verdict, expected);
    }

    #[test]
    fn every_name_fits_its_column() {
        let longest = Feature::ALL.iter().map(|feature| feature.name().len()).max().unwrap();
        assert!(longest < NAME_COLUMNS);
    }

    #[test]
    fn the_json_is_one_line_with_every_feature() {
        let report = json(&probe_all());
        assert_eq!(report.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(value["features"].as_array().unwrap().len(), Feature::ALL.len());
        assert_eq!(value["features"][0]["feature"], "kernel");
    }

    #[test]
    fn without_kernel_programs_connections_move_where_a_switch_steers() {
        let probes =
            [probe(Feature::Tcx, Status::No, None), probe(Feature::TcpRepair, Status::Yes, None)];
        let [verdict, _] = hand_off(&probes);
        assert!(verdict.contains("only where a switch steers"), "{verdict}");
        assert!(verdict.ends_with("for steering here, TCX links is missing."), "{verdict}");
        let probes =
            [probe(Feature::Tcx, Status::No, None), probe(Feature::TcpRepair, Status::No, None)];
        assert!(hand_off(&probes)[0].starts_with("Connections cannot move"));
    }
}
