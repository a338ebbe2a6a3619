//! The examples of docs/object-api.md: every command of its console blocks is run, in order, on one
//! store, and has to print what the page says.
//!
//! A line that begins with `$ ` is a command, and those after it, up to the next one, are what it
//! prints. `…` stands for anything within a line.

use crate::harness::Store;
use std::process::Command;

/// The store's address on the page.
const ENDPOINT: &str = "http://127.0.0.1:8080";
/// Fewer examples than the page has: finding none must not pass.
const EXAMPLES_MIN: usize = 20;

struct Example {
    line: usize,
    command: String,
    output: String,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            let (line, output) = (index + 1, String::new());
            examples.push(Example { line, command: command.into(), output });
        } else if let (true, Some(example)) = (inside, examples.last_mut()) {
            example.output += line;
            example.output.push('\n');
        }
    }
    examples
}

/// Whether `line` is what `pattern` says.
fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            (0..=line.len())
                .filter(|at| line.is_char_boundary(*at))
                .any(|at| fits(rest, &line[at..]))
        }),
    }
}

#[test]
fn the_examples_of_the_page_print_what_it_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/object-api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let examples = examples(&page);
    assert!(examples.len() >= EXAMPLES_MIN, "{} examples", examples.len());
    let store = Store::start();
    for Example { line, command, output } in examples {
        let run = Command::new("sh")
            .args(["-c", &command.replace(ENDPOINT, &store.http)])
            .env("ASHLAR_ENDPOINT", &store.http)
            .env("PATH", path_with_binary())
            .current_dir(store.scratch())
            .output()
            .unwrap();
        let printed = [run.stdout, run.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).replace('\r', "");
        let printed = printed.replace(&store.http, ENDPOINT);
        let (expected, lines): (Vec<_>, Vec<_>) =
            (output.trim_end().lines().collect(), printed.trim_end().lines().collect());
        let is_right = expected.len() == lines.len()
            && expected.iter().zip(&lines).all(|(pattern, line)| fits(pattern, line));
        assert!(is_right, "line {line}: {command}\nexpected:\n{output}\nprinted:\n{printed}");
    }
}

/// Where `ashlar` is the binary under test.
fn path_with_binary() -> String {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_ashlar"));
    let directory = binary.parent().unwrap().display();
    format!("{directory}:{}", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn an_ellipsis_stands_for_anything_within_a_line() {
    for (pattern, line, fitting) in [
        ("abc", "abc", true),
        ("abc", "abd", false),
        ("a…c", "a very long c", true),
        ("a…c", "ac", true),
        ("a…c…", "abcd", true),
        ("…c", "abd", false),
    ] {
        assert_eq!(fits(pattern, line), fitting, "{pattern} {line}");
    }
}
