//! Hosts at a bridge, each in a network namespace of its own: a client, a front end, an owner of connections.
#![allow(
    unsafe_code,
    reason = "ethtool(8) is not everywhere, and its ioctl(2) has no safe wrapper"
)]

use super::steering::{CONTROL_IPV4, CONTROL_IPV6};
use ashlar_kernel::steering::MacAddress;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{panic, thread};

/// The bridge itself, on its host.
pub(crate) const BRIDGE: &str = "br0";

/// Every host's interface; at the bridge, the other end has the host's name.
pub(crate) const INTERFACE: &str = "eth0";

/// The front end has the service's addresses on its interface and answers for them; the owner has them where nobody asks.
pub(crate) const SERVICE_IPV4: Ipv4Addr = CONTROL_IPV4;
pub(crate) const SERVICE_IPV6: Ipv6Addr = CONTROL_IPV6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Bridge,
    Client,
    FrontEnd,
    Owner,
}

impl Host {
    const AT_BRIDGE: [Self; 3] = [Self::Client, Self::FrontEnd, Self::Owner];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Client => "client",
            Self::FrontEnd => "front",
            Self::Owner => "owner",
        }
    }

    /// The last part of the host's addresses.
    const fn number(self) -> u8 {
        match self {
            Self::Bridge => 1,
            Self::FrontEnd => 2,
            Self::Client => 9,
            Self::Owner => 21,
        }
    }

    pub(crate) const fn mac(self) -> MacAddress {
        MacAddress([2, 0, 0, 0, 1, self.number()])
    }

    pub(crate) const fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.number())
    }

    pub(crate) const fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, self.number() as u16)
    }

    pub(crate) fn address(self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { self.ipv6().into() } else { self.ipv4().into() }
    }
}

/// The hosts. Dropping it removes all of them, also when a test panics.
pub(crate) struct Network {
    name: String,
}

impl Network {
    pub(crate) fn create() -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        // From here on, what was made is removed, even if the rest fails.
        let network = Self { name: format!("ashlar-bridge-{}-{number}", process::id()) };
        let bridge = network.namespace(Host::Bridge);
        ip(&format!("netns add {bridge}"));
        ip(&format!("-n {bridge} link add {BRIDGE} type bridge"));
        ip(&format!("-n {bridge} link set {BRIDGE} up"));
        for host in Host::AT_BRIDGE {
            network.plug_in(host);
        }
        network.own_the_service();
        network
    }

    fn plug_in(&self, host: Host) {
        let (namespace, bridge) = (self.namespace(host), self.namespace(Host::Bridge));
        let (port, mac) = (host.name(), host.mac());
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!(
            "link add {INTERFACE} netns {namespace} address {mac} type veth peer name {port} netns {bridge}"
        ));
        ip(&format!("-n {bridge} link set {port} addrgenmode none master {BRIDGE} up"));
        ip(&format!("-n {namespace} link set {INTERFACE} addrgenmode none"));
        ip(&format!("-n {namespace} addr add {}/24 dev {INTERFACE}", host.ipv4()));
        ip(&format!("-n {namespace} addr add {}/64 dev {INTERFACE} nodad", host.ipv6()));
        // From which the owner asks where the client is: not in the service's name, which its interface does not have.
        ip(&format!("-n {namespace} addr add fe80::{}/64 dev {INTERFACE} nodad", host.number()));
        ip(&format!("-n {namespace} link set {INTERFACE} up"));
    }

    /// The owner has the service's addresses without telling.
    fn own_the_service(&self) {
        let namespace = self.namespace(Host::Owner);
        self.run(Host::Owner, || {
            // Answer for the addresses of the asked interface only, and ask in the name of those only: a client that is asked in the
            // service's name takes the owner for the service.
            fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1").unwrap();
            fs::write("/proc/sys/net/ipv4/conf/all/arp_announce", "2").unwrap();
        });
        ip(&format!("-n {namespace} addr add {SERVICE_IPV4}/32 dev lo"));
        ip(&format!("-n {namespace} addr add {SERVICE_IPV6}/128 dev lo nodad"));
    }

    pub(crate) fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.name())
    }

    /// Runs `work` on a thread of its own on a host, and returns what it returns.
    pub(crate) fn run<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(self.namespace(host));
        let enter_and_work = || {
            let namespace = File::open(&path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join())
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Gives the bridge itself an address of its own, so that it takes frames like another host.
    pub(crate) fn give_the_bridge_an_address(&self) {
        let (bridge, host) = (self.namespace(Host::Bridge), Host::Bridge);
        ip(&format!("-n {bridge} link set {BRIDGE} address {}", host.mac()));
        ip(&format!("-n {bridge} addr add {}/24 dev {BRIDGE}", host.ipv4()));
        ip(&format!("-n {bridge} addr add {}/64 dev {BRIDGE} nodad", host.ipv6()));
    }

    /// The port at which the bridge has learned that an Ethernet address is.
    pub(crate) fn learned_port(&self, mac: MacAddress) -> Option<String> {
        let bridge = self.namespace(Host::Bridge);
        let output = Command::new("bridge")
            .args(["-n", &bridge, "fdb", "show", "dynamic"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&mac.to_string()))?;
        Some(line.split(' ').nth(2).unwrap().to_owned())
    }

    /// Lets a host compute the checksums of what it sends, as it must where frames meet XDP: a virtual interface leaves them out.
    pub(crate) fn compute_checksums(&self, host: Host) {
        self.run(host, || set_transmit_checksums_of_the_interface(false));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in [Host::Bridge].into_iter().chain(Host::AT_BRIDGE) {
            // Best effort: a network that was made only in part lacks some.
            let _ = ip_command(&format!("netns del {}", self.namespace(host)))
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// `ethtool -K eth0 tx on|off`.
fn set_transmit_checksums_of_the_interface(offload: bool) {
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let mut value = [ETHTOOL_STXCSUM, u32::from(offload)];
    // SAFETY: integers and arrays of integers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // SAFETY: the kernel reads one `ifreq` and the two words that it points to, both of which live as long as the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn ip_command(arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null());
    command
}

fn ip(arguments: &str) {
    let output = ip_command(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {}", stderr.trim());
}
