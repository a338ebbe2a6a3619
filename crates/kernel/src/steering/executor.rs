//! Requests of the process that owns steering: the program itself executes them, in a test run. No network, one system call.

use crate::Error;
use crate::system_call::test_run;
use ashlar_fastpath::steering::{
    CONTROL_FRAME_BYTES, ControlAddresses, ControlKey, Operation, Reply, Request, ResultCode,
    UDP_HEADER_BYTES,
};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;

const ETHERNET_HEADER_BYTES: usize = 14;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const FRAME_BYTES_MAX: usize =
    ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES + UDP_HEADER_BYTES as usize + CONTROL_FRAME_BYTES;

/// How often a request is made that meets another one on a flow nearby; that one needs about a microsecond.
const ATTEMPTS_MAX: u32 = 64;

/// What all executors of an instance share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The program, kept by an executor that outlives its instance.
    pub(super) program: OwnedFd,
    pub(super) key: ControlKey,
    pub(super) sender: u16,
    pub(super) incarnation: u64,
    /// The last counter that was used.
    pub(super) counter: AtomicU64,
    /// The interface's address, as bits: changes when the program is attached.
    pub(super) mac: AtomicU64,
    pub(super) control: ControlAddresses,
}

/// Executes operations on the flow table, for one thread. Executors of one instance work side by side.
#[derive(Debug)]
pub struct Executor {
    shared: Arc<Shared>,
    /// The request's frame; all but addresses of the interface and payload stay as they are.
    frame: [u8; FRAME_BYTES_MAX],
    /// How much of that is the frame.
    frame_bytes: usize,
    /// Room for the reply's frame, which is as long.
    output: [u8; FRAME_BYTES_MAX],
}

impl Executor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut frame = [0; FRAME_BYTES_MAX];
        let headers = headers(&shared.control);
        frame[..headers.len()].copy_from_slice(&headers);
        let frame_bytes = headers.len() + CONTROL_FRAME_BYTES;
        Self { shared, frame, frame_bytes, output: [0; FRAME_BYTES_MAX] }
    }

    /// Executes one operation and returns the table's answer, which says what the table holds now. `Busy` means that 64 attempts met
    /// another request on a flow nearby, or a kernel without memory at hand.
    ///
    /// Fails if the kernel refuses the call, or if the program does not answer, which is a bug.
    ///
    /// # Panics
    ///
    /// If the epoch is 0, or the owner's address is not one of a single host.
    pub fn execute(&mut self, operation: &Operation) -> Result<Reply, Error> {
        let mut outcome = Err(Error::Unanswered { action: XDP_DROP });
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                thread::yield_now();
            }
            outcome = self.attempt(operation);
            match &outcome {
                Ok(Reply { result: ResultCode::Busy, .. }) | Err(Error::Unanswered { .. }) => {}
                Ok(_) | Err(_) => break,
            }
        }
        outcome
    }

    fn attempt(&mut self, operation: &Operation) -> Result<Reply, Error> {
        let counter = self.shared.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let request = Request {
            sender: self.shared.sender,
            counter,
            incarnation: self.shared.incarnation,
            operation: *operation,
        };
        let payload = self.frame_bytes - CONTROL_FRAME_BYTES;
        let mac = self.shared.mac.load(Ordering::Relaxed).to_le_bytes();
        self.frame[..6].copy_from_slice(&mac[..6]);
        self.frame[payload..self.frame_bytes]
            .copy_from_slice(request.seal(&self.shared.key).bytes());
        let program = self.shared.program.as_fd();
        let frame = &self.frame[..self.frame_bytes];
        let run = test_run(program, frame, &mut self.output, 1)
            .map_err(|source| Error::System { operation: "run the steering program", source })?;
        if run.action != XDP_TX || run.output_bytes != self.frame_bytes {
            return Err(Error::Unanswered { action: run.action });
        }
        let reply = Reply::open(&self.output[payload..self.frame_bytes], &self.shared.key)
            .map_err(|_| Error::Unanswered { action: run.action })?;
        assert_eq!(reply.counter, counter, "the program answers what it was asked");
        Ok(reply)
    }
}

/// Ethernet, IP and UDP headers of a request from this host to itself.
fn headers(control: &ControlAddresses) -> Vec<u8> {
    let udp_bytes = UDP_HEADER_BYTES as u16 + CONTROL_FRAME_BYTES as u16;
    let mut headers = vec![0; ETHERNET_HEADER_BYTES - 2];
    match (control.ipv4, control.ipv6) {
        (Some(address), _) => {
            headers.extend([0x08, 0x00, 0x45, 0]);
            headers.extend((IPV4_HEADER_BYTES as u16 + udp_bytes).to_be_bytes());
            headers.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            headers.extend([address.octets(), address.octets()].concat());
        }
        (None, address) => {
            let address = address.expect("the settings were checked").octets();
            headers.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            headers.extend(udp_bytes.to_be_bytes());
            headers.extend([17, 64]);
            headers.extend([address, address].concat());
        }
    }
    for word in [control.port, control.port, udp_bytes, 0] {
        headers.extend(word.to_be_bytes());
    }
    headers
}
