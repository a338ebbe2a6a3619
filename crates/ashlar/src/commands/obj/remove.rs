//! `ashlar obj rm`.

use super::{many::Jobs, pages::Objects, show, tree::directory_prefix};
use crate::client::{Call, Client};
use anyhow::{Context, bail, ensure};
use ashlar_object::Key;
use http::{HeaderMap, Method, StatusCode};
use std::io::{BufRead, IsTerminal, stderr, stdin};
use tokio::task::spawn_blocking;

/// Arguments of `ashlar obj rm`.
#[derive(clap::Args)]
#[command(
    override_usage = "ashlar obj rm [OPTIONS] KEY...\n       ashlar obj rm [OPTIONS] --recursive \
                      PREFIX",
    after_help = "Example:
  ashlar obj rm docs/readme docs/license
  ashlar obj rm --recursive 2026/photos --yes

With --recursive, PREFIX goes up to a slash (2026/photos does not touch 2026/photos-old), and the
empty prefix \"\" means everything."
)]
pub(super) struct Args {
    /// The objects' names; with --recursive, what the keys begin with, up to a slash
    #[arg(value_name = "KEY", required = true)]
    names: Vec<String>,
    /// Remove all objects under a prefix
    #[arg(long, short)]
    recursive: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    jobs: Jobs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: Args, client: Client) -> anyhow::Result<()> {
    let work = |key: Key| {
        let client = client.clone();
        async move { remove(&client, &key).await.with_context(|| key.to_string()) }
    };
    if !args.recursive {
        let keys =
            args.names.iter().map(|name| Key::new(name).with_context(|| format!("KEY {name:?}")));
        let mut keys = keys.collect::<anyhow::Result<Vec<_>>>()?.into_iter();
        let summary = args.jobs.run(async || Ok(keys.next()), work).await?;
        return summary.conclude("removed", args.json);
    }
    let [prefix] = &args.names[..] else { bail!("--recursive takes one PREFIX") };
    let prefix = directory_prefix(prefix);
    if !args.yes && !confirmed(&client, &prefix).await? {
        bail!("nothing was removed");
    }
    let mut objects = Objects::new(client.clone(), &prefix);
    let items = async || Ok(objects.next().await?.map(|object| object.key));
    args.jobs.run(items, work).await?.conclude("removed", args.json)
}

/// Asks whether everything under `prefix` may go.
async fn confirmed(client: &Client, prefix: &str) -> anyhow::Result<bool> {
    ensure!(
        stdin().is_terminal() && stderr().is_terminal(),
        "--recursive needs --yes where nobody can be asked"
    );
    let (mut count, mut bytes) = (0u64, 0u64);
    let mut objects = Objects::new(client.clone(), prefix);
    while let Some(object) = objects.next().await? {
        count += 1;
        bytes = bytes.saturating_add(object.size_bytes);
    }
    let (objects, size) = (show::objects(count), show::size(bytes));
    eprint!("Remove {objects}, {size}, under {prefix:?}? [y/N] ");
    let mut answer = String::new();
    let answer = spawn_blocking(move || stdin().lock().read_line(&mut answer).map(|_| answer));
    let answer = answer.await?.context("standard input")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn remove(client: &Client, key: &Key) -> anyhow::Result<u64> {
    let call = Call { method: Method::DELETE, target: key.to_path(), headers: HeaderMap::new() };
    let reply = client.send(&call).await?;
    match reply.status() {
        StatusCode::NO_CONTENT => reply.bytes(0).await.map(|_| 0),
        _ => Err(reply.into_error().await),
    }
}
