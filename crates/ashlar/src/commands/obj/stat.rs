//! `ashlar obj stat`, and what an answer's header says of an object.

use super::show;
use crate::client::{Call, Client, Reply};
use anyhow::Context;
use ashlar_object::Key;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};

/// The version of an object within its partition.
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-ashlar-version");
/// What names of user metadata begin with.
const USER_PREFIX: &str = "x-amz-meta-";

/// Arguments of `ashlar obj stat`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar obj stat docs/readme
  ashlar obj stat docs/readme --json | jq -r .etag")]
pub(super) struct Args {
    /// The object's name
    #[arg(value_name = "KEY", value_parser = Key::new)]
    key: Key,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a header says of an object.
#[derive(Debug, Serialize)]
pub(super) struct Description {
    /// Length of the whole object.
    pub(super) size_bytes: u64,
    /// Entity tag, with quotes.
    pub(super) etag: String,
    /// Media type.
    content_type: Option<String>,
    /// When it was written, as in RFC 3339.
    modified: Option<String>,
    /// Its version within its partition.
    version: Option<u64>,
    /// User metadata: names without the prefix.
    metadata: BTreeMap<String, String>,
}

/// Runs the command.
pub(super) async fn run(args: Args, client: Client) -> anyhow::Result<()> {
    let Args { key, json } = args;
    let (description, modified) = describe(&client, &key).await.with_context(|| key.to_string())?;
    if json {
        let mut object = serde_json::to_value(&description)?;
        object["key"] = serde_json::to_value(&key)?;
        return show::line(object);
    }
    let Description { size_bytes, etag, content_type, version, metadata, .. } = description;
    show::line(format_args!("key       {key}"))?;
    show::line(format_args!("size      {size_bytes} bytes ({})", show::size(size_bytes)))?;
    for (name, value) in [
        ("type", content_type),
        ("modified", modified.map(show::time)),
        ("version", version.map(|version| version.to_string())),
        ("etag", Some(etag)),
    ] {
        if let Some(value) = value {
            show::line(format_args!("{name:<8}  {value}"))?;
        }
    }
    for (name, value) in metadata {
        show::line(format_args!("metadata  {name}={value}"))?;
    }
    Ok(())
}

async fn describe(client: &Client, key: &Key) -> anyhow::Result<(Description, Option<SystemTime>)> {
    let call = Call { method: Method::HEAD, target: key.to_path(), headers: HeaderMap::new() };
    let reply = client.send(&call).await?;
    match reply.status() {
        StatusCode::OK => Ok((Description::of(&reply)?, modified(&reply))),
        // The answer to a HEAD has no room for an explanation.
        StatusCode::NOT_FOUND => anyhow::bail!("no such object (404)"),
        _ => Err(reply.into_error().await),
    }
}

impl Description {
    /// Reads the header of a whole object.
    ///
    /// # Errors
    /// When a field that every object has is missing.
    pub(super) fn of(reply: &Reply) -> anyhow::Result<Self> {
        let field = |name: HeaderName| reply.header(name).map(str::to_string);
        let size = field(header::CONTENT_LENGTH).context("Content-Length is missing")?;
        let metadata = reply.headers().iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(USER_PREFIX)?;
            Some((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        Ok(Self {
            size_bytes: size.parse().with_context(|| format!("Content-Length: {size}"))?,
            etag: field(header::ETAG).context("ETag is missing")?,
            content_type: field(header::CONTENT_TYPE),
            modified: modified(reply).map(show::rfc3339),
            version: field(VERSION).and_then(|version| version.parse().ok()),
            metadata: metadata.collect(),
        })
    }

    /// Whether the object was never written but is computed, for benchmarks: its tag is no hash.
    pub(super) fn is_computed(&self) -> bool {
        self.version == Some(0)
    }
}

fn modified(reply: &Reply) -> Option<SystemTime> {
    httpdate::parse_http_date(reply.header(header::LAST_MODIFIED)?).ok()
}
