//! What an instance is loaded with.

use crate::Error;
use ashlar_fastpath::steering::{ControlAddresses, ControlKey};
use std::time::Duration;

/// What an instance is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many flows the table holds at most; 1..=[`Settings::FLOWS_MAX`]. Room for bookkeeping is taken at once (16 bytes each,
    /// rounded up to a power of two), for entries when they are made.
    pub flows_max: u32,
    /// Where other hosts send their control frames to; at least one address, of this host.
    pub control: ControlAddresses,
    /// Authenticates control frames, of other hosts and of this one.
    pub key: ControlKey,
    /// This host's own number among senders; no other host may use it.
    pub sender: u16,
    /// Control frames are taken from senders 0..senders_max; 1..=65,536, above [`Settings::sender`].
    pub senders_max: u32,
    /// A flow without frames for so long is forgotten; at least [`Settings::TIMEOUT_MIN`].
    pub idle_timeout: Duration,
    /// The same for a flow whose client sent a FIN or RST.
    pub closing_timeout: Duration,
}

impl Settings {
    /// Bounds the kernel memory to about 2 GiB.
    pub const FLOWS_MAX: u32 = 1 << 24;

    /// The time of a flow's last frame is kept a little coarser than it is known.
    pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);

    const SENDERS_MAX: u32 = 1 << 16;

    /// The usual settings: 2^20 flows, 4,096 senders, an hour idle, 30 seconds at the end.
    pub const fn new(control: ControlAddresses, key: ControlKey, sender: u16) -> Self {
        Self {
            flows_max: 1 << 20,
            control,
            key,
            sender,
            senders_max: 4_096,
            idle_timeout: Duration::from_secs(3_600),
            closing_timeout: Duration::from_secs(30),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |field, reason| Err(Error::Settings { field, reason });
        if !(1..=Self::FLOWS_MAX).contains(&self.flows_max) {
            return refuse(
                "flows_max",
                format!("expected 1..={}, found {}", Self::FLOWS_MAX, self.flows_max),
            );
        }
        if !(1..=Self::SENDERS_MAX).contains(&self.senders_max) {
            return refuse(
                "senders_max",
                format!("expected 1..={}, found {}", Self::SENDERS_MAX, self.senders_max),
            );
        }
        if u32::from(self.sender) >= self.senders_max {
            return refuse(
                "sender",
                format!(
                    "expected less than senders_max ({}), found {}",
                    self.senders_max, self.sender
                ),
            );
        }
        let control = &self.control;
        let is_usable = control.ipv4.is_some_and(|address| !address.is_unspecified())
            || control.ipv6.is_some_and(|address| !address.is_unspecified());
        if !is_usable || control.port == 0 {
            return refuse("control", format!("expected an address and a port, found {control:?}"));
        }
        for (field, timeout) in
            [("idle_timeout", self.idle_timeout), ("closing_timeout", self.closing_timeout)]
        {
            if timeout < Self::TIMEOUT_MIN {
                return refuse(
                    field,
                    format!("expected at least {:?}, found {timeout:?}", Self::TIMEOUT_MIN),
                );
            }
        }
        Ok(())
    }
}
