//! Faults on purpose at a network interface: lost, repeated and damaged frames.
//!
//! A [`Chaos`] is one copy of the programs with maps of its own. It is loaded, configured, and attached to up to three hooks; which
//! frame suffers what follows from the configuration alone ([`decide`]). Dropping it, or the death of the process, detaches it.
//!
//! ```no_run
//! use ashlar_kernel::chaos::{Attachment, Chaos, Config, Probabilities, Rule, XdpMode};
//!
//! let rule = Rule::ANY.with_protocol(17).with_port(9001);
//! let config = Config::new(42, rule, Probabilities { drop_ppm: 10_000, ..Probabilities::NONE })?;
//! let mut chaos = Chaos::load()?;
//! chaos.configure(&config)?;
//! chaos.attach("veth0", Attachment::Xdp(XdpMode::Native))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use ashlar_fastpath::chaos::{
    Config, Corruption, Counters, Direction, Frame, Hook, PPM, PassReason, Probabilities,
    ProbabilitiesError, Rule, SCHEMA_VERSION, Verdict, decide,
};

use crate::link::{AttachPoint, Link};
use crate::{Error, embedded};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{MembarrierCommand, membarrier};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

const ACTIVE_MAP: &str = "CHAOS_ACTIVE";
const CONFIG_MAP: &str = "CHAOS_CONFIG";
const COUNTERS_MAP: &str = "CHAOS_COUNTERS";

/// Far longer than a program runs: see [`wait_for_running_programs`].
const PROGRAM_TIME_MAX: Duration = Duration::from_millis(100);

/// A frame may grow by this much in a test run; ours never do, so more would be seen as an error.
const TEST_RUN_SLACK_BYTES: usize = 64;

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver. Not every driver can; none with an MTU above about 3,500 bytes.
    Native,
    /// After the driver, in the network stack: slower, with any driver.
    Generic,
}

/// A hook, and how to attach there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// [`Hook::Xdp`]: incoming frames; cannot duplicate.
    Xdp(XdpMode),
    /// [`Hook::TcxIngress`]: incoming frames, after XDP.
    TcxIngress,
    /// [`Hook::TcxEgress`]: outgoing frames.
    TcxEgress,
}

impl Attachment {
    /// The hook, without the how.
    pub const fn hook(self) -> Hook {
        match self {
            Self::Xdp(_) => Hook::Xdp,
            Self::TcxIngress => Hook::TcxIngress,
            Self::TcxEgress => Hook::TcxEgress,
        }
    }

    pub(crate) const fn point(self) -> AttachPoint {
        match self {
            Self::Xdp(_) => AttachPoint::Xdp,
            Self::TcxIngress => AttachPoint::TcxIngress,
            Self::TcxEgress => AttachPoint::TcxEgress,
        }
    }

    pub(crate) const fn flags(self) -> u32 {
        match self {
            Self::Xdp(XdpMode::Generic) => 1 << 1,
            Self::Xdp(XdpMode::Native) => 1 << 2,
            Self::TcxIngress | Self::TcxEgress => 0,
        }
    }
}

/// What a program did with a frame in [`Chaos::test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// Whether the frame would have gone on.
    pub passed: bool,
    /// The frame's bytes afterwards.
    pub frame: Vec<u8>,
}

/// One instance of the chaos programs. At each hook it is attached to at most one interface.
#[derive(Debug)]
pub struct Chaos {
    /// Owns programs and maps.
    ebpf: Ebpf,
    /// What is attached, by hook.
    attached: [Option<Attached>; Hook::ALL.len()],
    /// The slot of the configuration map that is in force.
    active_slot: u32,
}

/// One attachment.
#[derive(Debug)]
struct Attached {
    /// For messages.
    interface: String,
    /// For messages.
    hook: Hook,
    /// Owns the attachment.
    _link: Link,
}

impl Drop for Attached {
    fn drop(&mut self) {
        tracing::info!(interface = self.interface, hook = ?self.hook, "detaching the chaos program");
    }
}

impl Chaos {
    /// Creates the maps. Needs `CAP_BPF` and `CAP_NET_ADMIN`, or root. Nothing is attached, and every frame passes until
    /// [`Chaos::configure`].
    ///
    /// Fails if the programs are not built in, of another schema, or if the kernel refuses.
    pub fn load() -> Result<Self, Error> {
        let ebpf = Ebpf::load(embedded::chaos()?).map_err(Error::CreateMaps)?;
        Ok(Self { ebpf, attached: [const { None }; Hook::ALL.len()], active_slot: 0 })
    }

    /// Puts a configuration in force, as a whole, also while attached: when this returns, no frame is judged by an older one. Numbers
    /// and counters go on; for a sequence from 0, load a new instance.
    pub fn configure(&mut self, config: &Config) -> Result<(), Error> {
        let spare_slot = 1 - self.active_slot;
        self.array::<ConfigValue>(CONFIG_MAP)?
            .set(spare_slot, ConfigValue(*config), 0)
            .map_err(in_map(CONFIG_MAP))?;
        self.array::<u32>(ACTIVE_MAP)?.set(0, spare_slot, 0).map_err(in_map(ACTIVE_MAP))?;
        self.active_slot = spare_slot;
        if self.attached.iter().any(Option::is_some) {
            wait_for_running_programs();
        }
        Ok(())
    }

    /// Attaches to an interface of the calling thread's network namespace. The attachment belongs to this instance, not to the thread
    /// or namespace; it ends with [`Chaos::detach`], when this instance is dropped, or when the process dies.
    ///
    /// Another XDP program on the interface is an error and stays. Other TCX programs stay too and run before this one.
    pub fn attach(&mut self, interface: &str, attachment: Attachment) -> Result<(), Error> {
        let hook = attachment.hook();
        if let Some(attached) = &self.attached[hook.index() as usize] {
            return Err(Error::AlreadyAttached { hook, interface: attached.interface.clone() });
        }
        let interface_index = interface_index(interface)?;
        let program = self.loaded_program(hook)?;
        let link =
            Link::create(program.as_fd(), interface_index, attachment.point(), attachment.flags())
                .map_err(|source| attach_error(interface, attachment, source))?;
        self.attached[hook.index() as usize] =
            Some(Attached { interface: interface.to_owned(), hook, _link: link });
        tracing::info!(interface, ?attachment, "attached the chaos program");
        Ok(())
    }

    /// Detaches from a hook; nothing happens if it is not attached there.
    pub fn detach(&mut self, hook: Hook) {
        self.attached[hook.index() as usize] = None;
    }

    /// What became of the frames at a hook since [`Chaos::load`], over all CPUs.
    pub fn counters(&self, hook: Hook) -> Result<Counters, Error> {
        let map = self.ebpf.map(COUNTERS_MAP).ok_or_else(|| missing(COUNTERS_MAP))?;
        let counters =
            PerCpuArray::<&MapData, CountersValue>::try_from(map).map_err(in_map(COUNTERS_MAP))?;
        let by_cpu = counters.get(&hook.index(), 0).map_err(in_map(COUNTERS_MAP))?;
        Ok(by_cpu.iter().fold(Counters::default(), |sum, cpu| sum.plus(cpu.0)))
    }

    /// Runs a hook's program once on a frame, without any interface: the frame takes a number and is counted like any other. A copy
    /// made by a duplicate verdict goes to the loopback interface of the calling thread's network namespace. For tests.
    pub fn test_run(&mut self, hook: Hook, frame: &[u8]) -> Result<TestRun, Error> {
        let (program, length_bytes) = (program_name(hook), frame.len());
        self.loaded_program(hook)?;
        let mut output = vec![0; length_bytes + TEST_RUN_SLACK_BYTES];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ..TestRunOptions::default()
        };
        let result = match hook {
            Hook::Xdp => self.program::<Xdp>(hook)?.test_run(options),
            Hook::TcxIngress | Hook::TcxEgress => {
                self.program::<SchedClassifier>(hook)?.test_run(options)
            }
        };
        let result = result.map_err(|source| Error::TestRun { program, length_bytes, source })?;
        output.truncate(result.data_size_out as usize);
        // XDP_PASS is 2; a TCX program that lets the frame go on to the next one returns -1.
        let pass = if hook == Hook::Xdp { 2 } else { u32::MAX };
        Ok(TestRun { passed: result.return_value == pass, frame: output })
    }

    /// The hook's program, in the kernel.
    fn loaded_program(&mut self, hook: Hook) -> Result<&ProgramFd, Error> {
        let load_error = |source| Error::LoadProgram { program: program_name(hook), source };
        match hook {
            Hook::Xdp => {
                let program = self.program::<Xdp>(hook)?;
                if program.fd().is_err() {
                    program.load().map_err(load_error)?;
                }
                program.fd().map_err(load_error)
            }
            Hook::TcxIngress | Hook::TcxEgress => {
                let program = self.program::<SchedClassifier>(hook)?;
                if program.fd().is_err() {
                    program.load().map_err(load_error)?;
                }
                program.fd().map_err(load_error)
            }
        }
    }

    fn program<'a, P>(&'a mut self, hook: Hook) -> Result<&'a mut P, Error>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let name = program_name(hook);
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| missing(name))
    }

    fn array<V: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, V>, Error> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        Array::try_from(map).map_err(in_map(name))
    }
}

const fn program_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "chaos_xdp",
        Hook::TcxIngress => "chaos_tc_ingress",
        Hook::TcxEgress => "chaos_tc_egress",
    }
}

pub(crate) fn missing(name: &str) -> Error {
    Error::UnusableObject { reason: format!("no {name} of the expected type") }
}

pub(crate) fn in_map(map: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |source| Error::Map { map, source }
}

pub(crate) fn interface_index(interface: &str) -> Result<u32, Error> {
    let lookup = || {
        let socket =
            socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        name_to_index(socket, interface)
    };
    lookup().map_err(|errno: Errno| Error::UnknownInterface {
        interface: interface.to_owned(),
        source: errno.into(),
    })
}

pub(crate) fn attach_error(interface: &str, attachment: Attachment, source: io::Error) -> Error {
    let interface = interface.to_owned();
    let errno = Errno::from_io_error(&source);
    match (attachment, errno) {
        // Busy: a program in the same mode. Exists: one in the other mode.
        (Attachment::Xdp(_), Some(Errno::BUSY | Errno::EXIST)) => {
            Error::ForeignXdpProgram { interface, source }
        }
        _ => {
            let hint = match (attachment, errno) {
                (_, Some(Errno::PERM)) => " (needs root, or CAP_BPF and CAP_NET_ADMIN)",
                (Attachment::Xdp(XdpMode::Native), Some(Errno::OPNOTSUPP)) => {
                    " (try generic mode: the driver has no XDP)"
                }
                (Attachment::Xdp(XdpMode::Native), Some(Errno::RANGE)) => {
                    " (try generic mode, or a smaller MTU)"
                }
                (Attachment::TcxIngress | Attachment::TcxEgress, Some(Errno::INVAL)) => {
                    " (needs Linux 6.6 or later)"
                }
                _ => "",
            };
            Error::Attach { interface, hook: attachment.hook(), hint, source }
        }
    }
}

/// Returns when every program that may have read the maps' old contents has ended.
fn wait_for_running_programs() {
    // A global memory barrier waits for a grace period of the kernel's read-copy-update, and programs run inside its read sections.
    // Kernels with tick-less CPUs do not offer it.
    if membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(PROGRAM_TIME_MAX);
    }
}

/// [`Config`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ConfigValue(Config);

/// [`Counters`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct CountersValue(Counters);

#[allow(unsafe_code, reason = "marks map values as plain old data, which the library cannot check")]
mod plain_old_data {
    // SAFETY: integers only, without padding (the sizes are asserted where the type is defined); any bits make a valid value.
    unsafe impl aya::Pod for super::ConfigValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CountersValue {}
}
