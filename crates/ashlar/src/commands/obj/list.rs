//! `ashlar obj ls`.

use super::{pages::Pages, show};
use crate::client::Client;
use ashlar_object::list::{Listed, Page};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// Arguments of `ashlar obj ls`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ashlar obj ls --delimiter / docs/
  ashlar obj ls --all --json logs/2026- | jq -r .key")]
pub(super) struct Args {
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// Show keys that go on after this as one line, like a directory
    #[arg(long, value_name = "TEXT")]
    delimiter: Option<String>,
    /// Print a line of JSON for each object or common prefix
    #[arg(long)]
    json: bool,
    /// List everything, not only the first page
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub(super) async fn run(args: Args, client: Client) -> anyhow::Result<()> {
    let mut pages = Pages::new(client, &args.prefix, args.delimiter);
    while let Some(page) = pages.next().await? {
        let next = page.next.clone();
        for item in items(page) {
            let line = if args.json { item.json() } else { item.text() };
            show::line(line)?;
        }
        match next {
            Some(next) if !args.all && args.json => {
                return show::line(json!({"next_continuation_token": next}));
            }
            Some(_) if !args.all => {
                eprintln!("There is more: --all lists everything.");
                return Ok(());
            }
            _ => {}
        }
    }
    Ok(())
}

enum Item {
    Object(Listed),
    CommonPrefix(String),
}

/// What is on a page, in order.
fn items(page: Page) -> Vec<Item> {
    let mut items: Vec<_> = page.objects.into_iter().map(Item::Object).collect();
    items.extend(page.common_prefixes.into_iter().map(Item::CommonPrefix));
    items.sort_by(|a, b| a.name().cmp(b.name()));
    items
}

impl Item {
    fn name(&self) -> &str {
        match self {
            Self::Object(object) => object.key.as_str(),
            Self::CommonPrefix(prefix) => prefix,
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Object(object) => {
                let mut value = json!(object);
                value["modified"] = json!(show::rfc3339(modified(object)));
                value.to_string()
            }
            Self::CommonPrefix(prefix) => json!({"common_prefix": prefix}).to_string(),
        }
    }

    fn text(&self) -> String {
        let (time, size) = match self {
            Self::Object(object) => (show::time(modified(object)), show::size(object.size_bytes)),
            Self::CommonPrefix(_) => (String::new(), String::new()),
        };
        // A key may hold what would end the line or drive the terminal.
        let name: String = self.name().chars().map(printable).collect();
        format!("{time:<23}  {size:>10}  {name}")
    }
}

fn printable(character: char) -> char {
    if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
}

fn modified(object: &Listed) -> SystemTime {
    let since = Duration::from_millis(object.modified_ms);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::{ETag, Key, Version};

    fn object(key: &str) -> Listed {
        Listed {
            key: Key::new(key).unwrap(),
            size_bytes: 1536,
            etag: ETag([0; 16]),
            modified_ms: 784_111_777_000,
            version: Version(1),
        }
    }

    #[test]
    fn objects_and_prefixes_come_in_one_order() {
        let page = Page {
            objects: vec![object("a"), object("c")],
            common_prefixes: vec!["b/".into()],
            next: None,
        };
        let names: Vec<_> = items(page).iter().map(|item| item.name().to_string()).collect();
        assert_eq!(names, ["a", "b/", "c"]);
    }

    #[test]
    fn a_line_is_one_line() {
        let text = Item::Object(object("a\n\u{1b}[2J")).text();
        assert_eq!(text, "1994-11-06 08:49:37 UTC    1.50 KiB  a\u{fffd}\u{fffd}[2J");
    }
}
