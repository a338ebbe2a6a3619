//! What user space tells the kernel program.

use super::control::ControlKey;
use super::flow::MacAddress;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Version of the layout of every value that user space and kernel share here. A program ignores a configuration of another
/// version, and the loader refuses a program of another version: both happen when only one of them was rebuilt.
pub const SCHEMA_VERSION: u32 = 1;

/// An address that no frame is sent to.
const NO_ADDRESS: [u8; 16] = [0; 16];

/// Where control frames are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlAddresses {
    /// This host's IPv4 address for control, if any.
    pub ipv4: Option<Ipv4Addr>,
    /// This host's IPv6 address for control, if any.
    pub ipv6: Option<Ipv6Addr>,
    /// The UDP port, of both.
    pub port: u16,
}

/// The whole configuration of one instance, as it lies in the map. All zero, as the kernel creates it, means "none".
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// Stamped by [`Config::new`]: see [`SCHEMA_VERSION`].
    schema_version: u32,
    control_port: u16,
    /// The interface's own address.
    mac: [u8; 6],
    /// Keeps the layout free of padding.
    reserved: u32,
    control_ipv4: [u8; 16],
    control_ipv6: [u8; 16],
    key: [u64; 2],
    incarnation: u64,
}

// The kernel copies this as bytes: no padding, the same size on both sides.
const _: () = assert!(size_of::<Config>() == 4 + 2 + 6 + 4 + 2 * 16 + 2 * 8 + 8);

impl Config {
    /// What a map holds before the first configuration: every frame passes and is counted as unconfigured.
    pub const ABSENT: Self = Self {
        schema_version: 0,
        control_port: 0,
        mac: [0; 6],
        reserved: 0,
        control_ipv4: NO_ADDRESS,
        control_ipv6: NO_ADDRESS,
        key: [0; 2],
        incarnation: 0,
    };

    /// A configuration of the current schema. `incarnation` names this life of the table and must not be 0.
    pub fn new(
        mac: MacAddress,
        control: ControlAddresses,
        key: &ControlKey,
        incarnation: u64,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            control_port: control.port,
            mac: mac.0,
            reserved: 0,
            control_ipv4: control.ipv4.map_or(NO_ADDRESS, |a| a.to_ipv6_mapped().octets()),
            control_ipv6: control.ipv6.map_or(NO_ADDRESS, |a| a.octets()),
            key: key.words(),
            incarnation,
        }
    }

    /// Whether this is a configuration, and of the layout that this code was compiled with.
    #[inline(always)]
    pub const fn is_of_this_schema(&self) -> bool {
        self.schema_version == SCHEMA_VERSION
    }

    /// The interface's own address.
    #[inline(always)]
    pub const fn mac(&self) -> MacAddress {
        MacAddress(self.mac)
    }

    /// The words of the key that authenticates control frames.
    #[inline(always)]
    pub const fn key_words(&self) -> [u64; 2] {
        self.key
    }

    /// Names this life of the table.
    #[inline(always)]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether control frames are sent to this address and port.
    #[inline(always)]
    pub const fn is_control(&self, address: &[u8; 16], port: u16) -> bool {
        let address = u128::from_ne_bytes(*address);
        port == self.control_port
            && address != u128::from_ne_bytes(NO_ADDRESS)
            && (address == u128::from_ne_bytes(self.control_ipv4)
                || address == u128::from_ne_bytes(self.control_ipv6))
    }
}

impl core::fmt::Debug for Config {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Config")
            .field("mac", &self.mac())
            .field("control_port", &self.control_port)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
