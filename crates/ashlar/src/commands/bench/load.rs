//! `ashlar bench load`: the generator alone.

use super::parse_seconds;
use ashlar_bench::load::{
    self, Arrival, Event, HoldReport, Keyed, LoadReport, LoadSpec, Message, Mix, Named, Target,
    Trust, Workload,
};
use ashlar_bench::units::ByteSize;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `ashlar bench load`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar bench load --url http://127.0.0.1:8080/ --size 64KiB --connections 32 --seconds 10
  ashlar bench load --url http://127.0.0.1:8080/ --mix ycsb-b --keys 1000 --size 4KiB --rate 500")]
pub(super) struct Args {
    /// Where to send the load; its path is fetched if neither --size nor --mix is given
    #[arg(long)]
    pub(super) url: String,
    /// Fetch /N for objects of this size, or give objects of --mix this size; several: equally often
    #[arg(long, value_delimiter = ',')]
    size: Vec<ByteSize>,
    /// Fetch these objects, all of one --size, in turn; connections begin with another one each
    #[arg(long, value_delimiter = ',', requires = "size", conflicts_with = "mix")]
    names: Vec<String>,
    /// Each connection fetches only the one of --names that it begins with
    #[arg(long, requires = "names")]
    stay: bool,
    /// Connect to these addresses in turn, in place of the URL's
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    connect_to: Vec<SocketAddr>,
    /// Operate on preloaded objects: ycsb-a, ycsb-b, ycsb-c, ycsb-d or put
    #[arg(long)]
    mix: Option<Mix>,
    /// How many objects --mix preloads
    #[arg(long, default_value_t = 1000, requires = "mix")]
    keys: u64,
    /// Send at this fixed rate in requests a second, in place of as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Connections, over all threads
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Generator threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Time under load before the measured window
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    warm_up_seconds: Duration,
    /// Length of the measured window
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    /// The longest that a request may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    timeout_seconds: Duration,
    /// Wait this long for the server to answer well once, before anything is counted
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    wait_seconds: Duration,
    /// Compare the received bytes with the object's
    #[arg(long)]
    verify_content: bool,
    /// Trust the certificates in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
    /// Decides which operations are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make one request on each connection, then keep them open until standard input ends
    #[arg(long)]
    hold: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print JSON lines: events as they happen, then the result
    #[arg(long, hide = true, conflicts_with = "json")]
    events: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let spec = specification(args)?;
    if !args.wait_seconds.is_zero() {
        load::wait_until_answering(&spec, args.wait_seconds)?;
    }
    if args.hold {
        return hold(args, &spec);
    }
    let report = load::run(&spec, |event| tell(args, &Message::Event(event)))?;
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    } else if args.events {
        tell(args, &Message::Load(Box::new(report)));
    } else {
        write!(io::stdout(), "{}", text(&report))?;
    }
    Ok(())
}

fn hold(args: &Args, spec: &LoadSpec) -> anyhow::Result<()> {
    let report: HoldReport = load::hold(spec, || {
        tell(args, &Message::Event(Event::Holding));
        // Whatever ends the input releases the connections, an error too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    })?;
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    } else if args.events {
        tell(args, &Message::Hold(report));
    } else {
        let (held, broken) = (report.connections, report.broken);
        writeln!(io::stdout(), "{held} connections held, {broken} broken")?;
    }
    Ok(())
}

/// Writes a line for the program that started this one, if one did.
fn tell(args: &Args, message: &Message) {
    if args.events {
        let line = serde_json::to_string(message).expect("a message has a JSON form");
        let mut stdout = io::stdout().lock();
        // A reader that has gone away does not want the rest either.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

fn specification(args: &Args) -> anyhow::Result<LoadSpec> {
    let mut target =
        Target::parse(&args.url, &Trust::from_options(args.cacert.as_deref(), args.insecure))?;
    let workload = match (args.mix, args.size.as_slice()) {
        (None, [size]) if !args.names.is_empty() => {
            Workload::Named(Named { names: args.names.clone(), size: *size, stays: args.stay })
        }
        (None, _) if !args.names.is_empty() => anyhow::bail!("--names: give one --size for them"),
        (None, []) => Workload::Path(target.path().to_owned()),
        (None, sizes) => Workload::Synthetic(sizes.to_vec()),
        (Some(mix), [size]) => Workload::Keyed(Keyed { mix, keys: args.keys, size: *size }),
        (Some(_), _) => anyhow::bail!("--mix: give one --size for its objects"),
    };
    if !args.connect_to.is_empty() {
        target = target.connect_to(args.connect_to.clone());
    }
    let arrival = match args.rate {
        None => Arrival::Closed,
        Some(rate_per_second) => Arrival::Open { rate_per_second },
    };
    Ok(LoadSpec {
        target,
        workload,
        arrival,
        connections: args.connections,
        threads: args.threads,
        warm_up: args.warm_up_seconds,
        window: args.seconds,
        timeout: args.timeout_seconds,
        verify_content: args.verify_content,
        seed: args.seed,
    })
}

fn text(report: &LoadReport) -> String {
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    let mut text = format!(
        "{:.0} requests/s, {:.1} MB/s over {:.1} s and {} connections\n",
        report.rate_per_second,
        report.bytes_per_second / 1e6,
        report.elapsed_seconds,
        report.connections,
    );
    if let Some(latency) = &report.latency_ns {
        text.push_str(&format!(
            "latency ms: p50 {:.3}, p90 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}\n",
            milliseconds(latency.p50),
            milliseconds(latency.p90),
            milliseconds(latency.p99),
            milliseconds(latency.p999),
            milliseconds(latency.max),
        ));
    }
    if let Some(tls) = &report.tls {
        text.push_str(&format!("TLS: {} {}\n", tls.version, tls.cipher_suite));
    }
    for warning in report.warnings() {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_bench::comparison::generator::{Aim, Task, arguments};
    use ashlar_bench::comparison::{Case, LoadShape, Scheme};
    use clap::Parser;
    use std::net::Ipv4Addr;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Top,
    }

    #[derive(clap::Subcommand)]
    enum Top {
        Bench(super::super::Args),
    }

    fn aim() -> Aim<'static> {
        Aim {
            case: Case { scheme: Scheme::Http, size: ByteSize(1024) },
            host: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
            names: &[],
            stays: false,
            connect_to: &[],
        }
    }

    fn parsed(task: Task, load: &LoadShape, aim: &Aim<'_>) -> Args {
        let arguments = arguments(task, load, aim);
        let line = [std::ffi::OsString::from("ashlar")].into_iter().chain(arguments);
        let Top::Bench(bench) =
            Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}")).command;
        match bench.command {
            super::super::Command::Load(args) => *args,
            _ => panic!("it is the generator's command line"),
        }
    }

    fn shape() -> LoadShape {
        LoadShape {
            connections: 7,
            threads: 2,
            arrival: Arrival::Open { rate_per_second: 1.5 },
            mix: Some((Mix::YCSB_D, 99)),
            warm_up: Duration::from_millis(250),
            window: Duration::from_secs(3),
            timeout: Duration::from_secs(4),
            verify_content: true,
            seed: 5,
        }
    }

    #[test]
    fn the_lab_and_the_generator_agree_on_the_command_line() {
        let args = parsed(Task::Load, &shape(), &aim());
        let spec = specification(&args).unwrap();
        assert_eq!((spec.connections, spec.threads, spec.seed), (7, 2, 5));
        assert_eq!(spec.arrival, Arrival::Open { rate_per_second: 1.5 });
        assert_eq!(spec.warm_up, Duration::from_millis(250));
        assert_eq!((spec.window, spec.timeout), (Duration::from_secs(3), Duration::from_secs(4)));
        assert!(spec.verify_content && args.events && !args.hold);
        let Workload::Keyed(keyed) = spec.workload else { panic!("the mix is lost") };
        assert_eq!((keyed.mix, keyed.keys, keyed.size), (Mix::YCSB_D, 99, ByteSize(1024)));
    }

    #[test]
    fn without_a_mix_synthetic_objects_are_fetched() {
        let load = LoadShape { mix: None, arrival: Arrival::Closed, ..shape() };
        let args = parsed(Task::Hold, &load, &aim());
        assert!(args.hold);
        let spec = specification(&args).unwrap();
        assert_eq!(spec.arrival, Arrival::Closed);
        assert!(matches!(spec.workload, Workload::Synthetic(sizes) if sizes == [ByteSize(1024)]));
    }

    #[test]
    fn names_and_other_addresses_reach_the_generator() {
        let load = LoadShape { mix: None, ..shape() };
        let names = ["1024", "01024"].map(str::to_owned);
        let connect_to = ["127.0.0.1:1", "127.0.0.2:2"].map(|text| text.parse().unwrap());
        let aim = Aim { names: &names, stays: true, connect_to: &connect_to, ..aim() };
        let args = parsed(Task::Load, &load, &aim);
        assert_eq!(args.connect_to, connect_to);
        let Workload::Named(named) = specification(&args).unwrap().workload else {
            panic!("the names are lost");
        };
        assert_eq!((named.names.as_slice(), named.size), (&names[..], ByteSize(1024)));
        assert!(named.stays);
    }

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(parse_seconds("0.5").unwrap(), Duration::from_millis(500));
        for text in ["-1", "x", "NaN", "inf", "1e9"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
