//! A host takes packets for the service address without claiming it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::testing::ledger;
use ashlar_net::service_address::prepare_service_address;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use support::{Family, Host, INTERFACE, Network, REQUIREMENTS};

fn arp_settings() -> [String; 2] {
    ["arp_ignore", "arp_announce"].map(|name| {
        fs::read_to_string(format!("/proc/sys/net/ipv4/conf/all/{name}")).unwrap().trim().to_owned()
    })
}

#[test]
fn a_service_address_comes_once_and_goes_with_whoever_added_it() {
    if !ledger("a_service_address_comes_once_and_goes_with_whoever_added_it", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let address_of_lo = |address| network.interface_of(Host::Client, address);
    for address in ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()] {
        assert_eq!(address_of_lo(address), None);
        let prepare = || network.within(Host::Client, || prepare_service_address(address)).unwrap();
        let first = prepare();
        assert!(first.was_added());
        assert_eq!(address_of_lo(address), Some(("lo".to_owned(), [0; 6])));
        let second = prepare();
        assert!(!second.was_added());
        drop(second);
        assert!(address_of_lo(address).is_some());
        drop(first);
        assert_eq!(address_of_lo(address), None);
    }
    assert_eq!(network.within(Host::Client, arp_settings), ["1", "2"]);
}

#[test]
fn a_host_that_claims_the_address_is_left_alone() {
    if !ledger("a_host_that_claims_the_address_is_left_alone", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let own: IpAddr = Host::Client.v4().into();
    let prepared = network.within(Host::Client, || prepare_service_address(own)).unwrap();
    assert!(!prepared.was_added());
    drop(prepared);
    let mac = [2, 0, 0, 0, 0, 2];
    assert_eq!(network.interface_of(Host::Client, own), Some((INTERFACE.to_owned(), mac)));
    assert_eq!(network.within(Host::Client, arp_settings), ["0", "0"]);
}

/// With the neighbours' entries of the test network gone, the client asks: nobody may answer.
#[test]
fn no_storage_node_answers_for_the_service_address() {
    if !ledger("no_storage_node_answers_for_the_service_address", &REQUIREMENTS) {
        return;
    }
    let network = Network::create(Family::V4);
    let client = network.namespace(Host::Client);
    let ip = |arguments: &str| {
        let arguments = ["-n", &client].into_iter().chain(arguments.split(' '));
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for address in [network.service_ip(), Host::A.v4().into()] {
        ip(&format!("neigh del {address} dev {INTERFACE}"));
        network.within(Host::Client, || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"anybody?", (address, 9)).unwrap();
        });
    }
    let entry = |address: IpAddr| ip(&format!("neigh show {address}"));
    // Host A answers for its own address, so that silence about the other one means something.
    support::wait_until("the host's own address is answered for", || {
        entry(Host::A.v4().into()).contains(&Host::A.mac())
    });
    assert!(!entry(network.service_ip()).contains("lladdr"), "{}", entry(network.service_ip()));
}
