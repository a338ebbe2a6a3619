//! Attaching the programs to interfaces, and whether those are still the same.

use super::system_call::interface_mac;
use super::{MacAddress, Place, Steering, XDP_PROGRAM};
use crate::Error;
use crate::chaos::{Attachment, XdpMode, attach_error, interface_index};
use crate::link::{AttachPoint, Link};
use crate::load::load_program;
use std::os::fd::AsFd as _;

/// The most ports of a switch that one instance is attached to.
pub const PORTS_MAX: usize = 256;

/// Where in the kernel frames are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// At the driver. The fastest; the sender's interface must not leave checksums to others, which virtual ones do.
    Xdp(XdpMode),
    /// Where the network stack takes frames: works with every interface, offloads included.
    Tc,
}

impl Attach {
    const fn attachment(self) -> Attachment {
        match self {
            Self::Xdp(mode) => Attachment::Xdp(mode),
            Self::Tc => Attachment::TcxIngress,
        }
    }

    pub(super) const fn program(self, place: Place) -> &'static str {
        match (self, place) {
            (Self::Xdp(_), Place::Host) => XDP_PROGRAM,
            (Self::Tc, Place::Host) => "steering_tc",
            (Self::Xdp(_), Place::Port) => "steering_port_xdp",
            (Self::Tc, Place::Port) => "steering_port_tc",
        }
    }

    const fn point_and_flags(self) -> (AttachPoint, u32) {
        match self {
            Self::Xdp(XdpMode::Generic) => (AttachPoint::Xdp, 1 << 1),
            Self::Xdp(XdpMode::Native) => (AttachPoint::Xdp, 1 << 2),
            Self::Tc => (AttachPoint::TcxIngress, 0),
        }
    }
}

/// One attachment.
#[derive(Debug)]
pub(super) struct Attached {
    /// For messages.
    interface: String,
    /// Which one of this name it is: one that was made again later has another.
    interface_index: u32,
    /// How it is attached.
    attach: Attach,
    /// Owns the attachment.
    _link: Link,
}

impl Drop for Attached {
    fn drop(&mut self) {
        tracing::info!(interface = self.interface, "detaching a steering program");
    }
}

impl Steering {
    /// Attaches to the interface that clients' frames are addressed to, in the calling thread's network namespace. The attachment
    /// belongs to this instance, not to the thread or namespace; it ends with [`Steering::detach`], when this instance is dropped,
    /// or when the process dies.
    ///
    /// Another XDP program on the interface is an error and stays. Other TCX programs stay too and run before this one.
    pub fn attach(&mut self, interface: &str, attach: Attach) -> Result<(), Error> {
        self.check_detached()?;
        let link = self.attach_to_own(interface, attach)?;
        self.attached = vec![link];
        Ok(())
    }

    /// Attaches to ports of a switch, those by which clients' frames come in, and to the switch's own interface, the one that has
    /// the control address: usually the bridge that the ports belong to. Frames of moved connections get their owner's address at
    /// the port, and the bridge delivers them; control frames are answered at the switch's own interface, always by traffic
    /// control, whichever port they come in by. All share one table. For the rest, as [`Steering::attach`].
    ///
    /// # Panics
    /// If there is no port, or more than [`PORTS_MAX`].
    pub fn attach_to_ports(
        &mut self,
        own_interface: &str,
        ports: &[String],
        attach: Attach,
    ) -> Result<(), Error> {
        assert!((1..=PORTS_MAX).contains(&ports.len()), "a switch has ports");
        self.check_detached()?;
        // Dropped, and with it detached, if one of them fails. Requests first: nobody is steered before somebody could be told.
        let mut attached = vec![self.attach_to_own(own_interface, Attach::Tc)?];
        for port in ports {
            attached.push(self.link(port, attach, Place::Port)?);
        }
        self.attached = attached;
        Ok(())
    }

    fn check_detached(&self) -> Result<(), Error> {
        let Some(attached) = self.attached.first() else { return Ok(()) };
        let hook = attached.attach.attachment().hook();
        Err(Error::AlreadyAttached { hook, interface: attached.interface.clone() })
    }

    /// Attaches to the interface whose address is this instance's own.
    fn attach_to_own(&mut self, interface: &str, attach: Attach) -> Result<Attached, Error> {
        self.configure(mac_of(interface)?)?;
        self.link(interface, attach, Place::Host)
    }

    fn link(&mut self, interface: &str, attach: Attach, place: Place) -> Result<Attached, Error> {
        let interface_index = interface_index(interface)?;
        let program = load_program(&mut self.ebpf, attach.program(place))?;
        let (point, flags) = attach.point_and_flags();
        let link = Link::create(program.as_fd(), interface_index, point, flags)
            .map_err(|source| attach_error(interface, attach.attachment(), source))?;
        tracing::info!(interface, ?attach, ?place, "attached a steering program");
        let interface = interface.to_owned();
        Ok(Attached { interface, interface_index, attach, _link: link })
    }

    /// Whether the interfaces are those that this was attached to, and the first one's Ethernet address is still the one that was
    /// read then; for the network namespace of the calling thread. Fails if not: steering does nothing there, or does not answer.
    pub fn check_attached(&self) -> Result<(), Error> {
        for Attached { interface, interface_index: attached, .. } in &self.attached {
            if interface_index(interface)? != *attached {
                return Err(Error::InterfaceReplaced { interface: interface.clone() });
            }
        }
        let Some(Attached { interface, .. }) = self.attached.first() else { return Ok(()) };
        let (found, expected) = (mac_of(interface)?, self.mac());
        if found != expected {
            let interface = interface.clone();
            return Err(Error::AddressChanged { interface, expected, found });
        }
        Ok(())
    }

    /// Detaches; the table stays. Nothing happens if it is not attached.
    pub fn detach(&mut self) {
        self.attached.clear();
    }
}

fn mac_of(interface: &str) -> Result<MacAddress, Error> {
    // Names an interface that is not there.
    interface_index(interface)?;
    interface_mac(interface)
        .map_err(|source| Error::System { operation: "read the interface's address", source })
}
