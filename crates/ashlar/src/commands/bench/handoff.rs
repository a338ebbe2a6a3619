//! `ashlar bench handoff`.

use super::shared::{LabArgs, LoadArgs, OutputArgs, Watch};
use ashlar_bench::comparison::{Scheme, Subject};
use ashlar_bench::handoff::{self, HandoffSpec};
use ashlar_bench::units::ByteSize;

/// Arguments of `ashlar bench handoff`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench handoff --peer nginx --peer haproxy --json result.json --report report/
  ashlar bench handoff --sizes 64KiB,1MiB --schemes http --rounds 1 --seconds 1

Needs root: it builds a lab of network namespaces and removes it again.")]
pub(super) struct Args {
    /// Object sizes
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "64B,1KiB,4KiB,16KiB,64KiB,256KiB,1MiB,4MiB"
    )]
    sizes: Vec<ByteSize>,
    /// http, https or both
    #[arg(long, value_delimiter = ',', default_value = "http,https")]
    schemes: Vec<Scheme>,
    /// What is measured of ours: direct (no front end), settled (connections that have moved and
    /// stay), handoff (every request moves its connection), auto, relay
    #[arg(long, value_delimiter = ',', default_value = "direct,settled,handoff,auto,relay")]
    subjects: Vec<Subject>,
    #[command(flatten)]
    load: LoadArgs,
    /// Storage nodes of the lab
    #[arg(long, value_name = "N", default_value_t = 5)]
    storage_nodes: u8,
    #[command(flatten)]
    lab: LabArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let spec = specification(args);
    let outcome = Watch::over(|watch| handoff::run(&spec, watch))?;
    args.output.report(&outcome)
}

fn specification(args: &Args) -> HandoffSpec {
    HandoffSpec {
        sizes: args.sizes.clone(),
        schemes: args.schemes.clone(),
        subjects: args.subjects.clone(),
        rounds: args.load.rounds,
        load: args.load.shape(),
        place: args.lab.place(args.storage_nodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_lab::CpuQuota;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn spec(arguments: &[&str]) -> HandoffSpec {
        let line = ["handoff"].iter().chain(arguments);
        specification(&Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args)
    }

    #[test]
    fn the_defaults_are_the_published_set_up() {
        let spec = spec(&[]);
        assert_eq!((spec.place.storage_nodes, spec.load.connections), (5, 100));
        assert_eq!(spec.place.server_quota.map(CpuQuota::percent), Some(20));
        assert_eq!(spec.sizes.first(), Some(&ByteSize(64)));
        assert_eq!(spec.sizes.last(), Some(&ByteSize(4 << 20)));
        assert_eq!(spec.schemes, [Scheme::Http, Scheme::Https]);
        assert_eq!(spec.subjects, Subject::OURS);
    }

    #[test]
    fn subjects_are_read_by_name() {
        let spec = spec(&["--subjects", "handoff,relay"]);
        assert_eq!(spec.subjects, [Subject::Handoff, Subject::Relay]);
        let Err(error) = Line::try_parse_from(["handoff", "--subjects", "nginx"]) else {
            panic!("a peer is no subject of ours");
        };
        assert!(error.to_string().contains("--subjects"));
    }
}
