//! `ashlar obj put`.

use super::{
    many::Jobs,
    show,
    source::{Reading, Source},
    stat::VERSION,
    tree::{Tree, TreeFile, directory_prefix, key_of},
};
use crate::client::{Call, Client, Reply, Retries};
use anyhow::{Context, bail, ensure};
use ashlar_object::{ETag, Key};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use indicatif::ProgressBar;
use serde_json::json;
use std::{
    io::{IsTerminal, stdin},
    path::Path,
};
use tokio::time::sleep;

/// Arguments of `ashlar obj put`.
#[derive(clap::Args)]
#[command(
    override_usage = "ashlar obj put [OPTIONS] KEY [FILE|-]\n       ashlar obj put [OPTIONS] \
                      --recursive DIR PREFIX",
    after_help = "Example:
  ashlar obj put docs/readme README.md --content-type text/markdown --meta author=me
  pg_dump shop | ashlar obj put backups/shop.sql -
  ashlar obj put counter value --if-match 5d41402abc4b2a76b9719d911017c592
  ashlar obj put --recursive photos/ 2026/photos --jobs 16"
)]
pub(super) struct Args {
    /// The object's name; with --recursive, the directory to store
    #[arg(value_name = "KEY")]
    first: String,
    /// The file to store [default: -, standard input]; with --recursive, what keys begin with
    #[arg(value_name = "FILE")]
    second: Option<String>,
    /// Store all files of a directory
    #[arg(long, short)]
    recursive: bool,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    fields: Fields,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a PUT says besides its body.
#[derive(clap::Args)]
struct Fields {
    /// The media type that readers are told
    #[arg(long, value_name = "TYPE")]
    content_type: Option<HeaderValue>,
    /// Keep this with the object; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = user_metadata)]
    meta: Vec<(HeaderName, HeaderValue)>,
    /// Only replace the object that has this entity tag, or with * any object
    #[arg(long, value_name = "ETAG", value_parser = entity_tag)]
    if_match: Option<HeaderValue>,
    /// Only write if no object has this entity tag; with *, if there is no object
    #[arg(long, value_name = "ETAG", value_parser = entity_tag)]
    if_none_match: Option<HeaderValue>,
}

/// What was stored.
struct Stored {
    size_bytes: u64,
    etag: ETag,
    version: Option<u64>,
    created: bool,
}

/// Runs the command.
pub(super) async fn run(args: Args, client: Client) -> anyhow::Result<()> {
    if args.recursive {
        return run_recursive(args, client).await;
    }
    let key = Key::new(&args.first).with_context(|| format!("KEY {:?}", args.first))?;
    let source = args.second.as_deref().unwrap_or("-");
    if source == "-" && stdin().is_terminal() {
        eprintln!("Reading from the terminal; Ctrl-D ends the object.");
    }
    let source = Source::named(source).await?;
    let bar = show::bytes_bar(source.size_bytes()?);
    let stored = put(&client, &key, &source, &args.fields.headers(), &bar).await;
    bar.finish_and_clear();
    let stored = stored.with_context(|| key.to_string())?;
    let Stored { size_bytes, etag, version, created } = stored;
    if args.json {
        return show::line(json!({
            "key": key, "size_bytes": size_bytes, "etag": etag.to_string(), "version": version,
            "created": created,
        }));
    }
    let done = if created { "created" } else { "replaced" };
    show::line(format_args!("{done} {key}, {}", show::size(size_bytes)))
}

async fn run_recursive(args: Args, client: Client) -> anyhow::Result<()> {
    let Some(prefix) = &args.second else { bail!("--recursive needs DIR and PREFIX") };
    let prefix = directory_prefix(prefix);
    let mut tree = Tree::open(Path::new(&args.first))?;
    let headers = args.fields.headers();
    let work = |file: anyhow::Result<TreeFile>| {
        let (client, headers, prefix) = (client.clone(), headers.clone(), prefix.clone());
        async move {
            let file = file?;
            let name = || file.path.display().to_string();
            let key = key_of(&prefix, &file.relative).with_context(name)?;
            let source = Source::File(file.path.clone());
            let stored = put(&client, &key, &source, &headers, &ProgressBar::hidden()).await;
            Ok(stored.with_context(name)?.size_bytes)
        }
    };
    let summary = args.jobs.run(async || Ok(tree.next()), work).await?;
    summary.conclude("stored", args.json)
}

/// Stores `source` as `key`, and checks that the store has got what was read.
async fn put(
    client: &Client,
    key: &Key,
    source: &Source,
    headers: &HeaderMap,
    bar: &ProgressBar,
) -> anyhow::Result<Stored> {
    let call = Call { method: Method::PUT, target: key.to_path(), headers: headers.clone() };
    let mut retries = Retries::new();
    loop {
        let Reading { body, summary } = source.read(bar.clone())?;
        let reply = client.send_once(&call, body).await?;
        match retries.pause_after(&reply) {
            Some(pause) if source.is_repeatable() => {
                drop(reply);
                sleep(pause).await;
                bar.reset();
            }
            Some(_) => {
                let error = reply.into_error().await;
                return Err(error.context("not repeated, because the input cannot be read twice"));
            }
            None => {
                let reply = accepted(reply).await?;
                let summary = summary.await.context("the reader ended early")?;
                let summary = summary.context("the store answered before it had read all")?;
                return Stored::check(reply, summary.size_bytes, summary.etag).await;
            }
        }
    }
}

/// The reply, if it says that the write was done.
async fn accepted(reply: Reply) -> anyhow::Result<Reply> {
    match reply.status() {
        StatusCode::OK | StatusCode::CREATED => Ok(reply),
        _ => Err(reply.into_error().await),
    }
}

impl Stored {
    async fn check(reply: Reply, size_bytes: u64, etag: ETag) -> anyhow::Result<Self> {
        let named = reply.header(header::ETAG).map(str::to_string);
        let version = reply.header(VERSION).and_then(|version| version.parse().ok());
        let created = reply.status() == StatusCode::CREATED;
        // Reading the empty body to its end keeps the connection.
        reply.bytes(0).await?;
        ensure!(
            named.as_ref().and_then(|named| named.parse().ok()) == Some(etag),
            "the store says that it holds {}, but {etag} was sent",
            named.as_deref().unwrap_or("nothing"),
        );
        Ok(Self { size_bytes, etag, version, created })
    }
}

impl Fields {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::CONTENT_TYPE, &self.content_type),
            (header::IF_MATCH, &self.if_match),
            (header::IF_NONE_MATCH, &self.if_none_match),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in &self.meta {
            headers.append(name, value.clone());
        }
        headers
    }
}

/// Reads `NAME=VALUE`.
fn user_metadata(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    let name = format!("x-amz-meta-{name}").parse().map_err(|_| "the name is not a token")?;
    let value = value.parse().map_err(|_| "the value is not printable ASCII")?;
    Ok((name, value))
}

/// Reads an entity tag; quotes may be left out.
fn entity_tag(text: &str) -> Result<HeaderValue, String> {
    let quoted = text == "*" || text.ends_with('"');
    let text = if quoted { text.to_string() } else { format!("\"{text}\"") };
    text.parse().map_err(|_| "an entity tag is printable ASCII".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn metadata_is_a_name_and_a_value() {
        let (name, value) = user_metadata("Author=me=you").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-amz-meta-author", "me=you"));
        for bad in ["author", "=me", "a b=c", "a=\n"] {
            assert!(user_metadata(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entity_tag_may_come_without_its_quotes() {
        for (text, tag) in
            [("*", "*"), ("ab", "\"ab\""), ("\"ab\"", "\"ab\""), ("W/\"a\"", "W/\"a\"")]
        {
            assert_eq!(entity_tag(text).unwrap(), tag);
        }
    }
}
