//! Offloads of an interface, by the ethtool ioctls: the `ethtool` program need not be installed.

#![allow(unsafe_code, reason = "the ethtool ioctl takes a pointer inside a structure")]

use crate::error::{Context, Result};
use crate::namespace;
use rustix::net::{AddressFamily, SocketType};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::AsRawFd;

/// An offload: work on frames that an interface claims to do itself, so that the stack hands it larger or unfinished
/// frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Feature {
    /// Checksums of frames that leave (`ethtool -K … tx`).
    TransmitChecksum,
    /// Cutting TCP streams into frames (`tso`).
    TcpSegmentation,
    /// Cutting large packets of any kind just before they leave (`gso`).
    GenericSegmentation,
    /// Joining frames that arrive (`gro`).
    GenericReceive,
}

impl Feature {
    /// All of them, in an order in which they can be switched on: segmentation depends on checksums.
    pub(crate) const ALL: [Self; 4] = [
        Self::TransmitChecksum,
        Self::TcpSegmentation,
        Self::GenericSegmentation,
        Self::GenericReceive,
    ];

    /// The commands that read and write it, from linux/ethtool.h.
    fn commands(self) -> (u32, u32) {
        match self {
            Self::TransmitChecksum => (0x16, 0x17),
            Self::TcpSegmentation => (0x1e, 0x1f),
            Self::GenericSegmentation => (0x23, 0x24),
            Self::GenericReceive => (0x2b, 0x2c),
        }
    }
}

/// The value of one offload of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    /// The network namespace that the interface is in.
    pub(crate) namespace: String,
    /// The interface's name there.
    pub(crate) interface: String,
    /// Which offload.
    pub(crate) feature: Feature,
    /// Whether it is on.
    pub(crate) on: bool,
}

/// Reads every offload of an interface.
pub(crate) fn read(namespace: &str, interface: &str) -> Result<Vec<Setting>> {
    Feature::ALL
        .into_iter()
        .map(|feature| {
            let on = namespace::within(namespace, || exchange(interface, feature.commands().0, 0))?
                .context(|| format!("read {feature:?} of {interface} in {namespace}"))?
                != 0;
            Ok(Setting {
                namespace: namespace.to_owned(),
                interface: interface.to_owned(),
                feature,
                on,
            })
        })
        .collect()
}

impl Setting {
    /// Makes it so.
    pub(crate) fn apply(&self) -> Result<()> {
        let (_, write) = self.feature.commands();
        namespace::within(&self.namespace, || exchange(&self.interface, write, u32::from(self.on)))?
            .map(|_| ())
            .context(|| {
                format!("set {:?} of {} in {}", self.feature, self.interface, self.namespace)
            })
    }
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Runs one command that takes and returns a number, on an interface of the calling thread's namespace.
fn exchange(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: `ifreq` is plain data, for which all zero bits are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *target = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads the name, which ends with a zero, and reads and writes `value` through the pointer;
    // both outlive the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use ashlar_kernel::probe::Feature as Needs;
    use ashlar_kernel::testing::{LEFT_INTERFACE, NamespacePair, Side, ledger};

    #[test]
    fn every_offload_can_be_switched_and_read_back() {
        let needs = [Needs::Root, Needs::NetworkNamespaces, Needs::IpCommand];
        if !ledger("every_offload_can_be_switched_and_read_back", &needs) {
            return;
        }
        let pair = NamespacePair::create();
        let namespace = pair.namespace(Side::Left);
        let before = read(&namespace, LEFT_INTERFACE).unwrap();
        for setting in &before {
            Setting { on: !setting.on, ..setting.clone() }.apply().unwrap();
            let now = read(&namespace, LEFT_INTERFACE).unwrap();
            let same = now.iter().find(|now| now.feature == setting.feature).unwrap();
            assert_eq!(same.on, !setting.on, "{:?}", setting.feature);
            setting.apply().unwrap();
        }
        assert_eq!(read(&namespace, LEFT_INTERFACE).unwrap(), before);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error_with_its_name() {
        let needs = [Needs::Root, Needs::NetworkNamespaces, Needs::IpCommand];
        if !ledger("an_interface_that_is_not_there_is_an_error_with_its_name", &needs) {
            return;
        }
        let pair = NamespacePair::create();
        for interface in ["absent", "a-name-far-too-long-for-the-kernel"] {
            let error = read(&pair.namespace(Side::Left), interface).unwrap_err().to_string();
            assert!(error.contains(interface), "{error}");
        }
    }
}
