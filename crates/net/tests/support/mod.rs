//! A client and two servers on one switch, each a network namespace, and the bytes that they exchange. Server A is the front end: its
//! own address is the service address. Server B takes packets for it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

pub mod pattern;
pub mod stream;

use ashlar_kernel::probe::Feature;
use ashlar_net::repair::{self, Export, Frozen, Imported};
use ashlar_net::service_address::{self, ServiceRoute};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const REQUIREMENTS: [Feature; 5] = [
    Feature::Root,
    Feature::NetworkNamespaces,
    Feature::IpCommand,
    Feature::TcpRepair,
    Feature::IpTransparent,
];

/// Nothing that a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The one interface of a host.
pub const INTERFACE: &str = "e0";

/// The hardware address of no host.
pub const NOBODY: &str = "02:00:00:00:00:99";

const PORT: u16 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Client,
    A,
    B,
}

impl Host {
    pub const ALL: [Self; 3] = [Self::Client, Self::A, Self::B];

    fn number(self) -> u8 {
        match self {
            Self::Client => 2,
            Self::A => 3,
            Self::B => 4,
        }
    }

    pub fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }

    pub fn mac(self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number())
    }

    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 98, 0, self.number())
    }

    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, u16::from(self.number()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The hosts and the switch between them. Dropping it removes all, also when a test panics.
pub struct Network {
    name: String,
    family: Family,
    /// Of server B.
    service_route: Option<ServiceRoute>,
}

impl Network {
    /// The service address points at host A.
    pub fn create(family: Family) -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("ashlar-net-{}-{number}", process::id());
        let mut network = Self { name, family, service_route: None };
        let switch = network.switch();
        let mut lines = vec![format!("netns add {switch}")];
        lines.extend(Host::ALL.map(|host| format!("netns add {}", network.namespace(host))));
        ip(None, &lines);
        let mut lines = vec!["link add name br0 type bridge".to_owned()];
        lines.extend(Host::ALL.map(|host| {
            let (number, mac, namespace) = (host.number(), host.mac(), network.namespace(host));
            format!(
                "link add p{number} type veth peer name {INTERFACE} address {mac} netns {namespace}"
            )
        }));
        lines.extend(Host::ALL.map(|host| format!("link set p{} master br0 up", host.number())));
        lines.push("link set br0 up".to_owned());
        ip(Some(&switch), &lines);
        for host in Host::ALL {
            network.set_up(host);
            // The queues of a connection fit into an image, however late somebody reads.
            network.set_sysctl(host, "tcp_rmem", "4096 131072 400000");
        }
        network.service_route = Some(network.prepare(Host::B, network.service()));
        network
    }

    fn set_up(&self, host: Host) {
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("link set {INTERFACE} addrgenmode none up"),
            format!("addr add {}/24 dev {INTERFACE}", host.v4()),
            format!("addr add {}/64 dev {INTERFACE} nodad", host.v6()),
        ];
        for other in Host::ALL.into_iter().filter(|other| *other != host) {
            let mac = other.mac();
            for address in [IpAddr::from(other.v4()), other.v6().into()] {
                lines.push(format!(
                    "neigh replace {address} lladdr {mac} dev {INTERFACE} nud permanent"
                ));
            }
        }
        ip(Some(&self.namespace(host)), &lines);
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.number())
    }

    pub fn service_ip(&self) -> IpAddr {
        match self.family {
            Family::V4 => Host::A.v4().into(),
            Family::V6 => Host::A.v6().into(),
        }
    }

    pub fn service(&self) -> SocketAddr {
        (self.service_ip(), PORT).into()
    }

    /// `host` takes packets for `listener` until the guard is dropped.
    pub fn prepare(&self, host: Host, listener: SocketAddr) -> ServiceRoute {
        self.within(host, || service_address::prepare(listener)).unwrap()
    }

    /// Listens at the service address, which need not be one of the host's.
    pub fn listen(&self, host: Host) -> TcpListener {
        let listen = || -> io::Result<TcpListener> {
            let socket = Socket::new(Domain::for_address(self.service()), Type::STREAM, None)?;
            match self.family {
                Family::V4 => socket.set_ip_transparent_v4(true)?,
                Family::V6 => socket.set_ip_transparent_v6(true)?,
            }
            socket.set_reuse_address(true)?;
            socket.bind(&self.service().into())?;
            socket.listen(1)?;
            Ok(socket.into())
        };
        // Programs that another test starts hold a listener that was just closed for a moment longer.
        let mut listener = None;
        wait_until("the service can be listened at", || {
            listener = self.within(host, listen).ok();
            listener.is_some()
        });
        listener.unwrap()
    }

    /// The client's packets for the service address go to `host` from now on.
    pub fn point(&self, host: Host) {
        self.set_neighbour(Host::Client, self.service_ip(), &host.mac());
    }

    /// The packets of `host` for `address` go to `mac` from now on.
    pub fn set_neighbour(&self, host: Host, address: IpAddr, mac: &str) {
        let line = format!("neigh replace {address} lladdr {mac} dev {INTERFACE} nud permanent");
        ip(Some(&self.namespace(host)), &[line]);
    }

    pub fn client_ip(&self) -> IpAddr {
        match self.family {
            Family::V4 => Host::Client.v4().into(),
            Family::V6 => Host::Client.v6().into(),
        }
    }

    pub fn set_sysctl(&self, host: Host, name: &str, value: &str) {
        let path = format!("/proc/sys/net/ipv4/{name}");
        self.within(host, || fs::write(&path, value)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// A counter of the host's TCP, by its name in `/proc/net/snmp`.
    pub fn tcp_counter(&self, host: Host, name: &str) -> u64 {
        // Not /proc/net, which shows the namespace of the process's first thread.
        let text = self.within(host, || fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let position = names.split(' ').position(|each| each == name).unwrap();
        values.split(' ').nth(position).unwrap().parse().unwrap()
    }

    /// The states of the host's sockets of this service with a peer, in hexadecimal as in `/proc/net/tcp`.
    pub fn socket_states(&self, host: Host) -> Vec<String> {
        let file = match self.family {
            Family::V4 => "/proc/thread-self/net/tcp",
            Family::V6 => "/proc/thread-self/net/tcp6",
        };
        let text = self.within(host, || fs::read_to_string(file)).unwrap();
        let port = format!(":{PORT:04X}");
        let fields = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields
            .filter(|fields| fields[1].ends_with(&port) && fields[3] != "0A")
            .map(|fields| fields[3].to_owned())
            .collect()
    }

    /// A connection of the client with host A.
    pub fn connect(&self) -> (TcpStream, OwnedFd) {
        let listener = self.listen(Host::A);
        let client = self.within(Host::Client, || TcpStream::connect(self.service())).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        server.set_nodelay(true).unwrap();
        (client, server.into())
    }

    /// Runs `work` on a thread inside the host's namespace. What it opens stays there.
    pub fn within<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(host));
        let enter_and_work = || {
            let namespace = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join())
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    pub fn import(&self, host: Host, export: &Export) -> Imported {
        self.within(host, || repair::import(&export.tcp, export.peer_finished)).unwrap()
    }

    /// The way of a move from the export on: import at `host`, point, go, close the old socket.
    pub fn finish_move<S: AsFd>(&self, frozen: Frozen<S>, export: &Export, host: Host) -> OwnedFd {
        let imported = self.import(host, export);
        assert!(!frozen.receive_sequence_moved(&export.tcp).unwrap());
        self.point(host);
        let socket = imported.go().unwrap();
        frozen.close_silently();
        socket
    }

    /// What the command `ip` says in the host's namespace.
    pub fn ip(&self, host: Host, arguments: &str) -> String {
        let namespace = self.namespace(host);
        let arguments = ["-n", &namespace].into_iter().chain(arguments.split(' '));
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Sockets keep a namespace alive: those of the test's end with it.
        let names = Host::ALL.map(|host| self.namespace(host)).into_iter().chain([self.switch()]);
        for name in names {
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

/// Waits for a condition, looking every millisecond.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn ip(namespace: Option<&str>, lines: &[String]) {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip: {lines:?}: {}", stderr.trim());
}
