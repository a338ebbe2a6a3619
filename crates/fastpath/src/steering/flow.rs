//! What the flow table holds.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// What an interface without an address has.
    pub const NONE: Self = Self([0; 6]);

    /// Whether one host can have it: neither zero nor a group's.
    #[inline(always)]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.to_bits() != 0
    }

    /// The address in the lower 48 bits, its first byte lowest.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    #[inline(always)]
    const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, ..] = bits.to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The host that has a flow's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Where its frames go.
    pub mac: MacAddress,
    /// Which node it is, to forget all of its flows when it dies.
    pub id: u16,
}

impl Owner {
    /// Both in one word, so that a reader in the kernel sees one owner or another, never a mixture.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        self.mac.to_bits() | (self.id as u64) << 48
    }

    /// The inverse of [`Owner::to_bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self { mac: MacAddress::from_bits(bits), id: (bits >> 48) as u16 }
    }
}

/// Names a flow: the key of the table. IPv4 addresses are mapped into IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// The client's address, in network order.
    pub client_address: [u8; 16],
    /// The service's address, in network order.
    pub service_address: [u8; 16],
    /// The client's port, in host order.
    pub client_port: u16,
    /// The service's port, in host order.
    pub service_port: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 36);

impl FlowKey {
    /// The flow from a client to a service.
    pub const fn new(client: SocketAddr, service: SocketAddr) -> Self {
        Self {
            client_address: mapped(client.ip()),
            service_address: mapped(service.ip()),
            client_port: client.port(),
            service_port: service.port(),
        }
    }

    /// The client's end.
    pub const fn client(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from_octets(self.client_address).to_canonical(), self.client_port)
    }

    /// The service's end.
    pub const fn service(&self) -> SocketAddr {
        SocketAddr::new(
            Ipv6Addr::from_octets(self.service_address).to_canonical(),
            self.service_port,
        )
    }

    /// The whole key in 64 bits, well mixed. Not a secret: collisions can be made on purpose and must do no harm.
    #[inline(always)]
    pub const fn digest(&self) -> u64 {
        let c = halves(self.client_address);
        let s = halves(self.service_address);
        let ports = (self.client_port as u64) << 16 | self.service_port as u64;
        let mut digest = mix(c[0], ports);
        digest = mix(digest, c[1]);
        digest = mix(digest, s[0]);
        mix(digest, s[1])
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} -> {}", self.client(), self.service())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

const fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[inline(always)]
const fn halves(address: [u8; 16]) -> [u64; 2] {
    let bits = u128::from_le_bytes(address);
    [bits as u64, (bits >> 64) as u64]
}

/// One step of a multiplicative hash: every bit of both affects the upper half, which is folded back.
#[inline(always)]
const fn mix(digest: u64, word: u64) -> u64 {
    let product = (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ product >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// What the table says about a flow. The kernel changes single fields in place, each with one store, so that a reader at the same
/// time sees an old or a new value of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// The lower half of the key's digest. First of all fields: the kernel may use the memory of a removed entry again while another
    /// CPU still reads there; that reader takes this field last, and knows that it read about another flow.
    pub identity: u32,
    /// 1 after a FIN or RST of the client: the connection is about to end.
    pub closing: u32,
    /// An [`Owner`], as bits.
    pub owner: u64,
    /// Which hand-off of this connection made the entry: higher ones are newer. Never 0.
    pub epoch: u64,
    /// When the last frame of the flow came, in nanoseconds since the host started (within [`TOUCH_INTERVAL_NS`](super::TOUCH_INTERVAL_NS)).
    pub last_seen_ns: u64,
}

// Eight bytes more would cost half as much memory again: the kernel's allocator gives an entry the next of 128 and 192 bytes.
const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    /// An entry of no flow, for readers that need some value.
    pub const EMPTY: Self = Self { identity: 0, closing: 0, owner: 0, epoch: 0, last_seen_ns: 0 };

    /// What [`Entry::identity`] is for a flow with this digest.
    #[inline(always)]
    pub const fn identity_of(digest: u64) -> u32 {
        digest as u32
    }

    /// Who owns the flow.
    #[inline(always)]
    pub const fn owner(&self) -> Owner {
        Owner::from_bits(self.owner)
    }

    /// Whether the client sent a FIN or RST.
    #[inline(always)]
    pub const fn is_closing(&self) -> bool {
        self.closing != 0
    }
}

/// An entry, if there is one. Not an `Option`: the kernel's verifier refuses to move the undefined bytes of a `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryOrNone {
    /// Whether there is one.
    pub is_present: bool,
    /// The entry; [`Entry::EMPTY`] if there is none.
    pub entry: Entry,
}

impl EntryOrNone {
    /// No entry.
    pub const NONE: Self = Self { is_present: false, entry: Entry::EMPTY };

    /// An entry.
    #[inline(always)]
    pub const fn some(entry: Entry) -> Self {
        Self { is_present: true, entry }
    }

    /// As an option, outside of the kernel.
    pub const fn get(self) -> Option<Entry> {
        if self.is_present { Some(self.entry) } else { None }
    }
}
