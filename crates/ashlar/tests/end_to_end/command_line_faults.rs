//! `ashlar obj` against a server that misbehaves on purpose.

use crate::harness::{PATIENCE, Process, ashlar, eventually, reason, tag};
use rustix::process::Signal;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;

/// Answers one request after the other with what a test prepared, and notes the requests.
struct Scripted {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

impl Scripted {
    /// A server that gives `answers` in turn, then closes every connection.
    fn answering(answers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, noted) = (answers.to_vec(), requests.clone());
        // Ends with the test process: nobody waits for it.
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming().map_while(Result::ok) {
                serve(&stream, &mut answers, &noted);
            }
        });
        Self { endpoint, requests, directory: TempDir::new().unwrap() }
    }

    fn obj(&self, args: &[&str]) -> Command {
        let mut command = ashlar(&["obj", "--endpoint", &self.endpoint]);
        command.args(args).current_dir(self.directory.path());
        command
    }

    /// Puts a file.
    fn put(&self) -> Output {
        fs::write(self.directory.path().join("file"), "abc").unwrap();
        self.obj(&["put", "a", "file"]).output().unwrap()
    }

    /// Gets into a file; what it holds afterwards.
    fn get(&self) -> (Output, Option<Vec<u8>>) {
        let output = self.obj(&["get", "a", "got"]).output().unwrap();
        let names: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(names.iter().all(|name| name == "got"), "left behind: {names:?}");
        (output, fs::read(self.directory.path().join("got")).ok())
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Instead of an answer: the connection ends.
const HANG_UP: &str = "";

/// Serves a connection until the client or the script ends it.
fn serve(
    stream: &TcpStream,
    answers: &mut impl Iterator<Item = String>,
    requests: &Mutex<Vec<String>>,
) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if !reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            return;
        }
        let request = line.clone();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.by_ref().take(length).read_to_end(&mut Vec::new()).unwrap();
        requests.lock().unwrap().push(request);
        let Some(answer) = answers.next() else { return };
        { stream }.write_all(answer.as_bytes()).unwrap();
        if answer == HANG_UP || answer.contains("Connection: close") {
            return;
        }
    }
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn unavailable() -> String {
    answer("503 Service Unavailable", "Retry-After: 0\r\n", "busy\n")
}

fn created() -> String {
    answer("201 Created", &format!("ETag: {}\r\nx-ashlar-version: 1\r\n", tag(b"abc")), "")
}

#[test]
fn what_was_certainly_not_done_is_tried_again() {
    let server = Scripted::answering(&[unavailable(), unavailable(), created()]);
    let output = server.put();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.requests(), 3);
}

#[test]
fn trying_again_has_an_end() {
    let server = Scripted::answering(&vec![unavailable(); 20]);
    assert_eq!(reason(&server.put()), "ashlar: a: busy (503)");
    assert_eq!(server.requests(), 11);
}

#[test]
fn a_write_whose_outcome_is_unknown_is_not_repeated() {
    let unknown = answer("504 Gateway Timeout", "", "it may or may not take effect\n");
    let server = Scripted::answering(&[unknown, created()]);
    assert_eq!(reason(&server.put()), "ashlar: a: it may or may not take effect (504)");
    assert_eq!(server.requests(), 1);

    // A connection that ends instead of an answer is as unknown.
    let server = Scripted::answering(&[]);
    assert!(reason(&server.put()).contains("may or may not have taken effect"));
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_store_that_has_other_bytes_than_were_sent_is_an_error() {
    let other = answer("201 Created", &format!("ETag: {}\r\n", tag(b"abd")), "");
    let server = Scripted::answering(&[other]);
    assert!(reason(&server.put()).contains(&tag(b"abc")));
}

#[test]
fn bytes_that_do_not_fit_their_tag_do_not_become_a_file() {
    let fields = format!("ETag: {}\r\n", tag(b"abc"));
    let server = Scripted::answering(&[answer("200 OK", &fields, "abd")]);
    let (output, file) = server.get();
    assert!(reason(&output).contains("do not fit the tag"), "{output:?}");
    assert_eq!(file, None);
}

#[test]
fn an_answer_that_breaks_off_does_not_become_a_file() {
    let broken = format!(
        "HTTP/1.1 200 OK\r\nETag: {}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab",
        tag(b"abc")
    );
    let server = Scripted::answering(&[broken]);
    let (output, file) = server.get();
    assert!(reason(&output).contains("broke off"), "{output:?}");
    assert_eq!(file, None);
}

#[test]
fn an_interrupted_get_leaves_nothing_behind() {
    let fields = format!("ETag: {}\r\nContent-Length: 3\r\n", tag(b"abc"));
    let server = Scripted::answering(&[format!("HTTP/1.1 200 OK\r\n{fields}\r\nab")]);
    let log = server.directory.path().join("log");
    let mut get = Process::start(&mut server.obj(&["get", "a", "got"]), &log);
    let files = || fs::read_dir(server.directory.path()).unwrap().count();
    eventually("a part of the file is there", || (files() == 2).then_some(()));
    get.signal(Signal::INT);
    assert!(!get.ended().success());
    assert_eq!(get.log(), "ashlar: interrupted\n");
    assert_eq!(files(), 1, "the log alone");
}

#[test]
fn a_read_on_a_connection_that_was_closed_meanwhile_is_repeated() {
    let page = r#"{"objects":[],"common_prefixes":["a"],"next_continuation_token":"61"}"#;
    let last = r#"{"objects":[],"common_prefixes":["b"]}"#;
    let page = answer("200 OK", "", page);
    let server = Scripted::answering(&[page.clone(), HANG_UP.into(), answer("200 OK", "", last)]);
    let output = server.obj(&["ls", "--all"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(server.requests(), 3);

    let server = Scripted::answering(&[page, HANG_UP.into(), HANG_UP.into(), HANG_UP.into()]);
    assert!(reason(&server.obj(&["ls", "--all"]).output().unwrap()).contains("cannot list"));
    assert_eq!(server.requests(), 3, "once more, not for ever");
}
