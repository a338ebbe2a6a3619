//! Stands in for the `ashlar` binary in this crate's tests: a node that only says that it is ready, the real fault
//! agent, and small tools that make traffic inside a host.

use ashlar_lab::{Delay, FaultAction, Lab, LabSpec, Probability, run_fault_agent};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a round trip may take before it counts as lost: more than any delay in the tests.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", "--config", file] => node(file),
        ["lab", "fault-agent", "--spec", spec] => Ok(run_fault_agent(spec)?),
        ["up", name, data] => up(name, data),
        ["down", name] => Ok(Lab::remove(&name.parse()?).map(|_| ())?),
        ["delay", name, host] => delay(name, host),
        ["echo", address] => echo(address),
        ["round-trips", address, count] => round_trips(address, count.parse()?),
        ["serve", address, bytes] => serve(address, bytes.parse()?),
        ["fetch", address] => fetch(address),
        ["burn", milliseconds] => burn(Duration::from_millis(milliseconds.parse()?)),
        _ => Err(format!("unknown command {words:?}").into()),
    }
}

/// Answers 200 on the admin address. The file `mode` beside the data directories changes that: `fails` ends at once,
/// `never-ready` answers 503.
fn node(file: &str) -> Result<(), Box<dyn Error>> {
    let configuration: toml::Table = std::fs::read_to_string(file)?.parse()?;
    let data = PathBuf::from(configuration["node"]["data"].as_str().ok_or("node.data")?);
    let mode = std::fs::read_to_string(data.with_file_name("mode")).unwrap_or_default();
    if mode == "fails" {
        return Err("this node fails on purpose".into());
    }
    let status = if mode == "never-ready" { "503 Not Yet" } else { "200 OK" };
    let listener =
        TcpListener::bind(configuration["admin"]["listen"].as_str().ok_or("admin.listen")?)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut request = [0; 1_024];
        let _length = stream.read(&mut request)?;
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

fn up(name: &str, data: &str) -> Result<(), Box<dyn Error>> {
    let lab = Lab::up(&LabSpec::new(name.parse()?).data(data))?;
    println!("{} is up", lab.name());
    Ok(())
}

fn delay(name: &str, host: &str) -> Result<(), Box<dyn Error>> {
    let delay = Delay {
        delay: Duration::from_millis(20),
        jitter: Duration::ZERO,
        reorder: Probability::default(),
        seed: 1,
    };
    Ok(Lab::attach(&name.parse()?)?.fault(host, &FaultAction::Delay(delay))?)
}

fn echo(address: &str) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(address)?;
    let mut datagram = [0; 2_048];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        socket.send_to(&datagram[..length], from)?;
    }
}

/// Prints how many of `count` datagrams came back, how many came back again, and the fastest round trip.
fn round_trips(address: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    let (mut answered, mut repeated, mut fastest) = (0, 0, None);
    for number in 0..count {
        let sent_at = Instant::now();
        socket.send(&number.to_be_bytes())?;
        let mut datagram = [0; 2_048];
        loop {
            let left = ANSWER_TIMEOUT.saturating_sub(sent_at.elapsed());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            // A time-out, or a refusal by a host that has nobody listening: lost either way.
            let Ok(length) = socket.recv(&mut datagram) else { break };
            if datagram[..length] == number.to_be_bytes() {
                answered += 1;
                let took = sent_at.elapsed();
                fastest = Some(fastest.map_or(took, |fastest: Duration| fastest.min(took)));
                break;
            }
            repeated += 1;
        }
    }
    let fastest_us = fastest.map(|fastest| fastest.as_micros() as u64);
    println!(
        "{}",
        serde_json::json!({ "answered": answered, "repeated": repeated, "fastest_us": fastest_us })
    );
    Ok(())
}

/// Sends the same pattern to everyone who connects.
fn serve(address: &str, bytes: usize) -> Result<(), Box<dyn Error>> {
    let pattern: Vec<u8> = (0..bytes).map(pattern_byte).collect();
    for stream in TcpListener::bind(address)?.incoming() {
        // A client that goes away early is its own affair.
        let _gone = stream?.write_all(&pattern);
    }
    Ok(())
}

/// Prints how many bytes came, and refuses any that is not the pattern's.
fn fetch(address: &str) -> Result<(), Box<dyn Error>> {
    let mut received = Vec::new();
    TcpStream::connect(address)?.read_to_end(&mut received)?;
    match received.iter().enumerate().find(|&(index, &byte)| byte != pattern_byte(index)) {
        Some((index, _)) => Err(format!("byte {index} is wrong").into()),
        None => {
            println!("{}", received.len());
            Ok(())
        }
    }
}

fn pattern_byte(index: usize) -> u8 {
    // A prime period, so that no frame or page repeats another.
    (index % 251) as u8
}

fn burn(time: Duration) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    Ok(())
}
