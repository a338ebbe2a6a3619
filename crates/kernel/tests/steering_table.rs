//! The flow table of the steering program, driven by the process that owns it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::Error;
use ashlar_kernel::steering::{
    ControlAddresses, ControlKey, Counter, FlowKey, FlowState, MacAddress, Operation, Owner,
    ResultCode, Settings, Steering, memory_bytes, now_ns,
};
use ashlar_kernel::testing::ledger;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use support::REQUIREMENTS;

const ONE: Owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 1]), id: 1 };
const TWO: Owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 2]), id: 2 };
const HOUR_NS: u64 = 3_600_000_000_000;

fn settings(flows_max: u32) -> Settings {
    let control =
        ControlAddresses { ipv4: Some(Ipv4Addr::new(10, 99, 0, 2)), ipv6: None, port: 9_700 };
    Settings { flows_max, ..Settings::new(control, ControlKey::new([7; 16]), 1) }
}

/// A flow of its own for each number below 2^32.
fn flow(number: u32) -> FlowKey {
    let client = SocketAddr::from((
        Ipv4Addr::from_bits(0x0b00_0000 + (number >> 8)),
        40_000 + (number & 0xff) as u16,
    ));
    FlowKey::new(client, SocketAddr::from(([10, 99, 0, 2], 80)))
}

fn point(number: u32, owner: Owner, epoch: u64) -> Operation {
    Operation::Point { flow: flow(number), owner, epoch, closing: false }
}

#[test]
fn a_million_flows_fit() {
    if !ledger("a_million_flows_fit", &REQUIREMENTS) {
        return;
    }
    const FLOWS: u32 = 1_000_000;
    let mut steering = Steering::load(&settings(FLOWS)).unwrap();
    let empty_bytes = steering.flow_table_bytes().unwrap();
    let start = Instant::now();
    for number in 0..FLOWS {
        let reply = steering.execute(&point(number, ONE, 1)).unwrap();
        assert_eq!(reply.result, ResultCode::Applied, "flow {number}");
    }
    let each = start.elapsed() / FLOWS;
    let full_bytes = steering.flow_table_bytes().unwrap();
    let estimate = memory_bytes(FLOWS);
    eprintln!(
        "{FLOWS} flows: {empty_bytes} bytes empty, {full_bytes} full (estimate {estimate:?}); {each:?} for each"
    );
    let start = Instant::now();
    assert_eq!(steering.flows().unwrap().map(Result::unwrap).count(), FLOWS as usize);
    eprintln!("read in {:?}", start.elapsed());
}
