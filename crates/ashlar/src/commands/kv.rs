//! `ashlar kv`: the replicated example service, and the members of its group.

use anyhow::{Context, bail};
use ashlar_replica::{Clients, Outcome, cluster_number};
use ashlar_vr::{
    Kind, OPERATION_BYTES_MAX,
    kv::{Change, Changed, Found, KEY_BYTES_MAX},
};
use bytes::Bytes;
use clap::Subcommand;
use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::Instant,
};

/// A datagram fits into a frame of Ethernet.
const DATAGRAM_BYTES_MAX: usize = 1_452;
/// What nobody answers is repeated after this, then more and more slowly.
const WAIT_US: u64 = 50_000;

/// Arguments of `ashlar kv`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  export ASHLAR_MEMBERS=10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 ASHLAR_CLUSTER=demo
  ashlar kv put colour blue
  ashlar kv cas colour --expect blue green
  ashlar kv get colour

A key has at most 1,024 bytes; key and value together fit into an operation of 1 MiB. \
`get` knows every write that was acknowledged to anybody before; with --stale-ms it asks one \
member, which answers from what it has. A write that is not answered in time may still be \
executed: read before you write again.")]
pub(crate) struct Args {
    /// The members of the group, in their order
    #[arg(
        long,
        value_name = "ADDRESS,…",
        value_delimiter = ',',
        required = true,
        env = "ASHLAR_MEMBERS"
    )]
    members: Vec<SocketAddr>,
    /// The cluster's name, as in the configuration of its nodes
    #[arg(long, value_name = "NAME", env = "ASHLAR_CLUSTER", default_value = "ashlar")]
    cluster: String,
    /// The group's number
    #[arg(long, value_name = "N", default_value_t = 1)]
    group: u32,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: humantime::Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a key's value; exits with 1 if it has none
    Get {
        /// The key
        key: String,
        /// Be content with what was so that long ago
        #[arg(long, value_name = "MILLISECONDS")]
        stale_ms: Option<u64>,
        /// With --stale-ms: ask this one of --members, counted from 0
        #[arg(long, value_name = "PLACE", default_value_t = 0, requires = "stale_ms")]
        member: usize,
        /// Print JSON: the value as text, and the place of the entry that put it there
        #[arg(long)]
        json: bool,
    },
    /// Give a key a value
    Put {
        /// The key
        key: String,
        /// The value, or - for standard input
        value: String,
    },
    /// Give a key a value if it has a certain one; exits with 1 if it has another
    Cas {
        /// The key
        key: String,
        /// The value that it must have; without it, it must have none
        #[arg(long, value_name = "VALUE")]
        expect: Option<String>,
        /// The value that it shall have, or - for standard input
        value: String,
    },
    /// Remove a key
    Rm {
        /// The key
        key: String,
    },
    /// Give the group other members: adds, removes or replaces replicas. New ones must run, with
    /// state = "join"
    Reconfigure {
        /// All members from now on, in their order
        #[arg(value_name = "ADDRESS,…", value_delimiter = ',', required = true)]
        members: Vec<SocketAddr>,
    },
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { members, cluster, group, timeout, command } = args;
    if let Command::Get { member, .. } = &command
        && *member >= members.len()
    {
        bail!("--member {member}: --members names {}, counted from 0", members.len());
    }
    let scope = (cluster_number(&cluster), group);
    let asked = members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let is_read = matches!(command, Command::Get { .. });
    let whom = format!("group {group} of cluster `{cluster}` at {asked}");
    let sessions = usize::from(!matches!(command, Command::Get { .. }));
    let clients = Clients::new(scope, members, sessions, DATAGRAM_BYTES_MAX, WAIT_US)
        .context("a socket for the group")?;
    let deadline = Instant::now() + *timeout;
    let mut group = Group { clients, deadline, whom, is_read };
    match command {
        Command::Get { key, stale_ms, member, json } => {
            let old = stale_ms.map(|stale_ms| (member, stale_ms.saturating_mul(1_000)));
            group.get(&key, old, json)
        }
        Command::Put { key, value } => {
            group.change(&Change::Put(key.into(), Some(read(value)?)))?;
            Ok(())
        }
        Command::Cas { key, expect, value } => {
            let change =
                Change::CompareAndSet(key.into(), expect.map(Bytes::from), Some(read(value)?));
            match group.change(&change)? {
                Changed::Differs(None) => bail!("the key has no value"),
                Changed::Differs(Some(value)) => {
                    bail!("the key has another value: {}", String::from_utf8_lossy(&value))
                }
                _ => Ok(()),
            }
        }
        Command::Rm { key } => {
            if group.change(&Change::Put(key.into(), None))? == Changed::Done(None) {
                bail!("the key has no value");
            }
            Ok(())
        }
        Command::Reconfigure { members } => {
            let names: Vec<String> = members.iter().map(ToString::to_string).collect();
            let result = group.execute(Kind::Reconfigure, names.join(" ").into())?;
            if result.is_empty() {
                bail!("these are no members of a group: 1 to 7, each once");
            }
            group.clients = Clients::new(scope, members, 0, DATAGRAM_BYTES_MAX, WAIT_US)?;
            let number = group.clients.read(Bytes::new(), None);
            group.outcome(number).map(drop).with_context(|| {
                let names = names.join(", ");
                format!(
                    "{names} are the members now, but no quorum of them answers: run replicas \
                     there, with state = \"join\""
                )
            })
        }
    }
}

fn read(value: String) -> anyhow::Result<Bytes> {
    if value != "-" {
        return Ok(value.into());
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).context("standard input")?;
    Ok(bytes.into())
}

/// A group that somebody waits for.
struct Group {
    clients: Clients,
    deadline: Instant,
    /// Who is asked, for people.
    whom: String,
    /// Nothing that was asked for changes anything.
    is_read: bool,
}

impl Group {
    fn get(&mut self, key: &str, old: Option<(usize, u64)>, json: bool) -> anyhow::Result<()> {
        let number = self.clients.read(Bytes::copy_from_slice(key.as_bytes()), old);
        let bytes = match self.outcome(number)? {
            Outcome::Found { bytes, .. } => bytes,
            Outcome::TooOld => bail!("the member is further behind than that"),
            other => unreachable!("a read has no such outcome: {other:?}"),
        };
        let found =
            Found::decode(&bytes).context("the group does not replicate keys and values")?;
        let Some(value) = found.value else { bail!("the key has no value") };
        let mut out = io::stdout().lock();
        if json {
            let value = String::from_utf8_lossy(&value);
            writeln!(out, "{}", serde_json::json!({ "value": value, "op": found.op }))?;
        } else {
            out.write_all(&value)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) -> anyhow::Result<Changed> {
        let result = self.execute(Kind::Operation, change.encode())?;
        match Changed::decode(&result).context("the group does not replicate keys and values")? {
            Changed::Malformed => bail!("the key is longer than {KEY_BYTES_MAX} bytes"),
            changed => Ok(changed),
        }
    }

    fn execute(&mut self, kind: Kind, body: Bytes) -> anyhow::Result<Bytes> {
        if body.len() > OPERATION_BYTES_MAX {
            bail!("key and value: {} bytes, of {OPERATION_BYTES_MAX} at most", body.len());
        }
        let number = self.clients.request(0, kind, body);
        match self.outcome(number)? {
            Outcome::Executed(result) => Ok(result),
            _ => {
                bail!("the group has forgotten this session: whether it was executed, nobody knows")
            }
        }
    }

    fn outcome(&mut self, number: u64) -> anyhow::Result<Outcome> {
        while Instant::now() < self.deadline {
            let done = self.clients.poll(self.deadline).context("the socket of the group")?;
            if let Some(done) = done.into_iter().find(|done| done.number == number) {
                return Ok(done.outcome);
            }
        }
        let more = if self.is_read { "" } else { "; what was asked for may still be done" };
        bail!("{} does not answer in time, or is called otherwise{more}", self.whom)
    }
}
