//! Replication in the kernel: acknowledgements, quorums and copies that do not wait for a replica's process.
//!
//! A [`Programs`] is one copy of the programs with memory of its own, which they share with this process: a [`SharedGroup`] for each
//! group. It is loaded under a name in the BPF file system, by which a later process finds what a former one left behind
//! ([`fence()`]), and attached to the interface of the replication socket. Dropping it, or the death of the process, detaches it.
//!
//! ```no_run
//! use ashlar_kernel::replication::{GroupKey, Programs, Settings, fence};
//!
//! let pin = "/sys/fs/bpf/ashlar/7000".into();
//! fence(std::path::Path::new(&pin))?;
//! let groups = vec![GroupKey { cluster: 1, group: 1 }];
//! let mut programs = Programs::load(&Settings { own: "10.0.0.1:7000".parse()?, groups, pin })?;
//! programs.attach_xdp("eth0")?;
//! programs.attach_tc("eth0")?;
//! let mut group = programs.group(0);
//! group.lock();
//! group.set_tail(12, 0x5eed);
//! group.unlock();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod fence;
mod group;
mod memory;
mod pin;
mod settings;

pub use ashlar_fastpath::replication::{
    Counter, Counters, FRAME_BYTES_MAX, FanOut, GroupKey, MEMBERS_MAX, SCHEMA_VERSION, SLOTS,
};
pub use clock::now_ns;
pub use fence::{Fenced, fence};
pub use group::{Mode, SharedGroup, Terms};
pub(crate) use memory::try_mappable_map;
pub(crate) use pin::{BPF_DIRECTORY, is_bpf_file_system};
pub use settings::{GROUPS_MAX, Settings};

use crate::chaos::{Attachment, XdpMode, attach_error, in_map, interface_index, missing};
use crate::link::Link;
use crate::load::load_program;
use crate::system_call::{is_virtual_pair, test_run};
use crate::{Error, embedded};
use ashlar_fastpath::replication::{Config, Control, Slot, member_bits};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use memory::{Mapping, Shared};
use pin::Pin;
use std::fmt;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

const BELL_MAP: &str = "REPLICATION_BELL";
const CONFIG_MAP: &str = "REPLICATION_CONFIG";
const CONTROL_MAP: &str = "REPLICATION_CONTROL";
const COUNTERS_MAP: &str = "REPLICATION_COUNTERS";
const GROUPS_MAP: &str = "REPLICATION_GROUPS";
const LOG_MAP: &str = "REPLICATION_LOG";

const TC_PROGRAM: &str = "replication_tc";
const XDP_PROGRAM: &str = "replication_xdp";

/// What became of a frame in [`Programs::test_run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on to this host's sockets.
    Passed,
    /// It is gone.
    Dropped,
    /// It leaves by the interface that it came in by.
    Answered,
}

/// What a program did with a frame in [`Programs::test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What became of the frame.
    pub fate: Fate,
    /// The frame's bytes afterwards.
    pub frame: Vec<u8>,
}

/// One instance of the replication programs.
pub struct Programs {
    /// Goes first: nothing is decided any more when the rest goes.
    xdp: Option<Attached>,
    /// Likewise.
    tc: Option<Attached>,
    /// Owns programs and maps.
    ebpf: Ebpf,
    /// The ring that a program writes to when it wakes the process.
    bell: Option<Bell>,
    shared: Arc<Shared>,
    /// By which a later process finds the controls.
    _pin: Pin,
}

/// Becomes readable when a program wakes the process: see [`SharedGroup::fall_asleep`].
pub struct Bell(RingBuf<MapData>);

impl Bell {
    /// Lets it become unreadable until it is rung again.
    pub fn drain(&mut self) {
        while self.0.next().is_some() {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One attachment.
#[derive(Debug)]
struct Attached {
    /// For messages.
    interface: String,
    /// How it is attached.
    attachment: Attachment,
    /// Owns the attachment.
    _link: Link,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let hook = self.attachment.hook();
        tracing::info!(interface = self.interface, ?hook, "detaching a replication program");
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { xdp, tc, .. } = self;
        formatter.debug_struct("Programs").field("xdp", xdp).field("tc", tc).finish_non_exhaustive()
    }
}

impl Programs {
    /// Creates the maps under the settings' name, which must be free, see [`fence()`]. Needs `CAP_BPF` and `CAP_NET_ADMIN`, or root,
    /// and `CAP_SYS_ADMIN` if the BPF file system is yet to be mounted. Nothing is attached, and every group's mode is
    /// [`Mode::Off`].
    ///
    /// Fails if the settings contradict themselves, if the programs are not built in or of another schema, or if the kernel refuses.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        settings.check()?;
        let groups = u32::try_from(settings.groups.len()).expect("checked: a few");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(GROUPS_MAP, groups)
            .map_max_entries(CONTROL_MAP, groups)
            .map_max_entries(LOG_MAP, groups * SLOTS)
            .load(embedded::replication()?)
            .map_err(Error::CreateMaps)?;
        let bell = ebpf.take_map(BELL_MAP).ok_or_else(|| missing(BELL_MAP))?;
        let bell = Some(Bell(RingBuf::try_from(bell).map_err(in_map(BELL_MAP))?));
        let controls = array_descriptor(&ebpf, CONTROL_MAP)?;
        let groups = settings.groups.len();
        let map_memory = |source| Error::System { operation: "map the programs' memory", source };
        let control_memory =
            Mapping::new(controls, groups * size_of::<Control>(), true).map_err(map_memory)?;
        let log = array_descriptor(&ebpf, LOG_MAP)?;
        let log_bytes = groups * SLOTS as usize * size_of::<Slot>();
        let log = Mapping::new(log, log_bytes, false).map_err(map_memory)?;
        let shared = Arc::new(Shared::new(control_memory, log, groups));
        let pin = Pin::create(array_descriptor(&ebpf, CONTROL_MAP)?, &settings.pin)?;
        let mut programs = Self { xdp: None, tc: None, ebpf, bell, shared, _pin: pin };
        programs.configure(settings)?;
        Ok(programs)
    }

    fn configure(&mut self, settings: &Settings) -> Result<(), Error> {
        let own = Config { own: bits_of(settings.own) };
        let map = self.ebpf.map_mut(CONFIG_MAP).ok_or_else(|| missing(CONFIG_MAP))?;
        Array::<_, ConfigValue>::try_from(map)
            .and_then(|mut array| array.set(0, ConfigValue(own), 0))
            .map_err(in_map(CONFIG_MAP))?;
        let map = self.ebpf.map_mut(GROUPS_MAP).ok_or_else(|| missing(GROUPS_MAP))?;
        let mut table =
            HashMap::<_, GroupKeyValue, u32>::try_from(map).map_err(in_map(GROUPS_MAP))?;
        for (index, group) in (0..).zip(&settings.groups) {
            table.insert(GroupKeyValue(*group), index, 0).map_err(in_map(GROUPS_MAP))?;
        }
        Ok(())
    }

    /// Attaches what acknowledges and counts to an interface of the calling thread's network namespace: in the driver, or after it
    /// where that has no XDP, or loses answers, as a virtual pair does whose other end has no such program. Says which. The attachment belongs to this instance, not to the thread or namespace; it ends with
    /// [`Programs::detach_xdp`], when this instance is dropped, or when the process dies.
    ///
    /// Another XDP program on the interface is an error and stays.
    pub fn attach_xdp(&mut self, interface: &str) -> Result<XdpMode, Error> {
        check_detached(self.xdp.as_ref())?;
        // What cannot be found out is no pair.
        let mode = match is_virtual_pair(interface) {
            Ok(true) => XdpMode::Generic,
            Ok(false) | Err(_) => XdpMode::Native,
        };
        self.attach_xdp_in(interface, mode).or_else(|error| match error.errno() {
            Some(libc::EOPNOTSUPP) => self.attach_xdp_in(interface, XdpMode::Generic),
            _ => Err(error),
        })
    }

    /// The same in a mode that is known to be right for the interface.
    pub fn attach_xdp_in(&mut self, interface: &str, mode: XdpMode) -> Result<XdpMode, Error> {
        check_detached(self.xdp.as_ref())?;
        self.xdp = Some(self.attach(XDP_PROGRAM, interface, Attachment::Xdp(mode))?);
        Ok(mode)
    }

    /// Attaches what makes copies of frames that leave by an interface, likewise. Other TCX programs stay and run before this one,
    /// and once more for each copy.
    pub fn attach_tc(&mut self, interface: &str) -> Result<(), Error> {
        check_detached(self.tc.as_ref())?;
        self.tc = Some(self.attach(TC_PROGRAM, interface, Attachment::TcxEgress)?);
        Ok(())
    }

    fn attach(
        &mut self,
        program: &'static str,
        interface: &str,
        attachment: Attachment,
    ) -> Result<Attached, Error> {
        let interface_index = interface_index(interface)?;
        let program = load_program(&mut self.ebpf, program)?;
        let link =
            Link::create(program.as_fd(), interface_index, attachment.point(), attachment.flags())
                .map_err(|source| attach_error(interface, attachment, source))?;
        tracing::info!(interface, ?attachment, "attached a replication program");
        Ok(Attached { interface: interface.to_owned(), attachment, _link: link })
    }

    /// Detaches what acknowledges and counts; nothing happens if it is not attached.
    pub fn detach_xdp(&mut self) {
        self.xdp = None;
    }

    /// Detaches what makes copies; nothing happens if it is not attached.
    pub fn detach_tc(&mut self) {
        self.tc = None;
    }

    /// The memory of the group at this index of the settings.
    ///
    /// # Panics
    /// If there is no such group, or if its memory was handed out before and is still in use.
    pub fn group(&self, index: usize) -> SharedGroup {
        SharedGroup::new(Arc::clone(&self.shared), index)
    }

    /// What became of the frames since [`Programs::load`], over all CPUs.
    pub fn counters(&self) -> Result<Counters, Error> {
        let map = self.ebpf.map(COUNTERS_MAP).ok_or_else(|| missing(COUNTERS_MAP))?;
        let counters =
            PerCpuArray::<&MapData, CountersValue>::try_from(map).map_err(in_map(COUNTERS_MAP))?;
        let by_cpu = counters.get(&0, 0).map_err(in_map(COUNTERS_MAP))?;
        Ok(by_cpu.iter().fold(Counters::default(), |sum, cpu| sum.plus(cpu.0)))
    }

    /// What programs ring to wake the process.
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take_bell(&mut self) -> Bell {
        self.bell.take().expect("there is one bell")
    }

    /// Runs the XDP program once on a frame, without any interface. What it does to the shared memory is real. For tests.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<TestRun, Error> {
        let program = load_program(&mut self.ebpf, XDP_PROGRAM)?;
        let mut output = vec![0; frame.len().max(TEST_RUN_BYTES_MIN)];
        let run = test_run(program.as_fd(), frame, &mut output, 1)
            .map_err(|source| Error::System { operation: "run the replication program", source })?;
        output.truncate(run.output_bytes);
        let fate = match run.action {
            1 => Fate::Dropped,
            2 => Fate::Passed,
            3 => Fate::Answered,
            action => return Err(Error::Unanswered { action }),
        };
        Ok(TestRun { fate, frame: output })
    }
}

/// An answer may be longer than what it answers.
const TEST_RUN_BYTES_MIN: usize = 128;

impl Drop for Programs {
    fn drop(&mut self) {
        self.detach_xdp();
        self.detach_tc();
        self.shared.switch_off();
    }
}

fn check_detached(attached: Option<&Attached>) -> Result<(), Error> {
    let Some(Attached { attachment, interface, .. }) = attached else { return Ok(()) };
    Err(Error::AlreadyAttached { hook: attachment.hook(), interface: interface.clone() })
}

fn array_descriptor<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, Error> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(missing(name));
    };
    Ok(map.fd().as_fd())
}

fn bits_of(address: SocketAddrV4) -> u64 {
    member_bits(address.ip().octets(), address.port())
}

/// [`Config`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ConfigValue(Config);

/// [`Counters`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct CountersValue(Counters);

/// [`GroupKey`] as a map key.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct GroupKeyValue(GroupKey);

#[allow(unsafe_code, reason = "marks map values as plain old data, which the library cannot check")]
mod plain_old_data {
    // SAFETY: integers of one size only, so without padding; any bits make a valid value.
    unsafe impl aya::Pod for super::ConfigValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CountersValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::GroupKeyValue {}
}
