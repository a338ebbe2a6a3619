//! Programs in the kernel that decide for replicas: what they are given, and the memory that they share.

use crate::clock::now_us;
use ashlar_kernel::{
    chaos::XdpMode,
    replication::{
        Bell, Counters, Fenced, GroupKey, MEMBERS_MAX, Mode, Programs, Settings, SharedGroup,
        Terms, fence,
    },
};
use ashlar_vr::{Allowed, Configuration, FastPath, Members, Message, Share, Taken, View};
use ashlar_wire::replication::{Frame, Scope, decode};
use std::{
    ffi::OsStr,
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    thread::sleep,
    time::Duration,
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

    /// What either has.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            fan_out: self.fan_out || other.fan_out,
            early_acknowledgement: self.early_acknowledgement || other.early_acknowledgement,
            quorum: self.quorum || other.quorum,
        }
    }

    /// The names of what it has.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |part: Self| self.with(part) == self;
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
                Ok(sum.with(part))
            }),
        }
    }
}

/// How a node's programs are found and kept.
#[derive(Clone, Debug)]
pub struct OffloadConfig {
    /// The interface that members are reached by, if there is one.
    pub interface: Option<String>,
    /// How programs that see what comes in are attached; none for what suits the interface.
    pub xdp: Option<XdpMode>,
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
    /// The node has stopped, or cannot listen to programs.
    #[error("the node's thread has stopped, or cannot listen to programs")]
    Stopped,
    /// The kernel does not take them.
    #[error(transparent)]
    Kernel(#[from] ashlar_kernel::Error),
    /// The file that says where they are cannot be written or read.
    #[error("{}: cannot be written or read", path.display())]
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
    /// As it is to be.
    xdp: Option<XdpMode>,
    marker: PathBuf,
    /// How programs that see what comes in are attached; none if they are not.
    receives: Option<XdpMode>,
    /// Whether those that see what leaves are.
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
        let programs = Programs::load(&Settings { own, groups, pin: config.pin.clone() });
        let programs = programs.inspect_err(|_| {
            // There is nothing to shut out.
            let _ = fs::remove_file(&marker);
        })?;
        let programs = Some(programs);
        Ok(Self { programs, interface, xdp: config.xdp, marker, receives: None, sends: false })
    }

    /// Attaches what is needed for `offload`, which is that of all groups together, and detaches the rest.
    pub(crate) fn attach(&mut self, offload: Offload) -> Result<(), OffloadError> {
        let Some(programs) = &mut self.programs else { return Ok(()) };
        if offload.receives() != self.receives.is_some() {
            self.receives = match (offload.receives(), self.xdp) {
                (true, Some(mode)) => Some(programs.attach_xdp_in(&self.interface, mode)?),
                (true, None) => Some(programs.attach_xdp(&self.interface)?),
                (false, _) => {
                    programs.detach_xdp();
                    None
                }
            };
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

    /// Whether trains of datagrams come to members as trains: behind the driver, programs see each as one datagram, and leave it to the
    /// replica. Members are taken to be attached alike.
    pub(crate) fn sees_trains(&self) -> bool {
        self.receives == Some(XdpMode::Generic)
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
    let marker = &config.marker;
    let failed = |source| OffloadError::Marker { path: marker.clone(), source };
    let told = match fs::read(marker) {
        Ok(pin) => Some(pin),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    // Where it would have left them if it was configured as this one. Who may not even look has never loaded any, unless the file says so.
    let may_not_look = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let mut is_found = false;
    if told.is_some() || !config.pin.symlink_metadata().is_err_and(|error| may_not_look(&error)) {
        is_found |= shut_out(&config.pin)?;
    }
    let Some(told) = told else { return Ok(()) };
    is_found |= shut_out(Path::new(OsStr::from_bytes(&told)))?;
    if !is_found {
        // It may be there where others look. Nobody extends a dead process's lease: its programs end by themselves.
        sleep(Duration::from_micros(LEASE_US));
    }
    fs::remove_file(marker).map_err(failed)
}

/// True if there was something to shut out.
fn shut_out(pin: &Path) -> Result<bool, OffloadError> {
    let Fenced { groups, lost_frames, .. } = fence(pin)?;
    if groups > 0 {
        tracing::info!(groups, ?lost_frames, "shut out the programs of a former process");
    }
    Ok(groups > 0)
}

/// Which members are reached by the interface that has the own address, as far as the kernel says: programs send copies by that one
/// only.
pub(crate) fn near(own: SocketAddr, members: &[SocketAddr]) -> Members {
    let is_near = |member: &SocketAddr| {
        let route = || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(member)?;
            socket.local_addr()
        };
        member.is_ipv4() && route().is_ok_and(|source: SocketAddr| source.ip() == own.ip())
    };
    let places = members.iter().enumerate().filter(|(_, member)| is_near(member));
    places.fold(Members::NONE, |near, (place, _)| near.with(place))
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
}

impl Shared {
    pub(crate) fn new(scope: Scope, group: SharedGroup) -> Self {
        Self { scope, group }
    }

    /// How many frames for several members programs have looked at since this was last asked, and the places that they made no copies
    /// for.
    pub(crate) fn take_fanned_out(&mut self) -> (u64, u8) {
        (self.group.take_fanned_out(), self.group.take_unreached())
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
        let mut frame = Vec::new();
        if !self.group.take(&mut frame) {
            return None;
        }
        match decode(self.scope.cluster, &frame.into()) {
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

    fn wake_up(&mut self) {
        self.group.wake_up();
    }
}
