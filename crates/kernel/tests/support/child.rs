//! Processes that attach programs and are killed.

use super::eventually;
use ashlar_kernel::testing::{NamespacePair, Side};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

/// Names, for the child process, the namespace to attach in.
const NAMESPACE: &str = "ASHLAR_TEST_CHILD_NAMESPACE";
/// Tells it which of its ways to attach it takes.
const WAY: &str = "ASHLAR_TEST_CHILD_WAY";
/// Tells it where it finds or leaves something; only some children need it.
const DIRECTORY: &str = "ASHLAR_TEST_CHILD_DIRECTORY";
const IS_READY: &str = "attached and waiting";
/// A child whose parent forgets it ends in the end.
const LIFETIME_MAX: Duration = Duration::from_secs(60);

/// In the child: attaches programs in the right namespace, and keeps them until killed.
pub(crate) fn attach_until_killed<Attached>(attach: impl FnOnce(usize) -> Attached) {
    let namespace = env::var_os(NAMESPACE).expect("set by the parent");
    let way = env::var(WAY).expect("set by the parent").parse().unwrap();
    let namespace = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let _attached = attach(way);
    println!("{IS_READY}");
    // There is nothing to wait for: it is killed.
    thread::sleep(LIFETIME_MAX);
}

/// In the child: the directory that [`start_with`] was given.
pub(crate) fn directory() -> PathBuf {
    env::var_os(DIRECTORY).expect("set by the parent").into()
}

/// Starts the ignored test of this name, which calls [`attach_until_killed`], and waits until programs are attached.
pub(crate) fn start(test: &str, pair: &NamespacePair, way: usize) -> Child {
    start_with(test, pair, way, Path::new(""))
}

/// The same, with a directory for the child.
pub(crate) fn start_with(test: &str, pair: &NamespacePair, way: usize, directory: &Path) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(NAMESPACE, pair.namespace(Side::Right))
        .env(WAY, way.to_string())
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap().contains(IS_READY));
    assert!(ready, "the child ended early: {:?}", child.wait());
    child
}

/// Kills it, and looks until none of its programs is attached.
pub(crate) fn kill(mut child: Child, attached: impl Fn() -> usize) {
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel closes a dead process's links in its own time.
    eventually("nothing is attached", || attached() == 0);
}
