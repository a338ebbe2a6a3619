//! Which interface carries an address.

#![allow(unsafe_code, reason = "getifaddrs(3) gives a list of pointers")]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// A network interface of this namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As `ip link` shows it.
    pub name: String,
    /// Its Ethernet address; all zeros for the loopback interface.
    pub hardware_address: [u8; 6],
}

/// The interface that carries the address, if one with an Ethernet address does.
///
/// # Errors
/// When the interfaces cannot be listed.
pub fn interface_of(address: IpAddr) -> io::Result<Option<Interface>> {
    let entries = list()?;
    let carrier = entries.iter().find(|(_, property)| *property == Property::Ip(address));
    let Some((name, _)) = carrier else {
        return Ok(None);
    };
    let hardware_address = entries.iter().find_map(|(other, property)| match property {
        Property::Hardware(hardware_address) if other == name => Some(*hardware_address),
        _ => None,
    });
    Ok(hardware_address.map(|hardware_address| Interface { name: name.clone(), hardware_address }))
}

/// One of the addresses of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    Ip(IpAddr),
    Hardware([u8; 6]),
}

fn list() -> io::Result<Vec<(String, Property)>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the function writes a pointer to a list that is ours until it is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut entries = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or points to an entry of the list, which has not been freed.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: `ifa_addr` is null or points to an address of the family that it names, and lives as long as the list.
        if let Some(property) = unsafe { property(entry.ifa_addr) } {
            // SAFETY: every entry has a name that ends with a zero.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            entries.push((name.to_string_lossy().into_owned(), property));
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs, and everything kept of it was copied.
    unsafe { libc::freeifaddrs(first) };
    Ok(entries)
}

/// # Safety
/// `address` is null or points to an address of the family that it names.
unsafe fn property(address: *const libc::sockaddr) -> Option<Property> {
    // SAFETY: the caller's promise.
    let family = libc::c_int::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: of this family are `sockaddr_in`; it is read wherever it lies.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let octets = address.sin_addr.s_addr.to_ne_bytes();
            Some(Property::Ip(Ipv4Addr::from(octets).into()))
        }
        libc::AF_INET6 => {
            // SAFETY: of this family are `sockaddr_in6`.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Property::Ip(Ipv6Addr::from(address.sin6_addr.s6_addr).into()))
        }
        libc::AF_PACKET => {
            // SAFETY: of this family are `sockaddr_ll`.
            let address = unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() };
            let octets = address.sll_addr.get(..usize::from(address.sll_halen))?;
            octets.try_into().ok().map(Property::Hardware)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_loopback_interface_carries_its_address_and_none_carries_that_of_documents() {
        let interface = interface_of(Ipv4Addr::LOCALHOST.into()).unwrap().unwrap();
        assert_eq!(interface, Interface { name: "lo".to_owned(), hardware_address: [0; 6] });
        let documents = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(interface_of(documents.into()).unwrap(), None);
    }
}
