//! Steering is attached as long as its owner lives, and never in another's place.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::Error;
use ashlar_kernel::chaos::{Attachment, Chaos, XdpMode};
use ashlar_kernel::steering::{Attach, MacAddress, Operation, ResultCode, Steering};
use ashlar_kernel::testing::{NamespacePair, RIGHT_INTERFACE, Side, ledger};
use std::process::Command;
use support::interfaces::{attached_programs, ethernet_address, xdp_program};
use support::steering::{ONE, flow, point, settings};
use support::{REQUIREMENTS, child};

const WAYS: [Attach; 3] = [Attach::Xdp(XdpMode::Native), Attach::Xdp(XdpMode::Generic), Attach::Tc];

fn attach_on_the_right(pair: &NamespacePair, attach: Attach) -> Result<Steering, Error> {
    pair.run(Side::Right, || {
        let mut steering = Steering::load(&settings())?;
        steering.attach(RIGHT_INTERFACE, attach)?;
        Ok(steering)
    })
}

fn programs_on_the_right(pair: &NamespacePair) -> usize {
    attached_programs(pair, Side::Right, RIGHT_INTERFACE)
}

#[test]
fn detaching_keeps_the_table_and_dropping_leaves_nothing() {
    if !ledger("detaching_keeps_the_table_and_dropping_leaves_nothing", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    for attach in WAYS {
        let mut steering = attach_on_the_right(&pair, attach).unwrap();
        assert_eq!(programs_on_the_right(&pair), 1, "{attach:?}");
        let mac = pair.run(Side::Right, || ethernet_address(RIGHT_INTERFACE));
        assert_eq!(steering.mac(), MacAddress(mac));
        steering.execute(&point(1, ONE, 1)).unwrap();
        steering.detach();
        assert_eq!(programs_on_the_right(&pair), 0, "{attach:?}");
        pair.run(Side::Right, || steering.attach(RIGHT_INTERFACE, attach)).unwrap();
        assert_eq!(steering.flows().unwrap().count(), 1, "{attach:?}");
        let mut executor = steering.executor();
        drop(steering);
        assert_eq!(programs_on_the_right(&pair), 0, "{attach:?}");
        let reply = executor.execute(&Operation::Query { flow: flow(1) }).unwrap();
        assert_eq!(reply.result, ResultCode::Same, "an executor keeps the table");
    }
}

#[test]
fn steering_does_not_replace_another_xdp_program() {
    if !ledger("steering_does_not_replace_another_xdp_program", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let _other = pair.run(Side::Right, || {
        let mut chaos = Chaos::load().unwrap();
        chaos.attach(RIGHT_INTERFACE, Attachment::Xdp(XdpMode::Native)).unwrap();
        chaos
    });
    let program = xdp_program(&pair, Side::Right, RIGHT_INTERFACE);
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let error = attach_on_the_right(&pair, Attach::Xdp(mode)).unwrap_err();
        assert!(matches!(error, Error::ForeignXdpProgram { .. }), "{mode:?}: {error}");
        assert_eq!(xdp_program(&pair, Side::Right, RIGHT_INTERFACE), program, "{mode:?}");
    }
    let _steering = attach_on_the_right(&pair, Attach::Tc).unwrap();
    assert_eq!(programs_on_the_right(&pair), 2);
}

#[test]
fn attaching_steering_names_what_is_wrong() {
    if !ledger("attaching_steering_names_what_is_wrong", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let mut steering = attach_on_the_right(&pair, Attach::Tc).unwrap();
    let again = pair.run(Side::Right, || steering.attach(RIGHT_INTERFACE, Attach::Tc));
    assert_eq!(again.unwrap_err().to_string(), "TcxIngress: already attached to right");
    steering.detach();
    let elsewhere = pair.run(Side::Left, || steering.attach(RIGHT_INTERFACE, Attach::Tc));
    assert_eq!(elsewhere.unwrap_err().to_string(), "right: no such network interface here");
    let loopback = pair.run(Side::Right, || steering.attach("lo", WAYS[0])).unwrap_err();
    assert!(loopback.to_string().contains("try generic mode"), "{loopback}");
    assert_eq!(programs_on_the_right(&pair), 0);
}

#[test]
fn an_interface_that_is_not_the_same_any_more_is_noticed() {
    if !ledger("an_interface_that_is_not_the_same_any_more_is_noticed", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let steering = attach_on_the_right(&pair, Attach::Tc).unwrap();
    let check = || pair.run(Side::Right, || steering.check_attached());
    let ip = |words: &str| {
        let words = words.split(' ');
        assert!(Command::new("ip").args(words).status().unwrap().success());
    };
    check().unwrap();
    let namespace = pair.namespace(Side::Right);
    ip(&format!("-n {namespace} link set {RIGHT_INTERFACE} address 02:00:00:00:77:77"));
    assert!(matches!(check(), Err(Error::AddressChanged { .. })));
    ip(&format!("-n {namespace} link del {RIGHT_INTERFACE}"));
    assert!(matches!(check(), Err(Error::UnknownInterface { .. })));
    ip(&format!("-n {namespace} link add {RIGHT_INTERFACE} type bridge"));
    assert!(matches!(check(), Err(Error::InterfaceReplaced { .. })));
}

#[test]
fn a_switch_is_attached_to_all_of_its_interfaces_or_to_none() {
    if !ledger("a_switch_is_attached_to_all_of_its_interfaces_or_to_none", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let attach = |port: &str| {
        pair.run(Side::Right, || {
            let mut steering = Steering::load(&settings()).unwrap();
            let ports = [RIGHT_INTERFACE.to_owned(), port.to_owned()];
            steering.attach_to_ports("lo", &ports, Attach::Tc).map(|()| steering)
        })
    };
    let programs = || programs_on_the_right(&pair) + attached_programs(&pair, Side::Right, "lo");
    let error = attach("nowhere").unwrap_err();
    assert_eq!(error.to_string(), "nowhere: no such network interface here");
    assert_eq!(programs(), 0);
    let steering = attach("lo").unwrap();
    assert_eq!(programs(), 3, "the second port is the switch's own interface too");
    drop(steering);
    assert_eq!(programs(), 0);
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "runs as a child of killed_steering_leaves_nothing_attached"]
fn child_that_steers_until_killed() {
    child::attach_until_killed(|way| {
        let mut steering = Steering::load(&settings()).unwrap();
        steering.attach(RIGHT_INTERFACE, WAYS[way]).unwrap();
        steering
    });
}

#[test]
fn killed_steering_leaves_nothing_attached() {
    if !ledger("killed_steering_leaves_nothing_attached", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    for (way, attach) in WAYS.into_iter().enumerate() {
        let child = child::start("child_that_steers_until_killed", &pair, way);
        assert_eq!(programs_on_the_right(&pair), 1, "{attach:?}");
        child::kill(child, || programs_on_the_right(&pair));
    }
}
