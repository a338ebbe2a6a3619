//! What user space tells the kernel program: rule, probabilities, seed.

use crate::frame::Headers;
use core::fmt;

/// Version of the layout of every value that user space and kernel share here. A program ignores a configuration of another
/// version, and the loader refuses a program of another version: both happen when only one of them was rebuilt.
pub const SCHEMA_VERSION: u32 = 1;

/// Parts in one: probabilities are counted in parts per million.
pub const PPM: u32 = 1_000_000;

/// The way of a frame, seen from the interface's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// It came in by the interface.
    Ingress = 1,
    /// It is about to leave by the interface.
    Egress = 2,
}

/// Which frames may suffer: those that meet every condition. Without conditions, all frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// Which of the conditions below are set: bits `HAS_…`.
    conditions: u16,
    /// The port, in host order.
    port: u16,
    /// The IP protocol.
    protocol: u8,
    /// A [`Direction`].
    direction: u8,
    /// Keeps the layout free of padding.
    reserved: [u8; 2],
    /// The IPv4 source address, in network order.
    source: [u8; 4],
    /// The IPv4 destination address, in network order.
    destination: [u8; 4],
}

const HAS_PROTOCOL: u16 = 1 << 0;
const HAS_PORT: u16 = 1 << 1;
const HAS_SOURCE: u16 = 1 << 2;
const HAS_DESTINATION: u16 = 1 << 3;
const HAS_DIRECTION: u16 = 1 << 4;

impl Rule {
    /// Matches every frame, IP or not.
    pub const ANY: Self = Self {
        conditions: 0,
        port: 0,
        protocol: 0,
        direction: 0,
        reserved: [0; 2],
        source: [0; 4],
        destination: [0; 4],
    };

    /// Only this IP protocol, over IPv4 or IPv6.
    #[must_use]
    pub const fn with_protocol(mut self, protocol: u8) -> Self {
        self.conditions |= HAS_PROTOCOL;
        self.protocol = protocol;
        self
    }

    /// Only TCP and UDP from or to this port.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.conditions |= HAS_PORT;
        self.port = port;
        self
    }

    /// Only IPv4 from this address (network order, as `Ipv4Addr::octets` gives it).
    #[must_use]
    pub const fn with_source(mut self, address: [u8; 4]) -> Self {
        self.conditions |= HAS_SOURCE;
        self.source = address;
        self
    }

    /// Only IPv4 to this address (network order, as `Ipv4Addr::octets` gives it).
    #[must_use]
    pub const fn with_destination(mut self, address: [u8; 4]) -> Self {
        self.conditions |= HAS_DESTINATION;
        self.destination = address;
        self
    }

    /// Only frames of this direction.
    #[must_use]
    pub const fn with_direction(mut self, direction: Direction) -> Self {
        self.conditions |= HAS_DIRECTION;
        self.direction = direction as u8;
        self
    }

    /// Whether a frame with these headers, going this way, meets every condition.
    #[inline(always)]
    pub fn matches(&self, direction: Direction, headers: &Headers) -> bool {
        let unset = |condition: u16| self.conditions & condition == 0;
        (unset(HAS_DIRECTION) || self.direction == direction as u8)
            && (unset(HAS_PROTOCOL) || headers.protocol() == Some(self.protocol))
            && (unset(HAS_PORT)
                || headers
                    .ports()
                    .is_some_and(|p| p.source == self.port || p.destination == self.port))
            && (unset(HAS_SOURCE) || headers.ipv4().is_some_and(|a| a.source == self.source))
            && (unset(HAS_DESTINATION)
                || headers.ipv4().is_some_and(|a| a.destination == self.destination))
    }
}

/// How often each fault befalls a matching frame, in parts per million. The faults exclude each other: at most one per frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probabilities {
    /// The frame is lost.
    pub drop_ppm: u32,
    /// The frame arrives twice.
    pub duplicate_ppm: u32,
    /// One byte of the frame past its Ethernet header is changed.
    pub corrupt_ppm: u32,
}

impl Probabilities {
    /// No faults at all.
    pub const NONE: Self = Self { drop_ppm: 0, duplicate_ppm: 0, corrupt_ppm: 0 };
}

/// The probabilities add up to more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbabilitiesError {
    /// Their sum, in parts per million.
    pub sum_ppm: u64,
}

impl fmt::Display for ProbabilitiesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "drop_ppm + duplicate_ppm + corrupt_ppm: expected at most {PPM} in sum, found {}",
            self.sum_ppm
        )
    }
}

impl core::error::Error for ProbabilitiesError {}

/// The whole configuration of one interface, as it lies in the map. All zero, as the kernel creates it, means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// Stamped by [`Config::new`]: see [`SCHEMA_VERSION`].
    schema_version: u32,
    drop_ppm: u32,
    duplicate_ppm: u32,
    corrupt_ppm: u32,
    /// Names the random sequence.
    pub(super) seed: u64,
    /// Which frames may suffer.
    pub(super) rule: Rule,
}

impl Config {
    /// What a map holds before the first configuration: every frame passes and is counted as unconfigured.
    pub const ABSENT: Self = Self {
        schema_version: 0,
        drop_ppm: 0,
        duplicate_ppm: 0,
        corrupt_ppm: 0,
        seed: 0,
        rule: Rule::ANY,
    };

    /// A configuration of the current schema. Fails if the probabilities add up to more than one.
    pub const fn new(
        seed: u64,
        rule: Rule,
        probabilities: Probabilities,
    ) -> Result<Self, ProbabilitiesError> {
        let Probabilities { drop_ppm, duplicate_ppm, corrupt_ppm } = probabilities;
        let sum_ppm = drop_ppm as u64 + duplicate_ppm as u64 + corrupt_ppm as u64;
        if sum_ppm > PPM as u64 {
            return Err(ProbabilitiesError { sum_ppm });
        }
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            drop_ppm,
            duplicate_ppm,
            corrupt_ppm,
            seed,
            rule,
        })
    }

    /// How often each fault happens.
    #[inline(always)]
    pub const fn probabilities(&self) -> Probabilities {
        Probabilities {
            drop_ppm: self.drop_ppm,
            duplicate_ppm: self.duplicate_ppm,
            corrupt_ppm: self.corrupt_ppm,
        }
    }

    /// Whether this is a configuration, and of the layout that this code was compiled with.
    #[inline(always)]
    pub const fn is_of_this_schema(&self) -> bool {
        self.schema_version == SCHEMA_VERSION
    }
}

// The kernel copies these as bytes: no padding, the same size on both sides.
const _: () = assert!(size_of::<Rule>() == 16);
const _: () = assert!(size_of::<Config>() == 4 * 4 + 8 + 16);
