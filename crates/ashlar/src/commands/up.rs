//! `ashlar up`: the whole stack in one process.

use anyhow::{Context, bail};
use ashlar_node::{
    config::{Config, Log, LogFormat},
    run::{Endpoints, Process, reserve},
    signals,
};
use serde_json::json;
use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the object store listens unless told otherwise, if nobody else does.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Any free port of loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long a start may take before we say that something is missing.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks whether everything is served.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The most storage nodes of one process.
const STORAGE_NODES_MAX: usize = 16;

/// Arguments of `ashlar up`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar up --data ./data
  curl -T big.iso http://127.0.0.1:8080/some/key
  curl -O http://127.0.0.1:8080/some/key")]
pub(crate) struct Args {
    /// Keep objects here; the directory is made if there is none
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data: Option<PathBuf>,
    /// Keep objects in a temporary directory that is removed at the end (the default)
    #[arg(long)]
    ephemeral: bool,
    /// Storage nodes to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    storage_nodes: usize,
    /// Replicas of each object
    #[arg(long, value_name = "R", default_value_t = 3)]
    replicas: usize,
    /// Where to listen for HTTP [default: 127.0.0.1:8080, or any free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Where to listen for HTTPS, with a self-signed certificate kept under the data directory
    #[arg(long, value_name = "ADDRESS")]
    https: Option<SocketAddr>,
    /// Where to listen for health checks and metrics [default: any free port of loopback]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Print the endpoints as one line of JSON
    #[arg(long)]
    json: bool,
    /// Log more or less: a filter such as `info` or `warn,ashlar_node=debug`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.storage_nodes == 0 || args.storage_nodes > STORAGE_NODES_MAX {
        bail!("--storage-nodes must be 1 to {STORAGE_NODES_MAX}");
    }
    if args.replicas == 0 || args.replicas > args.storage_nodes {
        bail!("--replicas must be 1 to the number of storage nodes, {}", args.storage_nodes);
    }
    ashlar_node::logging::init(LogFormat::Human, &args.log)?;
    let (data, _temporary) = data_directory(args.data.as_deref())?;
    // Reserved until everything listens, so that nobody takes a port in between.
    let http = reserve_http(args.http)?;
    let storage = (0..2 * args.storage_nodes)
        .map(|_| reserve(ANY))
        .collect::<std::io::Result<Vec<_>>>()
        .context("cannot find a free port on loopback")?;
    let mut ports = Vec::new();
    for socket in &storage {
        ports.push(local_address(socket)?);
    }
    let configs = configurations(&args, &data, local_address(&http)?, &ports)?;
    let process = Process::start(&configs)?;
    drop((http, storage));
    wait_until_complete(&process);
    announce(args.json, &data, process.endpoints());
    signals::run_until_stopped(process)?;
    Ok(())
}

/// Waits until everything is served, writes included. A replica that stays away is no reason not to
/// serve the rest.
fn wait_until_complete(process: &Process) {
    let deadline = Instant::now() + START_TIMEOUT;
    while let Err(reason) = process.complete() {
        if Instant::now() > deadline {
            tracing::warn!(reason, "not everything is served");
            return;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The data directory, and what removes it if it is temporary.
fn data_directory(given: Option<&Path>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match given {
        Some(path) => {
            std::fs::create_dir_all(path).with_context(|| format!("--data {}", path.display()))?;
            let path = path.canonicalize().with_context(|| format!("--data {}", path.display()))?;
            Ok((path, None))
        }
        None => {
            let directory = tempfile::Builder::new()
                .prefix("ashlar-")
                .tempdir()
                .context("cannot make a temporary directory; give --data")?;
            Ok((directory.path().to_path_buf(), Some(directory)))
        }
    }
}

fn reserve_http(given: Option<SocketAddr>) -> anyhow::Result<socket2::Socket> {
    match given {
        Some(address) => claim(address).with_context(|| format!("--http {address}")),
        None => claim(HTTP_DEFAULT).or_else(|_| reserve(ANY)).context("no free port on loopback"),
    }
}

/// Reserves an address on which nobody listens: sharing a port is only meant for this process.
fn claim(address: SocketAddr) -> std::io::Result<socket2::Socket> {
    if address.port() != 0 {
        let probe = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )?;
        probe.set_reuse_address(true)?;
        probe.bind(&address.into())?;
    }
    reserve(address)
}

fn local_address(socket: &socket2::Socket) -> anyhow::Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("a reserved socket has an address")
}

/// One configuration for the front end and one for each storage node.
fn configurations(
    args: &Args,
    data: &Path,
    http: SocketAddr,
    ports: &[SocketAddr],
) -> anyhow::Result<Vec<Config>> {
    let mut cluster = format!("[cluster]\nid = \"local\"\nreplicas = {}\n", args.replicas);
    for (index, pair) in ports.chunks(2).enumerate() {
        let number = index + 1;
        write!(
            cluster,
            "[[cluster.storage]]\nname = \"s{number}\"\nhttp = \"{}\"\npeer = \"{}\"\n",
            pair[0], pair[1]
        )?;
    }
    let admin = args.admin.unwrap_or(ANY);
    let https = args.https.map_or(String::new(), |address| format!("https = \"{address}\"\n"));
    let front_end = format!(
        "{cluster}[node]\nname = \"front-end\"\ndata = \"front-end\"\n[admin]\nlisten = \
         \"{admin}\"\n[front_end]\nhttp = \"{http}\"\n{https}"
    );
    let mut configs = vec![Config::parse(&front_end, data)?];
    for number in 1..=args.storage_nodes {
        let storage = format!(
            "{cluster}[node]\nname = \"s{number}\"\ndata = \"s{number}\"\n[storage]\nengine = \
             \"disk\"\n"
        );
        configs.push(Config::parse(&storage, data)?);
    }
    debug_assert!(configs.iter().all(|config| config.log == Log::default()));
    Ok(configs)
}

fn announce(json: bool, data: &Path, endpoints: Endpoints) {
    let url = |scheme, address: Option<SocketAddr>| {
        address.map(|address| format!("{scheme}://{address}"))
    };
    let http = url("http", endpoints.http);
    let https = url("https", endpoints.https);
    let admin = url("http", endpoints.admin);
    if json {
        let line = json!({"http": http, "https": https, "admin": admin, "data": data});
        println!("{line}");
        return;
    }
    let http = http.unwrap_or_default();
    println!("Ashlar is up: an object store on {http}");
    if let Some(https) = https {
        println!("  HTTPS   {https} (self-signed certificate)");
    }
    println!("  metrics {}/metrics", admin.unwrap_or_default());
    println!("  data    {}", data.display());
    println!("Try:");
    println!("  curl -T README.md {http}/docs/readme   # store a file");
    println!("  curl {http}/docs/readme                # read it");
    println!("  curl '{http}/?prefix=docs/'            # list");
    println!("  curl -X DELETE {http}/docs/readme      # remove it");
    println!("Ctrl-C ends it.");
}
