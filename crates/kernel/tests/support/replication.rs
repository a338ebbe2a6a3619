//! What tests of replication share.
#![allow(unsafe_code, reason = "marks a map's value as plain old data")]

use super::REQUIREMENTS;
use super::frames::{self, Datagram};
use ashlar_fastpath::replication::{Control, HEADER_BYTES, Header, MAGIC, VERSION, checksum_of};
use ashlar_kernel::probe::Feature;
use ashlar_kernel::replication::{GroupKey, Programs, Settings};
use aya::maps::{Array, Map, MapData};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes as _;

pub(crate) const GROUP: GroupKey = GroupKey { cluster: 0x00c1_u64 << 32 | 7, group: 5 };

/// What a test needs that shares memory with the programs.
pub(crate) fn requirements() -> Vec<Feature> {
    [&REQUIREMENTS[..], &[Feature::MappableMaps, Feature::CapSysAdmin]].concat()
}

/// A BPF file system of its own.
pub(crate) struct BpfDirectory(tempfile::TempDir);

impl BpfDirectory {
    pub(crate) fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount("bpf", directory.path(), "bpf", MountFlags::empty(), None).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The name of the shared memory.
    pub(crate) fn pin(&self) -> PathBuf {
        self.path().join("programs/control")
    }
}

impl Drop for BpfDirectory {
    fn drop(&mut self) {
        // Names of maps go with it.
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// Programs for one group.
pub(crate) fn load(own: SocketAddrV4, pin: PathBuf) -> Programs {
    Programs::load(&Settings { own, groups: vec![GROUP], pin }).unwrap()
}

/// A control as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct ControlValue(pub(crate) Control);

// SAFETY: integers of one size only; any bits make a valid value.
unsafe impl aya::Pod for ControlValue {}

/// The shared memory as any other process sees it.
pub(crate) fn open_controls(pin: &Path) -> Array<MapData, ControlValue> {
    Array::try_from(Map::Array(MapData::from_pin(pin).unwrap())).unwrap()
}

/// A header of this group with lengths and checksum left open.
pub(crate) fn header(kind: u8, view: u64, op: u64, digest: u64) -> Header {
    Header {
        magic: MAGIC.into(),
        version: VERSION,
        kind,
        cluster: GROUP.cluster.into(),
        group: (GROUP.group as u32).into(),
        view: view.into(),
        op: op.into(),
        digest: digest.into(),
        ..Header::default()
    }
}

/// The frame that begins with a header, once its length and checksum are right.
pub(crate) fn frame(mut header: Header, body: &[u8]) -> Vec<u8> {
    header.body_bytes = (body.len() as u32).into();
    header.checksum = 0.into();
    let checksum = checksum_of(&[header.as_bytes(), body].concat());
    header.checksum = checksum.into();
    let frame = [header.as_bytes(), body].concat();
    assert_eq!(frame.len(), HEADER_BYTES + body.len());
    frame
}

/// Addresses of the Ethernet, those of IP and their ports.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) stations: [[u8; 6]; 2],
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
}

/// The frame as a packet.
pub(crate) fn packet(route: &Route, frame: &[u8]) -> Vec<u8> {
    let end = |address: SocketAddrV4| (address.ip().octets(), address.port());
    let [from, to] = route.stations;
    let datagram =
        Datagram { source: end(route.source), destination: end(route.destination), payload: frame };
    frames::udp(from, to, &datagram)
}
