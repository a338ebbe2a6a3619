//! Two network namespaces joined by a cable, for one test.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{panic, thread};

/// The left namespace's end of the cable.
pub const LEFT_INTERFACE: &str = "left";

/// The right namespace's end of the cable.
pub const RIGHT_INTERFACE: &str = "right";

/// The left end's address, in a network of 24 bits.
pub const LEFT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// The right end's address.
pub const RIGHT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// One of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one with [`LEFT_INTERFACE`].
    Left,
    /// The one with [`RIGHT_INTERFACE`].
    Right,
}

/// Two network namespaces with loopback and a pair of virtual Ethernet interfaces between them, up, with addresses. Their names are
/// unique to this process and pair. Dropping the pair removes both, also when a test panics.
#[derive(Debug)]
pub struct NamespacePair {
    /// Tells this pair from others on the host.
    name: String,
}

impl NamespacePair {
    /// Makes the pair. Needs [`Feature::NetworkNamespaces`](crate::probe::Feature::NetworkNamespaces) and
    /// [`Feature::IpCommand`](crate::probe::Feature::IpCommand).
    ///
    /// # Panics
    ///
    /// If `ip` fails: the test cannot go on.
    pub fn create() -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        // From here on, what was made is removed, even if the rest fails.
        let pair = Self { name: format!("ashlar-test-{}-{number}", process::id()) };
        let (left, right) = (pair.namespace(Side::Left), pair.namespace(Side::Right));
        ip(&format!("netns add {left}"));
        ip(&format!("netns add {right}"));
        ip(&format!(
            "link add {LEFT_INTERFACE} netns {left} type veth peer name {RIGHT_INTERFACE} netns {right}"
        ));
        for (namespace, interface, address) in
            [(left, LEFT_INTERFACE, LEFT_ADDRESS), (right, RIGHT_INTERFACE, RIGHT_ADDRESS)]
        {
            // No link-local IPv6 address: its neighbour discovery would be stray traffic.
            ip(&format!("-n {namespace} link set dev {interface} addrgenmode none"));
            ip(&format!("-n {namespace} addr add {address}/24 dev {interface}"));
            ip(&format!("-n {namespace} link set dev lo up"));
            ip(&format!("-n {namespace} link set dev {interface} up"));
        }
        pair
    }

    /// The name of a side's namespace, as `ip netns` takes it.
    pub fn namespace(&self, side: Side) -> String {
        match side {
            Side::Left => format!("{}-left", self.name),
            Side::Right => format!("{}-right", self.name),
        }
    }

    /// Runs `work` on a thread of its own inside a side's namespace, and returns what it returns. What it opens (sockets, attached
    /// programs) stays in that namespace when it is used elsewhere.
    ///
    /// # Panics
    ///
    /// If `work` panics, with its message; or if the namespace cannot be entered.
    pub fn run<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(self.namespace(side));
        let enter_and_work = || {
            let namespace =
                File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("{}: cannot enter: {error}", path.display()));
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join())
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    }
}

impl Drop for NamespacePair {
    fn drop(&mut self) {
        for side in [Side::Left, Side::Right] {
            // Best effort: a pair that was made only in part lacks one, and a panic must not become an abort.
            let _ = ip_command(&format!("netns del {}", self.namespace(side)))
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn ip_command(arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null());
    command
}

fn ip(arguments: &str) {
    let output = ip_command(arguments).output().unwrap_or_else(|error| panic!("ip: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {}: {}", output.status, stderr.trim());
}
