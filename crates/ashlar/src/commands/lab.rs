//! `ashlar lab`: a cluster of network namespaces on this machine.

mod arguments;

pub(crate) use arguments::Args;

use super::cancel::cancel_on_signal;
use anyhow::{Context, bail};
use arguments::{Command, DownArgs, ExecArgs, FaultArgs, FrontEndArg, StatusArgs, UpArgs};
use ashlar_lab::{CLIENT, FRONT_END, Lab, LabError, Observer, Role, STORAGE_HTTP_PORT, Status};
use indicatif::ProgressBar;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Up(args) => up(args),
        Command::Status(args) => show_status(&args),
        Command::Exec(args) => exec(&args),
        Command::Fault(args) => fault(&args),
        Command::Down(args) => down(&args),
        Command::FaultAgent { spec } => Ok(ashlar_lab::run_fault_agent(&spec)?),
    }
}

fn up(args: UpArgs) -> anyhow::Result<()> {
    let (json, https) = (args.json, args.https);
    let front_end = matches!(args.front_end, FrontEndArg::Ashlar) && !args.no_nodes;
    let spec = args.specification();
    let mut watch = Watch { spinner: ProgressBar::new_spinner(), cancelled: cancel_on_signal()? };
    let result = Lab::up_observed(&spec, &mut watch);
    watch.spinner.finish_and_clear();
    if let Err(LabError::NodeFailed { log_tail, .. }) = &result {
        // The last line of stderr stays the reason.
        eprintln!("{log_tail}");
    }
    let lab = result?;
    let url = |scheme: &str| lab.address(FRONT_END).map(|address| format!("{scheme}://{address}"));
    let http = if front_end { Some(url("http")?) } else { None };
    let https = if front_end && https { Some(url("https")?) } else { None };
    if json {
        println!("{}", summary(&lab, http.as_deref(), https.as_deref()));
    } else {
        introduce(&lab, https.or(http).as_deref());
    }
    Ok(())
}

/// What a script needs to use the lab.
fn summary(lab: &Lab, http: Option<&str>, https: Option<&str>) -> serde_json::Value {
    let hosts: Vec<_> = lab
        .hosts()
        .map(|host| {
            let storage = host.address.filter(|_| host.role == Role::Storage);
            serde_json::json!({
                "name": host.name,
                "role": host.role,
                "address": host.address,
                "namespace": host.namespace,
                "http": storage.map(|address| format!("http://{address}:{STORAGE_HTTP_PORT}")),
            })
        })
        .collect();
    serde_json::json!({ "name": lab.name(), "http": http, "https": https, "hosts": hosts })
}

/// What a person needs to use the lab.
fn introduce(lab: &Lab, url: Option<&str>) {
    let name = lab.name().as_str();
    let hosts: Vec<&str> = lab.hosts().map(|host| host.name.as_str()).collect();
    println!("lab {name:?} is up: {}", hosts.join(" "));
    if let Some(url) = url {
        let insecure = if url.starts_with("https") { "-k " } else { "" };
        println!("try:    ashlar lab exec --name {name} {CLIENT} -- curl -i {insecure}{url}/hello");
    }
    println!("remove: ashlar lab down --name {name}");
}

/// Shows progress on a terminal, and calls off when the user does.
struct Watch {
    /// Draws only on a terminal.
    spinner: ProgressBar,
    /// Set by SIGINT and SIGTERM.
    cancelled: Arc<AtomicBool>,
}

impl Observer for Watch {
    fn progress(&mut self, step: &str) {
        self.spinner.set_message(step.to_owned());
        self.spinner.tick();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn show_status(args: &StatusArgs) -> anyhow::Result<()> {
    let status = Lab::attach(&args.name.name)?.status()?;
    if args.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(())
}

fn table(status: &Status) -> String {
    const MIB: f64 = 1_048_576.0;
    let none = || "-".to_owned();
    let mut text = format!(
        "{:<7} {:<12} {:>6} {:>9} {:>9}  PROCESSES AND FAULTS\n",
        "HOST", "ADDRESS", "QUOTA", "CPU", "MEMORY"
    );
    for host in &status.hosts {
        let processes = host.processes.iter().map(|process| {
            let state = format!("{:?}", process.state).to_lowercase();
            format!("{} {} {state}", process.name, process.pid)
        });
        let faults = host.faults.iter().map(|fault| {
            format!(
                "{}{}",
                fault.description,
                if fault.in_force { "" } else { " (ended: --clear it)" }
            )
        });
        text.push_str(&format!(
            "{:<7} {:<12} {:>6} {:>9} {:>9}  {}\n",
            host.name,
            host.address.map_or_else(none, |address| address.to_string()),
            host.quota_percent.map_or_else(none, |percent| format!("{percent} %")),
            host.cpu_seconds.map_or_else(none, |seconds| format!("{seconds:.2} s")),
            match host.resident_bytes {
                0 => none(),
                bytes => format!("{:.1} MiB", bytes as f64 / MIB),
            },
            processes.chain(faults).collect::<Vec<_>>().join("; "),
        ));
    }
    if !status.complete {
        text.push_str(&format!(
            "This lab was not built whole; remove it with: ashlar lab down --name {}\n",
            status.name
        ));
    }
    text
}

fn exec(args: &ExecArgs) -> anyhow::Result<()> {
    let lab = Lab::attach(&args.name.name)?;
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("no command given");
    };
    // This process becomes the command, so its exit code and its signals are the command's.
    let error = lab.command(&args.host, program)?.args(arguments).exec();
    Err(error).context("run the command")
}

fn fault(args: &FaultArgs) -> anyhow::Result<()> {
    let actions = args.actions()?;
    let lab = Lab::attach(&args.name.name)?;
    for action in &actions {
        lab.fault(&args.host, action)?;
    }
    Ok(())
}

fn down(args: &DownArgs) -> anyhow::Result<()> {
    let names = if args.all { Lab::all() } else { vec![args.name.name.clone()] };
    for name in names {
        let removed = Lab::remove(&name)?;
        let name = name.as_str();
        if removed {
            println!("lab {name:?} is gone");
        } else {
            println!("there is no lab {name:?}: nothing to remove");
        }
    }
    Ok(())
}
