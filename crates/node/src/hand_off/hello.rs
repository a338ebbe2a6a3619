//! What two nodes tell each other first on a channel.

use ashlar_fastpath::steering::{MacAddress, Owner};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The most listeners of a front end whose connections move.
const LISTENERS_MAX: usize = 8;

/// The first frame in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The cluster's name.
    cluster: String,
    /// Where the sender's frames go.
    mac: [u8; 6],
    /// How steering numbers the sender.
    owner_id: u16,
    /// Names the sender's process.
    pub(super) incarnation: u64,
    /// What clients connect to, if the sender is a front end.
    pub(super) service: Option<Service>,
}

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    /// The front end's listeners.
    pub(crate) listeners: Vec<SocketAddr>,
    /// Where its steering takes control datagrams.
    pub(crate) steering: SocketAddr,
    /// Bodies from this size on flow past it.
    pub(crate) threshold_bytes: u64,
}

impl Hello {
    pub(super) fn new(
        cluster: &str,
        owner: Owner,
        incarnation: u64,
        service: Option<Service>,
    ) -> Self {
        let (cluster, mac, owner_id) = (cluster.into(), owner.mac.0, owner.id);
        Self { cluster, mac, owner_id, incarnation, service }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a greeting can be encoded")
    }

    /// Reads a greeting from a node of `cluster`.
    pub(super) fn decode(bytes: &[u8], cluster: &str) -> Result<Self, String> {
        let hello: Self = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        if hello.cluster != cluster {
            return Err(format!("it is of the cluster {:?}", hello.cluster));
        }
        if !MacAddress(hello.mac).is_unicast() {
            return Err("its hardware address is none of a single host".into());
        }
        let listeners = hello.service.as_ref().map_or(0, |service| service.listeners.len());
        if listeners > LISTENERS_MAX {
            return Err(format!("it has {listeners} listeners, at most {LISTENERS_MAX} can be"));
        }
        Ok(hello)
    }

    /// The sender, as steering names it.
    pub(super) fn owner(&self) -> Owner {
        Owner { mac: MacAddress(self.mac), id: self.owner_id }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn hello() -> Hello {
        let owner = Owner { mac: MacAddress([2, 0, 0, 0, 0, 1]), id: 3 };
        let listeners = vec!["10.0.0.1:80".parse().unwrap()];
        let steering = "10.0.0.1:7471".parse().unwrap();
        Hello::new("demo", owner, 1, Some(Service { listeners, steering, threshold_bytes: 1 }))
    }

    #[test]
    fn a_greeting_comes_through() {
        let hello = hello();
        assert_eq!(Hello::decode(&hello.encode(), "demo"), Ok(hello.clone()));
        assert_eq!(hello.owner().id, 3);
    }

    #[test]
    fn greetings_of_strangers_are_refused() {
        assert!(Hello::decode(&hello().encode(), "other").unwrap_err().contains("demo"));
        assert!(Hello::decode(b"\xff", "demo").is_err());
        let group = Hello { mac: [1, 0, 0, 0, 0, 1], ..hello() };
        assert!(Hello::decode(&group.encode(), "demo").unwrap_err().contains("hardware"));
    }
}
