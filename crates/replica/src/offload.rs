//! Programs in the kernel that decide for replicas: what they are given, and the memory that they share.

use crate::clock::now_us;
use ashlar_kernel::replication::{
    Bell, Counters, Fenced, GroupKey, MEMBERS_MAX, Mode, Programs, Settings, SharedGroup, Terms,
    fence,
};
use ashlar_vr::{Allowed, Configuration, FastPath, Message, Share, Taken, View};
use ashlar_wire::replication::{Frame, Scope, decode};
use bytes::Bytes;
use std::{
    ffi::OsStr,
    fmt, fs, io,
    net::{SocketAddr, SocketAddrV4},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

/// How long programs go on when the replica's thread does not run, in microseconds: three heartbeats, which wake it.
const LEASE_US: u64 = 75_000;

/// What programs in the kernel do for a group's replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// They copy what a leader sends for its backups.
    pub fan_out: bool,
    /// They take and acknowledge what a leader sends to this replica. In volatile mode only.
    pub early_acknowledgement: bool,
    /// They count what backups acknowledge.
    pub quorum: bool,
}

impl Offload {
    /// Nothing.
    pub const NONE: Self = Self { fan_out: false, early_acknowledgement: false, quorum: false };
    /// Everything.
    pub const ALL: Self = Self { fan_out: true, early_acknowledgement: true, quorum: true };

    /// Each with its name.
    const NAMES: [(&'static str, Self); 3] = [
        ("fanout", Self { fan_out: true, ..Self::NONE }),
        ("early-ack", Self { early_acknowledgement: true, ..Self::NONE }),
        ("quorum", Self { quorum: true, ..Self::NONE }),
    ];

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fan_out: self.fan_out || other.fan_out,
            early_acknowledgement: self.early_acknowledgement || other.early_acknowledgement,
            quorum: self.quorum || other.quorum,
        }
    }

    /// The names of what it has.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |part: Self| self.and(part) == self;
        Self::NAMES.into_iter().filter(move |(_, part)| has(*part)).map(|(name, _)| name)
    }

    /// Of one name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, part)| part)
    }

    /// Whether frames that come in concern programs.
    pub(crate) fn receives(self) -> bool {
        self.early_acknowledgement || self.quorum
    }

    pub(crate) fn allowed(self) -> Allowed {
        let Self { early_acknowledgement, quorum, .. } = self;
        Allowed { early_acknowledgement, quorum }
    }
}

impl fmt::Display for Offload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        if names.is_empty() {
            formatter.write_str("none")
        } else {
            formatter.write_str(&names.join(","))
        }
    }
}

/// A name that is none of an offload's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of fanout, early-ack, quorum; none is for nothing, all for everything")]
pub struct UnknownOffload(String);

impl FromStr for Offload {
    type Err = UnknownOffload;

    fn from_str(text: &str) -> Result<Self, UnknownOffload> {
        match text {
            "none" => Ok(Self::NONE),
            "all" => Ok(Self::ALL),
            names => names.split(',').try_fold(Self::NONE, |sum, name| {
                let part = Self::of_name(name).ok_or_else(|| UnknownOffload(name.to_owned()))?;
                Ok(sum.and(part))
            }),
        }
    }
}

/// How a node's programs are found and kept.
#[derive(Clone, Debug)]
pub struct OffloadConfig {
    /// The interface that members are reached by, if there is one.
    pub interface: Option<String>,
    /// Where the programs' memory is pinned, on a file system of BPF, so that whoever starts after a process that was killed can shut its
    /// programs out.
    pub pin: PathBuf,
    /// A file that says so while it is.
    pub marker: PathBuf,
}

/// Why programs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// Programs are for IPv4.
    #[error("{0} is no address of IPv4")]
    NotIpv4(SocketAddr),
    /// No interface has the socket's address.
    #[error("no Ethernet interface has the address {0}")]
    NoInterface(SocketAddr),
    /// Early acknowledgement cannot wait for a disk.
    #[error("early-ack is for volatile groups: group {0} is durable")]
    Durable(u32),
    /// There is no such group, or programs were never to do anything for it.
    #[error("there is no group {0} here that programs may do anything for")]
    NoGroup(u32),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The kernel does not take them.
    #[error(transparent)]
    Kernel(#[from] ashlar_kernel::Error),
    /// The file that says where they are cannot be written or read.
    #[error("{}: {source}", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl OffloadError {
    /// The error and what is behind it, in one line.
    pub fn causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        text
    }
}

/// The programs of a node, and which of its interfaces they are attached to.
pub(crate) struct Installed {
    /// None while this is dropped.
    programs: Option<Programs>,
    interface: String,
    marker: PathBuf,
    receives: bool,
    sends: bool,
}

impl Installed {
    /// Loads programs for groups, in their order at the node.
    pub(crate) fn new(
        config: &OffloadConfig,
        own: SocketAddr,
        groups: Vec<GroupKey>,
    ) -> Result<Self, OffloadError> {
        let own = ipv4(own)?;
        let interface = config.interface.clone().ok_or(OffloadError::NoInterface(own.into()))?;
        let marker = config.marker.clone();
        let written = fs::write(&marker, config.pin.as_os_str().as_bytes());
        written.map_err(|source| OffloadError::Marker { path: marker.clone(), source })?;
        let programs = Programs::load(&Settings { own, groups, pin: config.pin.clone() })?;
        let programs = Some(programs);
        Ok(Self { programs, interface, marker, receives: false, sends: false })
    }

    /// Attaches what is needed for `offload`, which is that of all groups together, and detaches the rest.
    pub(crate) fn attach(&mut self, offload: Offload) -> Result<(), OffloadError> {
        let Some(programs) = &mut self.programs else { return Ok(()) };
        if offload.receives() != self.receives {
            match offload.receives() {
                true => drop(programs.attach_xdp(&self.interface)?),
                false => programs.detach_xdp(),
            }
            self.receives = offload.receives();
        }
        if offload.fan_out != self.sends {
            match offload.fan_out {
                true => programs.attach_tc(&self.interface)?,
                false => programs.detach_tc(),
            }
            self.sends = offload.fan_out;
        }
        Ok(())
    }

    /// The memory of the group at a place among those that were given.
    pub(crate) fn group(&self, index: usize) -> SharedGroup {
        self.loaded().group(index)
    }

    /// What programs ring.
    pub(crate) fn take_bell(&mut self) -> Bell {
        let programs = self.programs.as_mut().expect("they are there until this is dropped");
        programs.take_bell()
    }

    /// What programs have counted.
    pub(crate) fn counters(&self) -> Result<Counters, ashlar_kernel::Error> {
        self.loaded().counters()
    }

    fn loaded(&self) -> &Programs {
        self.programs.as_ref().expect("they are there until this is dropped")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // They go first, and their pin with them. If the file stays, whoever starts next looks for a pin that is not there.
        self.programs = None;
        let _ = fs::remove_file(&self.marker);
    }
}

/// Shuts out the programs of a former process, if it left any: nothing that they would acknowledge from now on is here.
pub(crate) fn shut_out_former(config: &OffloadConfig) -> Result<(), OffloadError> {
    // Where it would have left them if it was configured as this one; the file tells if it was not.
    shut_out(&config.pin)?;
    let marker = &config.marker;
    let failed = |source| OffloadError::Marker { path: marker.clone(), source };
    match fs::read(marker) {
        Ok(pin) => shut_out(Path::new(OsStr::from_bytes(&pin)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    fs::remove_file(marker).map_err(failed)
}

fn shut_out(pin: &Path) -> Result<(), OffloadError> {
    let Fenced { groups, lost_frames, .. } = fence(pin)?;
    if groups > 0 {
        tracing::info!(groups, ?lost_frames, "shut out the programs of a former process");
    }
    Ok(())
}

fn ipv4(address: SocketAddr) -> Result<SocketAddrV4, OffloadError> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(OffloadError::NotIpv4(address)),
    }
}

/// The memory that a group's replica shares with programs.
pub(crate) struct Shared {
    scope: Scope,
    group: SharedGroup,
    /// A frame; kept for its room.
    frame: Vec<u8>,
}

impl Shared {
    pub(crate) fn new(scope: Scope, group: SharedGroup) -> Self {
        Self { scope, group, frame: Vec::new() }
    }

    /// The places that programs made no copies for since this was last asked.
    pub(crate) fn take_unreached(&mut self) -> u8 {
        self.group.take_unreached()
    }
}

impl FastPath for Shared {
    fn close(&mut self) {
        if !self.group.is_locked() {
            self.group.lock();
        }
    }

    fn open(&mut self, now_us: u64, share: &Share, configuration: &Configuration) {
        self.close();
        let mut members = [None; MEMBERS_MAX];
        for (known, address) in members.iter_mut().zip(configuration.members()) {
            *known = ipv4(*address).ok();
        }
        let (view, place, leader, needed) = match *share {
            Share::Nothing => (View::default(), 0, 0, 0),
            Share::Follow { view, leader, place, .. } => (view, place, leader, 0),
            Share::Lead { view, place, needed, .. } => (view, place, place, needed),
        };
        let (view, [place, leader, needed]) =
            (view.bits(), [place, leader, needed].map(|count| count as u8));
        self.group.configure(&Terms { view, place, leader, needed, members });
        self.group.clear_acknowledged();
        let (mode, commit) = match *share {
            Share::Nothing => (Mode::Off, 0),
            Share::Follow { op, digest, .. } => {
                self.group.set_tail(op, digest);
                (Mode::Follow, 0)
            }
            Share::Lead { commit, .. } => (Mode::Lead, commit),
        };
        self.group.set_mode(mode);
        self.keep_open(now_us, commit);
        self.group.unlock();
    }

    fn keep_open(&mut self, _now_us: u64, commit: u64) {
        // The replica's present moment may lie a little back.
        self.group.extend_lease(1_000 * (now_us() + LEASE_US));
        self.group.note_committed(commit);
    }

    fn take(&mut self) -> Option<Taken> {
        if !self.group.take(&mut self.frame) {
            return None;
        }
        let frame = Bytes::copy_from_slice(&self.frame);
        match decode(self.scope.cluster, &frame) {
            Ok((_, _, Frame::Replica(Message::Prepare { commit, entries, .. }))) => {
                Some(Taken::Prepare { commit, entries })
            }
            _ => Some(Taken::Unreadable),
        }
    }

    fn acknowledged(&mut self, place: usize) -> Option<(u64, u64)> {
        self.group.acknowledged(place as u8)
    }

    fn fall_asleep(&mut self) -> bool {
        self.group.fall_asleep()
    }
}
