//! `ashlar format`, and replicas that find no journal.

use crate::harness::{Process, ashlar, eventually, free_address, reason};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};
use tempfile::TempDir;

/// The only member of a group.
struct Member {
    directory: TempDir,
    file: PathBuf,
    address: SocketAddr,
}

impl Member {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("node.toml");
        let member = Self { directory, file, address: free_address() };
        member.configure(&format!("members = [\"{}\"]", member.address));
        member
    }

    fn configure(&self, beginning: &str) {
        let text = format!(
            "[cluster]\nid = \"test\"\n[node]\nname = \"n1\"\ndata = \"data\"\n[replication]\nlisten = \"{}\"\n\
             [[replication.group]]\nnumber = 7\nservice = \"kv\"\nmode = \"durable\"\n{beginning}\n",
            self.address
        );
        fs::write(&self.file, text).unwrap();
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("data/replication/7")
    }

    fn command(&self, command: &str) -> std::process::Command {
        ashlar(&[command, "--config", self.file.to_str().unwrap()])
    }

    fn format(&self) -> String {
        let output = self.command("format").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self) -> Process {
        Process::start(&mut self.command("node"), &self.directory.path().join("log"))
    }

    fn kv(&self, arguments: &[&str]) -> Output {
        let member = self.address.to_string();
        let group = ["kv", "--cluster", "test", "--group", "7", "--members", &member];
        ashlar(&group).args(arguments).output().unwrap()
    }

    fn refusal(&self) -> String {
        reason(&self.command("node").output().unwrap())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_replica_begins_from_a_journal_that_was_created_and_from_nothing_else() {
    let member = Member::new();
    let journal = member.journal();
    let missing = format!("replication.group 7: there is no journal in {}", journal.display());
    let refusal = member.refusal();
    assert!(refusal.contains(&missing) && refusal.contains("run `ashlar format`"), "{refusal}");
    assert!(!journal.exists());

    let created = format!("group 7: created {}, state new\n", journal.display());
    assert_eq!(member.format(), created);
    let (before, there) = (names(&journal), format!("group 7: {}", journal.display()));
    assert_eq!(member.format(), there.clone() + " is there, and left as it is\n");
    assert_eq!(names(&journal), before);

    let mut process = member.start();
    let put = eventually("the group takes a value", || {
        Some(member.kv(&["put", "colour", "blue"])).filter(|output| output.status.success())
    });
    assert!(put.stdout.is_empty());
    assert!(member.format().starts_with(&there), "also while it is in use");
    process.kill();

    let kept = journal.with_extension("kept");
    fs::rename(&journal, &kept).unwrap();
    let refusal = member.refusal();
    assert!(refusal.contains(&missing), "{refusal}");
    assert!(refusal.contains("if this member has lost its disk, replace it"), "{refusal}");
    fs::rename(&kept, &journal).unwrap();
    let _process = member.start();
    assert_eq!(member.kv(&["get", "colour"]).stdout, b"blue\n");
}

#[test]
fn a_journal_that_was_created_to_join_begins_no_group() {
    let member = Member::new();
    member.configure("state = \"join\"");
    assert!(member.format().ends_with(", state join\n"));
    member.configure(&format!("members = [\"{}\"]", member.address));
    let refusal = member.refusal();
    let expected = "replication.group 7.state: the journal was created with state = \"join\"";
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn a_replica_does_not_speak_with_the_promises_of_another_one() {
    let mut member = Member::new();
    member.format();
    let formatted = member.address;
    member.address = free_address();
    member.configure(&format!("members = [\"{}\"]", member.address));
    let refusal = member.refusal();
    let expected =
        format!("it is the journal of {formatted} in durable group 7 of cluster test, not of");
    assert!(refusal.contains(&expected), "{refusal}");
    assert!(member.format().contains("is there, and left as it is"));
}

#[test]
fn a_replica_does_not_speak_with_the_promises_of_another_mode() {
    for (from, to) in [("durable", "volatile"), ("volatile", "durable")] {
        let member = Member::new();
        let original = fs::read_to_string(&member.file).unwrap();
        let with_mode = |mode: &str| {
            fs::write(&member.file, original.replace("\"durable\"", &format!("\"{mode}\"")))
                .unwrap();
        };
        with_mode(from);
        member.format();
        with_mode(to);
        let refusal = member.refusal();
        let expected = format!("in {from} group 7 of cluster test, not of");
        assert!(refusal.contains(&expected), "{refusal}");
    }
}

#[test]
fn a_file_without_groups_has_nothing_to_format() {
    let member = Member::new();
    let text = fs::read_to_string(&member.file).unwrap();
    let (cluster, _) = text.split_once("[replication]").unwrap();
    let front_end =
        "[[cluster.storage]]\nname = \"s1\"\nhttp = \"127.0.0.1:1\"\npeer = \"127.0.0.1:2\"\n";
    let role = "[front_end]\nhttp = \"127.0.0.1:0\"\n";
    let cluster = cluster.replace("[node]", "replicas = 1\n[node]");
    fs::write(&member.file, format!("{cluster}{front_end}{role}")).unwrap();
    let refusal = reason(&member.command("format").output().unwrap());
    assert!(refusal.contains("replication: is missing"), "{refusal}");
}
