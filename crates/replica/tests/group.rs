//! Groups of real threads and sockets on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_replica::{Beginning, Clients, GroupConfig, Node, NodeConfig, Outcome, Role};
use ashlar_vr::{
    Configuration, Kind, Options, View,
    kv::{Change, Changed, Found, KeyValue},
};
use bytes::Bytes;
use std::{
    net::{SocketAddr, UdpSocket},
    thread::sleep,
    time::{Duration, Instant},
};

const CLUSTER: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses that were free a moment ago.
fn addresses(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

fn node(members: &[SocketAddr], place: usize, groups: u32) -> Node {
    let configuration = Configuration::new(0, members.to_vec()).unwrap();
    start(members[place], groups, || Beginning::New(configuration.clone()))
}

fn start(address: SocketAddr, groups: u32, begin: impl Fn() -> Beginning) -> Node {
    let group = |group| GroupConfig {
        group,
        options: Options::default(),
        beginning: begin(),
        journal: None,
        offload: None,
        service: Box::new(KeyValue::default()),
    };
    let (groups, cpu) = ((1..=groups).map(group).collect(), None);
    let (cluster, datagram_bytes_max, offload) = (CLUSTER, 1_400, None);
    Node::start(NodeConfig { address, cluster, datagram_bytes_max, cpu, offload, groups }).unwrap()
}

fn clients(members: &[SocketAddr], group: u32, sessions: usize) -> Clients {
    Clients::new((CLUSTER, group), members.to_vec(), sessions, 1_400, 50_000).unwrap()
}

/// Waits for one thing.
fn outcome(clients: &mut Clients, number: u64) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let done = clients.poll(deadline).unwrap();
        if let Some(done) = done.into_iter().find(|done| done.number == number) {
            return done.outcome;
        }
    }
    panic!("{number} is not answered");
}

fn put(clients: &mut Clients, session: usize, key: &str, value: &[u8]) -> Changed {
    let change =
        Change::Put(Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::copy_from_slice(value)));
    let number = clients.request(session, Kind::Operation, change.encode());
    match outcome(clients, number) {
        Outcome::Executed(result) => Changed::decode(&result).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn get(clients: &mut Clients, key: &str) -> Option<Bytes> {
    let number = clients.read(Bytes::copy_from_slice(key.as_bytes()), None);
    match outcome(clients, number) {
        Outcome::Found { bytes, .. } => Found::decode(&bytes).unwrap().value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_of_every_size_keep_what_was_put_also_in_many_datagrams() {
    for count in [1, 3, 5, 7] {
        let members = addresses(count);
        let nodes: Vec<_> = (0..count).map(|place| node(&members, place, 1)).collect();
        let mut clients = clients(&members, 1, 1);
        assert_eq!(put(&mut clients, 0, "a", b"1"), Changed::Done(None));
        assert_eq!(get(&mut clients, "a"), Some(Bytes::from_static(b"1")));
        let large: Vec<u8> = (0..1_000_000).map(|at| (at % 251) as u8).collect();
        assert_eq!(put(&mut clients, 0, "b", &large), Changed::Done(None));
        assert_eq!(get(&mut clients, "b").unwrap(), large);
        assert_eq!(get(&mut clients, "c"), None);
        drop(nodes);
    }
}

#[test]
fn a_group_goes_on_without_its_leader() {
    let members = addresses(3);
    let mut nodes: Vec<_> = (0..3).map(|place| Some(node(&members, place, 1))).collect();
    let mut clients = clients(&members, 1, 1);
    put(&mut clients, 0, "a", b"1");
    let leads = |node: &Option<Node>| {
        node.as_ref().is_some_and(|node| node.groups()[0].1.role() == Role::Leader)
    };
    let leader = nodes.iter().position(leads).unwrap();
    nodes[leader] = None;
    let started = Instant::now();
    assert_eq!(put(&mut clients, 0, "a", b"2"), Changed::Done(Some(Bytes::from_static(b"1"))));
    println!("after {:?}", started.elapsed());
    assert_eq!(get(&mut clients, "a"), Some(Bytes::from_static(b"2")));
    assert!(nodes.iter().any(leads));
}

/// Waits until a replica takes part in an epoch.
fn wait_for_epoch(node: &Node, epoch: u32) {
    let deadline = Instant::now() + PATIENCE;
    let stats = &node.groups()[0].1;
    let takes_part = || {
        let view = View::from_bits(stats.view.load(std::sync::atomic::Ordering::Relaxed));
        view.epoch() == epoch && matches!(stats.role(), Role::Leader | Role::Backup)
    };
    while !takes_part() {
        assert!(Instant::now() < deadline, "{} is {:?}", node.address(), stats.role());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_go_on_when_all_members_are_replaced_one_by_one() {
    let addresses = addresses(6);
    let mut nodes: Vec<_> = (0..3).map(|place| Some(node(&addresses[..3], place, 1))).collect();
    let (mut writer, mut reader) = (clients(&addresses[..3], 1, 1), clients(&addresses[..3], 1, 0));
    let mut members = addresses[..3].to_vec();
    for place in 0..3 {
        put(&mut writer, 0, "a", &[place as u8]);
        nodes.push(Some(start(addresses[3 + place], 1, || Beginning::Join)));
        members[place] = addresses[3 + place];
        let names: Vec<String> = members.iter().map(ToString::to_string).collect();
        let number = writer.request(0, Kind::Reconfigure, names.join(" ").into());
        let done = outcome(&mut writer, number);
        assert!(matches!(&done, Outcome::Executed(result) if !result.is_empty()), "{done:?}");
        for node in nodes.iter().flatten().filter(|node| members.contains(&node.address())) {
            wait_for_epoch(node, place as u32 + 1);
        }
        for _ in 0..2 {
            put(&mut writer, 0, "a", &[place as u8]);
            assert_eq!(get(&mut reader, "a").unwrap(), &[place as u8][..]);
        }
        // The first one stays, and is no member any more.
        if place > 0 {
            nodes[place] = None;
        }
    }
    // Who knows nobody but a former member is told, also over several epochs.
    let mut late = clients(&addresses[..1], 1, 1);
    put(&mut late, 0, "b", b"late");
    nodes[0] = None;
    put(&mut late, 0, "b", b"later");
    put(&mut writer, 0, "a", b"the end");
    assert_eq!(get(&mut reader, "a").unwrap(), &b"the end"[..]);
    assert_eq!(get(&mut late, "b").unwrap(), &b"later"[..]);
}

#[test]
fn many_groups_share_a_socket() {
    const GROUPS: u32 = 50;
    let members = addresses(3);
    let nodes: Vec<_> = (0..3).map(|place| node(&members, place, GROUPS)).collect();
    for group in 1..=GROUPS {
        let mut clients = clients(&members, group, 1);
        assert_eq!(put(&mut clients, 0, "a", &group.to_le_bytes()), Changed::Done(None));
        assert_eq!(get(&mut clients, "a").unwrap(), &group.to_le_bytes()[..]);
    }
    let deadline = Instant::now() + PATIENCE;
    let executed = |node: &Node| {
        node.groups()
            .iter()
            .all(|(_, stats)| stats.executed.load(std::sync::atomic::Ordering::Relaxed) >= 2)
    };
    while !nodes.iter().all(executed) {
        assert!(Instant::now() < deadline, "backups execute, too");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn frames_of_another_cluster_and_garbage_change_nothing() {
    let members = addresses(1);
    let node = node(&members, 0, 1);
    let mut strangers = Clients::new((1, 1), members.clone(), 1, 1_400, 10_000).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&b""[..], b"x", &[0; 64], &[0xff; 1_400]] {
        stranger.send_to(bytes, members[0]).unwrap();
    }
    assert_eq!(strangers.poll(Instant::now() + Duration::from_millis(100)).unwrap(), []);
    let mut clients = clients(&members, 1, 1);
    put(&mut clients, 0, "a", b"1");
    let foreign = node.stats().foreign.load(std::sync::atomic::Ordering::Relaxed);
    assert!(foreign >= 5, "{foreign}");
}
