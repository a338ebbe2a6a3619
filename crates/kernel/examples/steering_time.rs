//! How long the steering programs take for a frame, by test runs; prints medians. Needs root.
//!
//! A frame that leaves is changed, so each run is of one frame: the kernel's clock is read around it, and its own cost is part of
//! the result. `sudo cargo run --release -p ashlar-kernel --example steering_time`

use ashlar_kernel::chaos::XdpMode;
use ashlar_kernel::steering::{
    Attach, ControlAddresses, ControlKey, FlowKey, MacAddress, Operation, Owner, Place, Settings,
    Steering, TCP_ACK,
};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const RUNS: usize = 20_000;
const OPERATIONS: u32 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let service = Ipv4Addr::new(10, 0, 0, 1);
    let control = ControlAddresses { ipv4: Some(service), ipv6: None, port: 9_700 };
    let mut steering = Steering::load(&Settings::new(control, ControlKey::new([1; 16]), 1))?;
    let owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 2]), id: 2 };
    let flow = |number: u32| {
        let client = SocketAddr::from((Ipv4Addr::from_bits(0x0b00_0000 + number), 40_000));
        FlowKey::new(client, SocketAddr::from((service, 80)))
    };
    let start = Instant::now();
    for number in 0..OPERATIONS {
        let operation = Operation::Point { flow: flow(number), owner, epoch: 1, closing: false };
        steering.execute(&operation)?;
    }
    println!("execute (Point, new flow): {:?}", start.elapsed() / OPERATIONS);
    let start = Instant::now();
    for number in 0..OPERATIONS {
        let operation = Operation::Point { flow: flow(number), owner, epoch: 2, closing: false };
        steering.execute(&operation)?;
    }
    println!("execute (Point, known flow): {:?}", start.elapsed() / OPERATIONS);
    let ways = [Attach::Xdp(XdpMode::Native), Attach::Tc]
        .map(|attach| [(attach, Place::Host), (attach, Place::Port)]);
    for (attach, place) in ways.concat() {
        let mut median = |name: &str, frame: &[u8]| -> Result<(), Box<dyn Error>> {
            let mut times = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                times.push(steering.test_run(attach, place, frame, 1)?.duration);
            }
            times.sort_unstable();
            let median: Duration = times[RUNS / 2];
            println!("{attach:?} {place:?} {name}: {median:?}");
            Ok(())
        };
        median("not IP", &[0; 60])?;
        median("TCP of no flow", &tcp(place, &flow(OPERATIONS)))?;
        median("TCP steered", &tcp(place, &flow(7)))?;
    }
    Ok(())
}

/// A frame for the address that an interface has before steering is attached to it: none. At a port, for any host.
fn tcp(place: Place, flow: &FlowKey) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame[0] = if place == Place::Port { 2 } else { 0 };
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&flow.client_address[12..]);
    frame.extend_from_slice(&flow.service_address[12..]);
    frame.extend(flow.client_port.to_be_bytes());
    frame.extend(flow.service_port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, TCP_ACK, 1, 0, 0, 0, 0, 0]);
    frame.resize(1_514, 0);
    frame
}
