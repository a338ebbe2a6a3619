//! `ashlar bench object`.

use super::shared::{LabArgs, LoadArgs, OutputArgs, Watch};
use ashlar_bench::comparison::{LoadShape, Scheme};
use ashlar_bench::load::{Arrival, Mix, Trust};
use ashlar_bench::object::{self, ObjectSpec, Place};
use ashlar_bench::units::ByteSize;
use std::path::PathBuf;

/// Arguments of `ashlar bench object`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench object --peer nginx --sizes 1KiB,1MiB --schemes http,https --report report/
  ashlar bench object --target http://127.0.0.1:8080 --sizes 64KiB --rounds 3

Without --target it needs root: it builds a lab of network namespaces and removes it again.")]
pub(super) struct Args {
    /// Measure what answers at this URL, in place of a lab
    #[arg(long, value_name = "URL", conflicts_with_all = ["peer", "storage_nodes", "server_quota", "server_threads"])]
    target: Option<String>,
    /// Object sizes
    #[arg(long, value_delimiter = ',', default_value = "1KiB,64KiB,1MiB")]
    sizes: Vec<ByteSize>,
    /// http, https or both [default: http,https in a lab, the target's otherwise]
    #[arg(long, value_delimiter = ',')]
    schemes: Vec<Scheme>,
    #[command(flatten)]
    load: LoadArgs,
    /// Send at this fixed rate in requests a second (open loop), in place of as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Operate on preloaded objects on disk: ycsb-a, ycsb-b, ycsb-c, ycsb-d or put
    #[arg(long)]
    mix: Option<Mix>,
    /// How many objects --mix preloads
    #[arg(long, default_value_t = 1000, requires = "mix")]
    keys: u64,
    /// Storage nodes of the lab
    #[arg(long, value_name = "N", default_value_t = 3)]
    storage_nodes: u8,
    #[command(flatten)]
    lab: LabArgs,
    /// Also measure the front end's memory with this many idle connections
    #[arg(long, value_name = "N")]
    idle_connections: Option<usize>,
    /// Trust the certificates in this PEM file (--target)
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Trust any certificate (--target)
    #[arg(long, requires = "target")]
    insecure: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let spec = specification(args);
    let outcome = Watch::over(|watch| object::run(&spec, watch))?;
    args.output.report(&outcome)
}

fn specification(args: &Args) -> ObjectSpec {
    let place = match &args.target {
        None => Place::Lab(args.lab.place(args.storage_nodes)),
        Some(url) => Place::Target {
            url: url.clone(),
            trust: Trust::from_options(args.cacert.as_deref(), args.insecure),
        },
    };
    let schemes = match (&args.target, args.schemes.as_slice()) {
        (None, []) => vec![Scheme::Http, Scheme::Https],
        (Some(url), []) if url.starts_with("https://") => vec![Scheme::Https],
        (Some(_), []) => vec![Scheme::Http],
        (_, given) => given.to_vec(),
    };
    let arrival = match args.rate {
        None => Arrival::Closed,
        Some(rate_per_second) => Arrival::Open { rate_per_second },
    };
    let mix = args.mix.map(|mix| (mix, args.keys));
    ObjectSpec {
        sizes: args.sizes.clone(),
        schemes,
        rounds: args.load.rounds,
        load: LoadShape { arrival, mix, ..args.load.shape() },
        place,
        idle_connections: args.idle_connections,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_bench::peers::Peer;
    use ashlar_lab::CpuQuota;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn spec(arguments: &[&str]) -> ObjectSpec {
        let line = ["object"].iter().chain(arguments);
        specification(&Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args)
    }

    #[test]
    fn the_defaults_measure_three_sizes_over_both_schemes_in_a_lab_with_quotas() {
        let spec = spec(&[]);
        assert_eq!(spec.sizes, [ByteSize(1 << 10), ByteSize(1 << 16), ByteSize(1 << 20)]);
        assert_eq!(spec.schemes, [Scheme::Http, Scheme::Https]);
        assert_eq!((spec.rounds, spec.load.connections), (5, 100));
        let Place::Lab(place) = spec.place else { panic!("not a lab") };
        assert_eq!(place.server_quota.map(CpuQuota::percent), Some(20));
        assert!(place.peers.is_empty());
    }

    #[test]
    fn peers_quotas_and_rates_are_read() {
        let spec = spec(&[
            "--peer",
            "nginx",
            "--peer",
            "haproxy",
            "--server-quota",
            "none",
            "--rate",
            "10",
        ]);
        assert_eq!(spec.load.arrival, Arrival::Open { rate_per_second: 10.0 });
        let Place::Lab(place) = spec.place else { panic!("not a lab") };
        assert_eq!(place.peers, [Peer::Nginx, Peer::Haproxy]);
        assert_eq!(place.server_quota, None);
    }

    #[test]
    fn a_target_gives_the_scheme() {
        assert_eq!(spec(&["--target", "https://[::1]", "--insecure"]).schemes, [Scheme::Https]);
        assert_eq!(spec(&["--target", "http://[::1]"]).schemes, [Scheme::Http]);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (arguments, named) in [
            (["--peer", "envoy"], "--peer"),
            (["--sizes", "1kb"], "--sizes"),
            (["--server-quota", "0%"], "--server-quota"),
            (["--schemes", "ftp"], "--schemes"),
            (["--seconds", "x"], "--seconds"),
        ] {
            let line = ["object"].iter().chain(&arguments);
            let Err(error) = Line::try_parse_from(line) else {
                panic!("{arguments:?} is accepted")
            };
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
