//! Steering at network interfaces: frames of a flow go to the host that owns the connection.
//!
//! A [`Steering`] is one copy of the programs with a flow table of its own. It is loaded, attached to the interface that clients'
//! frames are addressed to ([`Steering::attach`]) or to ports of a switch that they pass ([`Steering::attach_to_ports`]), and told
//! by control frames whose flow is whose: by those that other hosts send to its control address, and by [`Steering::execute`].
//! Dropping it, or the death of the process, detaches it; the table goes with it.
//!
//! ```no_run
//! use ashlar_kernel::steering::{
//!     Attach, ControlAddresses, ControlKey, FlowKey, MacAddress, Operation, Owner, Settings, Steering,
//! };
//!
//! let control = ControlAddresses { ipv4: Some("10.77.0.10".parse()?), ipv6: None, port: 9_700 };
//! let mut steering = Steering::load(&Settings::new(control, ControlKey::new([7; 16]), 1))?;
//! steering.attach("eth0", Attach::Tc)?;
//! let flow = FlowKey::new("10.77.0.99:40000".parse()?, "10.77.0.10:80".parse()?);
//! let owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 21]), id: 21 };
//! let reply = steering.execute(&Operation::Point { flow, owner, epoch: 1, closing: false })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attach;
mod executor;
mod explain;
mod flows;
mod memory;
mod settings;
mod system_call;

pub use ashlar_fastpath::steering::{
    ControlAddresses, ControlError, ControlKey, Counter, Counters, FlowKey, FlowState, MacAddress,
    Operation, OperationCode, Owner, PassReason, Place, Reply, Request, ResultCode, SCHEMA_VERSION,
    TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Verdict,
};
pub use attach::{Attach, PORTS_MAX};
pub use executor::Executor;
pub use explain::{Description, Explanation};
pub use flows::Flows;
pub use memory::{MemoryEstimate, memory_bytes};
pub use settings::Settings;

use crate::chaos::{in_map, missing};
use crate::load::load_program;
use crate::system_call::test_run;
use crate::{Error, embedded};
use ashlar_fastpath::steering::{Config, Entry, EntryOrNone, judge};
use attach::Attached;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::{Ebpf, EbpfLoader};
use executor::Shared;
use flows::Batches;
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONFIG_MAP: &str = "STEERING_CONFIG";
const COUNTERS_MAP: &str = "STEERING_COUNTERS";
const FLOWS_MAP: &str = "STEERING_FLOWS";
const SENDERS_MAP: &str = "STEERING_SENDERS";

/// Runs requests of this process, whatever is attached.
const XDP_PROGRAM: &str = "steering_xdp";

/// What a program did with a frame in [`Steering::test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What became of the frame.
    pub fate: Fate,
    /// The frame's bytes afterwards.
    pub frame: Vec<u8>,
    /// How long the program ran, in the mean over the repetitions.
    pub duration: Duration,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on: to this host's stack, or through the switch.
    Passed,
    /// It is gone.
    Dropped,
    /// It leaves by the interface that it came in by.
    Sent,
}

/// What a call of [`Steering::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// How many flows were looked at.
    pub examined: u64,
    /// How many of them were forgotten.
    pub removed: u64,
    /// Whether the table was seen to its end; the next call starts from its beginning.
    pub is_complete: bool,
}

/// One instance of the steering programs.
#[derive(Debug)]
pub struct Steering {
    /// Owns programs and maps.
    ebpf: Ebpf,
    settings: Settings,
    shared: Arc<Shared>,
    /// Executes what this instance itself wants done.
    executor: Executor,
    /// How far [`Steering::sweep`] came.
    sweeping: Batches,
    /// Of a switch, the interface that has its control address first.
    attached: Vec<Attached>,
}

impl Steering {
    /// Creates the maps and loads the programs. Needs `CAP_BPF` and `CAP_NET_ADMIN`, or root. The table is empty, its incarnation
    /// new, and nothing is attached.
    ///
    /// Fails if the settings contradict themselves, if the programs are not built in or of another schema, or if the kernel refuses.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        settings.check()?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(FLOWS_MAP, settings.flows_max)
            .map_max_entries(SENDERS_MAP, settings.senders_max)
            .load(embedded::steering()?)
            .map_err(Error::CreateMaps)?;
        let incarnation = random_nonzero()?;
        let shared = Arc::new(Shared {
            program: load_program(&mut ebpf, XDP_PROGRAM)?,
            key: settings.key.clone(),
            sender: settings.sender,
            incarnation,
            counter: AtomicU64::new(counter_start()),
            mac: AtomicU64::new(MacAddress::NONE.to_bits()),
            control: settings.control,
        });
        let sweeping = Batches::new(flows_map(&ebpf)?);
        let executor = Executor::new(Arc::clone(&shared));
        let settings = settings.clone();
        let mut steering =
            Self { ebpf, settings, shared, executor, sweeping, attached: Vec::new() };
        steering.configure(MacAddress::NONE)?;
        Ok(steering)
    }

    /// Names this life of the table: requests of other hosts must carry it.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// The Ethernet address of the interface that has the control address; [`MacAddress::NONE`] before anything was attached.
    pub fn mac(&self) -> MacAddress {
        Owner::from_bits(self.shared.mac.load(Ordering::Relaxed)).mac
    }

    /// An executor for another thread. It goes on working on this table even when this instance is gone.
    pub fn executor(&self) -> Executor {
        Executor::new(Arc::clone(&self.shared))
    }

    /// Executes one operation on the flow table: see [`Executor::execute`].
    pub fn execute(&mut self, operation: &Operation) -> Result<Reply, Error> {
        self.executor.execute(operation)
    }

    /// Every flow of the table.
    pub fn flows(&self) -> Result<Flows, Error> {
        Ok(Flows::new(flows_map(&self.ebpf)?))
    }

    /// Forgets flows that were without frames for too long, among the next part of the table (about 4,096 flows: a fraction of a
    /// millisecond, and a microsecond for each that goes). Call it now and then, with [`now_ns`]. A flow that gets a frame between
    /// being looked at and being removed stays.
    pub fn sweep(&mut self, now_ns: u64) -> Result<Sweep, Error> {
        let part = self.sweeping.next_part()?;
        let mut sweep = Sweep { is_complete: part.is_last, ..Sweep::default() };
        for (flow, entry) in part.flows.iter().zip(part.entries) {
            sweep.examined += 1;
            let timeout = if entry.is_closing() {
                self.settings.closing_timeout
            } else {
                self.settings.idle_timeout
            };
            let idle = Duration::from_nanos(now_ns.saturating_sub(entry.last_seen_ns));
            if idle < timeout {
                continue;
            }
            let operation = Operation::Expire {
                flow: *flow,
                epoch: entry.epoch,
                last_seen_ns: entry.last_seen_ns,
            };
            let reply = self.executor.execute(&operation)?;
            sweep.removed += u64::from(reply.result == ResultCode::Applied);
        }
        Ok(sweep)
    }

    /// Forgets every flow of an owner that died, so that this host's stack answers the clients, with a RST. Returns how many. A flow
    /// that somebody points at another owner meanwhile stays.
    pub fn forget_owner(&mut self, owner_id: u16) -> Result<u64, Error> {
        let mut forgotten = 0;
        for flow in self.flows()? {
            let (flow, state) = flow?;
            if state.owner.id != owner_id {
                continue;
            }
            let reply = self.execute(&Operation::Forget { flow, epoch: state.epoch })?;
            forgotten += u64::from(reply.result == ResultCode::Applied);
        }
        Ok(forgotten)
    }

    /// What became of the frames since [`Steering::load`], over all CPUs. Executed operations count like control frames.
    pub fn counters(&self) -> Result<Counters, Error> {
        let map = self.ebpf.map(COUNTERS_MAP).ok_or_else(|| missing(COUNTERS_MAP))?;
        let counters =
            PerCpuArray::<&MapData, CountersValue>::try_from(map).map_err(in_map(COUNTERS_MAP))?;
        let by_cpu = counters.get(&0, 0).map_err(in_map(COUNTERS_MAP))?;
        Ok(by_cpu.iter().fold(Counters::default(), |sum, cpu| sum.plus(cpu.0)))
    }

    /// What would become of a frame now; changes nothing.
    pub fn explain(&self, frame: &Description) -> Result<Explanation, Error> {
        let map = self.ebpf.map(FLOWS_MAP).ok_or_else(|| missing(FLOWS_MAP))?;
        let flows = HashMap::<&MapData, FlowKeyValue, EntryValue>::try_from(map)
            .map_err(in_map(FLOWS_MAP))?;
        let found = match flows.get(&FlowKeyValue(frame.flow), 0) {
            Ok(entry) => EntryOrNone::some(entry.0),
            Err(aya::maps::MapError::KeyNotFound) => EntryOrNone::NONE,
            Err(error) => return Err(in_map(FLOWS_MAP)(error)),
        };
        let identity = Entry::identity_of(frame.flow.digest());
        let own = self.mac();
        let judgement = judge(&found, identity, own, frame.tcp_flags, now_ns());
        let state = found.get().map(FlowState::from);
        let (verdict, closes) = (judgement.verdict, judgement.close);
        Ok(Explanation { flow: frame.flow, state, verdict, closes, own })
    }

    /// How much kernel memory the flow table takes now, as the kernel counts it; its allocator rounds entries up to 128 bytes.
    pub fn flow_table_bytes(&self) -> Result<u64, Error> {
        memory::map_bytes(flows_map(&self.ebpf)?.as_fd())
    }

    /// Runs a program on a frame, without any interface, `repeat` times on the same bytes. What it does to the table is real. For
    /// tests and benchmarks.
    pub fn test_run(
        &mut self,
        attach: Attach,
        place: Place,
        frame: &[u8],
        repeat: u32,
    ) -> Result<TestRun, Error> {
        let program = load_program(&mut self.ebpf, attach.program(place))?;
        let mut output = vec![0; frame.len()];
        let run = test_run(program.as_fd(), frame, &mut output, repeat)
            .map_err(|source| Error::System { operation: "run the steering program", source })?;
        output.truncate(run.output_bytes);
        let fate = match (attach, run.action) {
            (Attach::Xdp(_), 2) | (Attach::Tc, u32::MAX) => Fate::Passed,
            (Attach::Xdp(_), 1) | (Attach::Tc, 2) => Fate::Dropped,
            (Attach::Xdp(_), 3) | (Attach::Tc, 7) => Fate::Sent,
            (_, action) => return Err(Error::Unanswered { action }),
        };
        let duration = Duration::from_nanos(run.duration_ns.into());
        Ok(TestRun { fate, frame: output, duration })
    }

    fn configure(&mut self, mac: MacAddress) -> Result<(), Error> {
        let Settings { control, key, .. } = &self.settings;
        let config = Config::new(mac, *control, key, self.shared.incarnation);
        let map = self.ebpf.map_mut(CONFIG_MAP).ok_or_else(|| missing(CONFIG_MAP))?;
        Array::<_, ConfigValue>::try_from(map)
            .and_then(|mut array| array.set(0, ConfigValue(config), 0))
            .map_err(in_map(CONFIG_MAP))?;
        self.shared.mac.store(mac.to_bits(), Ordering::Relaxed);
        Ok(())
    }
}

/// The clock that entries are stamped with: nanoseconds since this host started.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("this clock starts at zero");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Above every counter of an earlier life of this process.
fn counter_start() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX >> 1)
}

fn random_nonzero() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    read.map_err(|errno| Error::System { operation: "get a random number", source: errno.into() })?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}

/// A descriptor of the flow table.
fn flows_map(ebpf: &Ebpf) -> Result<OwnedFd, Error> {
    let Some(Map::HashMap(map)) = ebpf.map(FLOWS_MAP) else {
        return Err(missing(FLOWS_MAP));
    };
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::System { operation: "duplicate a map's descriptor", source })
}

/// [`Config`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ConfigValue(Config);

/// [`Counters`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct CountersValue(Counters);

/// [`FlowKey`] as a map key.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct FlowKeyValue(FlowKey);

/// [`Entry`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct EntryValue(Entry);

#[allow(unsafe_code, reason = "marks map values as plain old data, which the library cannot check")]
mod plain_old_data {
    // SAFETY: integers only, without padding (the sizes are asserted where the type is defined); any bits make a valid value.
    unsafe impl aya::Pod for super::ConfigValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CountersValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKeyValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::EntryValue {}
}
