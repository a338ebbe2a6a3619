//! `ashlar obj` against a store.

use crate::harness::{Store, ashlar, content, reason, tag};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

impl Store {
    /// `ashlar obj` with `args`, for this store.
    pub(crate) fn obj(&self, args: &[&str]) -> Command {
        let mut command = ashlar(&["obj"]);
        command.args(args).env("ASHLAR_ENDPOINT", &self.http).current_dir(self.scratch());
        command
    }

    /// What `ashlar obj` prints when it succeeds.
    pub(crate) fn prints(&self, args: &[&str]) -> String {
        succeeded(&self.obj(args).output().unwrap())
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of JSON that `ashlar obj` prints.
fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn piped(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_file_goes_there_and_comes_back() {
    let store = Store::start();
    let bytes = content(20, 3_000_000);
    store.file("photo.jpg", &bytes);
    let fields = ["--content-type", "image/jpeg", "--meta", "camera=old", "--meta", "iso=100"];
    let printed = store.prints(&[&["put", "photos/1", "photo.jpg"], &fields[..]].concat());
    assert_eq!(printed, "created photos/1, 2.86 MiB\n");
    let printed = store.prints(&["put", "photos/1", "photo.jpg", "--json", fields[0], fields[1]]);
    let put = &json(&printed)[0];
    assert_eq!((&put["created"], &put["size_bytes"]), (&false.into(), &3_000_000.into()));

    assert_eq!(store.prints(&["get", "photos/1", "back.jpg"]), "");
    assert!(fs::read(store.scratch().join("back.jpg")).unwrap() == bytes);
    let got = store.obj(&["get", "photos/1"]).output().unwrap();
    assert!(got.status.success() && got.stdout == bytes);
    let part = store.obj(&["get", "photos/1", "-", "--range", "10-19"]).output().unwrap();
    assert!(part.status.success() && part.stdout == bytes[10..20]);
    let end = store.obj(&["get", "photos/1", "-", "--range", "-5"]).output().unwrap();
    assert!(end.status.success() && end.stdout == bytes[bytes.len() - 5..]);
}

#[test]
fn keys_are_any_text() {
    let store = Store::start();
    let longest = "é".repeat(512);
    for key in ["/", "//a", "a/../b", ".", "a b?c#d%2F&e=+", "é/ü\n", &longest] {
        succeeded(&piped(store.obj(&["put", key, "-"]), key.as_bytes()));
        let got = store.obj(&["get", key]).output().unwrap();
        assert_eq!(String::from_utf8(got.stdout).unwrap(), key);
        let listed = json(&store.prints(&["ls", "--json", key]));
        assert!(listed.iter().any(|line| line["key"] == key), "{key:?}: {listed:?}");
        store.prints(&["rm", key]);
    }
    assert_eq!(store.prints(&["ls", "--all"]), "");
}

#[test]
fn standard_input_of_any_length_is_stored() {
    let store = Store::start();
    for size in [0, 1, 2_000_000] {
        let bytes = content(21, size);
        succeeded(&piped(store.obj(&["put", "piped", "-"]), &bytes));
        let got = store.obj(&["get", "piped", "-"]).output().unwrap();
        assert!(got.status.success() && got.stdout == bytes, "{size}");
    }
}

#[test]
fn an_object_is_described_for_people_and_for_machines() {
    let store = Store::start();
    store.file("file", b"abc");
    store.prints(&["put", "a/b", "file", "--content-type", "text/plain", "--meta", "x=y"]);
    let text = store.prints(&["stat", "a/b"]);
    for line in
        ["key       a/b", "size      3 bytes (3 B)", "type      text/plain", "metadata  x=y"]
    {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
    assert!(text.contains(" UTC\n") && text.contains(&tag(b"abc")), "{text}");
    let head = &json(&store.prints(&["head", "a/b", "--json"]))[0];
    assert_eq!(head["key"], "a/b");
    assert_eq!((&head["size_bytes"], &head["etag"]), (&3.into(), &tag(b"abc").into()));
    assert_eq!(
        (&head["content_type"], &head["metadata"]["x"]),
        (&"text/plain".into(), &"y".into())
    );
    assert!(head["modified"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn conditions_protect_from_lost_updates() {
    let store = Store::start();
    store.file("one", b"1");
    store.file("two", b"2");
    let put = |args: &[&str]| store.obj(&[&["put", "n"], args].concat()).output().unwrap();
    assert!(put(&["one", "--if-none-match", "*"]).status.success());
    assert!(reason(&put(&["two", "--if-none-match", "*"])).contains("(412)"));
    assert!(reason(&put(&["two", "--if-match", "\"x\""])).contains("(412)"));
    let etag = tag(b"1");
    assert!(put(&["two", "--if-match", etag.trim_matches('"')]).status.success());
    assert_eq!(store.curl("/n").run().text(), "2");
}

#[test]
fn a_tree_goes_there_and_comes_back() {
    let store = Store::start();
    let files: Vec<_> = (0..40)
        .map(|number| (format!("tree/d{}/é {number}", number % 7), content(number, 3000)))
        .chain([("tree/top".into(), Vec::new()), ("tree/large".into(), content(22, 200_000))])
        .collect();
    for (name, bytes) in &files {
        store.file(name, bytes);
    }
    let printed = store.prints(&["put", "--recursive", "tree", "backup/2026", "--json"]);
    let expected = files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert_eq!(json(&printed)[0]["objects"], files.len());
    assert_eq!(json(&printed)[0]["bytes"], expected);
    // Not below the directory that the prefix names.
    store.curl("/backup/2026-old").put("old").run();

    let printed = store.prints(&["get", "-r", "backup/2026", "back", "--jobs", "3"]);
    assert!(printed.starts_with("read 42 objects, "), "{printed}");
    for (name, bytes) in &files {
        let back = store.scratch().join(name.replacen("tree", "back", 1));
        assert!(&fs::read(&back).unwrap() == bytes, "{name}");
    }
    assert!(!Path::new(&store.scratch().join("back-old")).exists());

    let refused = store.obj(&["rm", "-r", "backup/2026"]).output().unwrap();
    assert!(reason(&refused).contains("--yes"));
    assert_eq!(store.prints(&["rm", "-r", "backup/2026", "--yes"]), "removed 42 objects\n");
    assert_eq!(json(&store.prints(&["ls", "--json"]))[0]["key"], "backup/2026-old");
}

#[test]
fn what_fails_in_a_tree_is_listed_and_the_rest_is_done() {
    let store = Store::start();
    store.file("tree/good", b"x");
    std::os::unix::fs::symlink("/nonexistent", store.scratch().join("tree/dangling")).unwrap();
    let put = store.obj(&["put", "-r", "tree", "t"]).output().unwrap();
    assert_eq!(reason(&put), "ashlar: 1 of 2 failed");
    assert!(String::from_utf8_lossy(&put.stderr).contains("tree/dangling: No such file"));
    assert_eq!(store.curl("/t/good").run().text(), "x");

    // A key that leads out of the directory, and two keys of which one is the other's directory.
    store.curl("/t/../../escaped").put("x").run();
    store.curl("/t/good/deeper").put("x").run();
    let get = store.obj(&["get", "-r", "t", "into/deep/dir", "--jobs", "1"]).output().unwrap();
    assert_eq!(reason(&get), "ashlar: 2 of 3 failed");
    let listed = String::from_utf8_lossy(&get.stderr).into_owned();
    assert!(listed.contains("cannot be the path of a file"), "{listed}");
    assert!(!store.scratch().join("into/escaped").exists());
    assert_eq!(fs::read(store.scratch().join("into/deep/dir/good")).unwrap(), b"x");
}

#[test]
fn listings_are_readable_and_complete() {
    let store = Store::start();
    for number in 0..1005 {
        // As fast as can be: the number is what matters.
        if number == 0 {
            fs::create_dir_all(store.scratch().join("many/sub")).unwrap();
        }
        store.file(&format!("many/sub/{number:04}"), b"x");
    }
    store.file("many/other", b"abc");
    store.prints(&["put", "-r", "many", "", "--jobs", "16"]);

    let text = store.prints(&["ls", "--delimiter", "/"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains(" UTC         3 B  other"), "{text}");
    assert_eq!(lines[1].trim(), "sub/");

    let first = store.obj(&["ls", "sub/"]).output().unwrap();
    assert_eq!(succeeded(&first).lines().count(), 1000);
    assert!(String::from_utf8_lossy(&first.stderr).contains("--all"));
    let all = json(&store.prints(&["ls", "--all", "--json"]));
    assert_eq!(
        (all.len(), &all[0]["key"], &all[1005]["key"]),
        (1006, &"other".into(), &"sub/1004".into(),)
    );
    // A reader that has seen enough is no error.
    let mut head = store.obj(&["ls", "--all"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(head.stdout.take());
    assert!(head.wait().unwrap().success());
}

#[test]
fn errors_are_one_line_that_names_what_is_wrong() {
    let store = Store::start();
    store.file("file", b"abc");
    store.curl("/a").put("abc").run();
    for (args, words) in [
        (&["get", "missing", "out"][..], &["missing", "no such object", "404"][..]),
        (&["stat", "missing"], &["missing", "no such object", "404"]),
        (&["rm", "missing"], &["1 of 1 failed"]),
        (&["get", "a", "-", "--range", "5-"], &["a: ", "416"]),
        (&["get", "a", "/nonexistent/dir/file"], &["/nonexistent/dir/file", "No such file"]),
        (&["get", "a", "."], &["is a directory"]),
        (&["put", "a", "nothing"], &["nothing", "No such file"]),
        (&["put", "a", "."], &["is a directory", "--recursive"]),
        (&["put", "", "file"], &["KEY", "empty"]),
        (&["put", "-r", "nothing", "p"], &["nothing", "No such file"]),
        (&["ls", "--endpoint", "http://127.0.0.1:1"], &["127.0.0.1:1", "refused"]),
        (&["ls", "--endpoint", "127.0.0.1"], &["--endpoint", "http://"]),
    ] {
        let output = store.obj(args).output().unwrap();
        let reason = reason(&output);
        assert!(reason.starts_with("ashlar: ") && output.stdout.is_empty(), "{args:?}: {output:?}");
        for word in words {
            assert!(reason.contains(word), "{args:?}: {reason}");
        }
    }
    assert_eq!(fs::read_dir(store.scratch()).unwrap().count(), 1, "no file was left behind");
    for args in [
        &["put", "a", "file", "--meta", "x"][..],
        &["put", "-r", "tree", "p", "--jobs", "0"],
        &["get", "a", "--range", "x"],
        &["rm"],
    ] {
        let output = store.obj(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}
