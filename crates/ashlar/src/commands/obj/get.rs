//! `ashlar obj get`.

use super::{
    many::Jobs,
    pages::Objects,
    show,
    sink::Target,
    stat::Description,
    tree::{directory_prefix, path_of},
};
use crate::client::{Call, Client, Reply};
use anyhow::{Context, anyhow, bail, ensure};
use ashlar_object::Key;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};

/// Arguments of `ashlar obj get`.
#[derive(clap::Args)]
#[command(
    override_usage = "ashlar obj get [OPTIONS] KEY [FILE|-]\n       ashlar obj get [OPTIONS] \
                      --recursive PREFIX DIR",
    after_help = "Example:
  ashlar obj get docs/readme readme.md
  ashlar obj get docs/readme --range 0-99
  ashlar obj get --recursive 2026/photos photos/

A file appears under its name only when it is whole and its MD5 is the object's entity tag."
)]
pub(super) struct Args {
    /// The object's name; with --recursive, what the keys begin with, up to a slash
    #[arg(value_name = "KEY")]
    first: String,
    /// The file to write [default: -, standard output]; with --recursive, the directory
    #[arg(value_name = "FILE")]
    second: Option<String>,
    /// Read all objects under a prefix into a directory
    #[arg(long, short, conflicts_with = "range")]
    recursive: bool,
    /// Read only these bytes: FIRST-LAST, FIRST- or -LENGTH
    #[arg(long, value_name = "RANGE", value_parser = byte_range, allow_hyphen_values = true)]
    range: Option<HeaderValue>,
    #[command(flatten)]
    jobs: Jobs,
    /// With --recursive: print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: Args, client: Client) -> anyhow::Result<()> {
    if args.recursive {
        return run_recursive(args, client).await;
    }
    let key = Key::new(&args.first).with_context(|| format!("KEY {:?}", args.first))?;
    let target = Target::named(args.second.as_deref().unwrap_or("-"));
    let got = get(&client, &key, &target, args.range, show::bytes_bar).await;
    got.map(|_| ()).with_context(|| key.to_string())
}

async fn run_recursive(args: Args, client: Client) -> anyhow::Result<()> {
    let Some(directory) = args.second.map(PathBuf::from) else {
        bail!("--recursive needs PREFIX and DIR")
    };
    let prefix = directory_prefix(&args.first);
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let mut objects = Objects::new(client.clone(), &prefix);
    let work = |key: Key| {
        let (client, prefix, directory) = (client.clone(), prefix.clone(), directory.clone());
        async move {
            let path = directory.join(path_of(&prefix, &key)?);
            make_parent(&path).with_context(|| key.to_string())?;
            let hidden = |_| ProgressBar::hidden();
            get(&client, &key, &Target::File(path), None, hidden)
                .await
                .with_context(|| key.to_string())
        }
    };
    let items = async || Ok(objects.next().await?.map(|object| object.key));
    args.jobs.run(items, work).await?.conclude("read", args.json)
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}

/// Reads an object, or a part of it, into `target`; the number of bytes.
async fn get(
    client: &Client,
    key: &Key,
    target: &Target,
    range: Option<HeaderValue>,
    bar: impl Fn(Option<u64>) -> ProgressBar,
) -> anyhow::Result<u64> {
    let mut headers = HeaderMap::new();
    let is_part = range.is_some();
    if let Some(range) = range {
        headers.insert(header::RANGE, range);
    }
    let call = Call { method: Method::GET, target: key.to_path(), headers };
    let mut reply = client.send(&call).await?;
    let expected = match reply.status() {
        StatusCode::OK if !is_part => Expected::whole(&reply)?,
        StatusCode::PARTIAL_CONTENT if is_part => Expected::part(&reply)?,
        StatusCode::OK => bail!("the store does not know this form of a range"),
        _ => return Err(reply.into_error().await),
    };
    let bar = bar(Some(expected.size_bytes));
    let mut sink = target.open(bar.clone())?;
    while let Some(piece) = reply.next().await? {
        if !sink.write(piece).await {
            break;
        }
    }
    let (got, pending) = sink.finish().await?;
    bar.finish_and_clear();
    let size_bytes = expected.size_bytes;
    ensure!(got.size_bytes == size_bytes, "{} of {size_bytes} bytes came", got.size_bytes);
    if let Some(etag) = expected.etag {
        ensure!(got.etag.to_string() == etag, "the bytes that came do not fit the tag {etag}");
    }
    pending.keep()?;
    Ok(size_bytes)
}

/// What a whole answer has to be.
struct Expected {
    size_bytes: u64,
    /// The MD5 of the bytes, if that is known.
    etag: Option<String>,
}

impl Expected {
    fn whole(reply: &Reply) -> anyhow::Result<Self> {
        let description = Description::of(reply)?;
        let is_hash = !description.is_computed();
        Ok(Self { size_bytes: description.size_bytes, etag: is_hash.then_some(description.etag) })
    }

    fn part(reply: &Reply) -> anyhow::Result<Self> {
        let field = reply.header(header::CONTENT_RANGE).context("Content-Range is missing")?;
        let size_bytes = part_bytes(field).ok_or_else(|| anyhow!("Content-Range: {field}"))?;
        Ok(Self { size_bytes, etag: None })
    }
}

/// The number of bytes that a Content-Range field names.
fn part_bytes(field: &str) -> Option<u64> {
    let (first, rest) = field.strip_prefix("bytes ")?.split_once('-')?;
    let (last, _size) = rest.split_once('/')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// Reads `FIRST-LAST`, `FIRST-` or `-LENGTH`.
fn byte_range(text: &str) -> Result<HeaderValue, String> {
    let form = || "it is not FIRST-LAST, FIRST- or -LENGTH, in bytes".to_string();
    let (first, last) = text.split_once('-').ok_or_else(form)?;
    let is_number = |text: &str| text.is_empty() || text.parse::<u64>().is_ok();
    if !is_number(first) || !is_number(last) || (first.is_empty() && last.is_empty()) {
        return Err(form());
    }
    if let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>())
        && first > last
    {
        return Err("the last byte is before the first".into());
    }
    format!("bytes={text}").parse().map_err(|_| form())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_range_is_checked_before_it_is_sent() {
        for good in ["0-99", "5-", "-5", "0-0"] {
            assert_eq!(byte_range(good).unwrap(), format!("bytes={good}"));
        }
        for bad in ["", "-", "5", "a-b", "1-2,3-4", "2-1", "--1"] {
            assert!(byte_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_length_of_a_part_is_read() {
        assert_eq!(part_bytes("bytes 0-99/1000"), Some(100));
        assert_eq!(part_bytes("bytes 5-5/*"), Some(1));
        for bad in ["", "bytes */5", "bytes 5-4/9", "lines 0-1/2"] {
            assert_eq!(part_bytes(bad), None, "{bad}");
        }
    }
}
