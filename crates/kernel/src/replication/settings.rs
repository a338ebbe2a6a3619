//! What an instance is loaded with.

use super::GroupKey;
use crate::Error;
use std::net::SocketAddrV4;
use std::path::PathBuf;

/// The most groups of an instance. Each takes 16 MiB of kernel memory for its slots.
pub const GROUPS_MAX: usize = 16;

/// What an instance is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The replication socket's address: all frames that programs look at are for it.
    pub own: SocketAddrV4,
    /// The groups, 1 to [`GROUPS_MAX`], all different.
    pub groups: Vec<GroupKey>,
    /// The name of the shared memory, in a directory of a BPF file system. Missing directories are made, and below `/sys/fs/bpf`, if
    /// that is empty, the file system is mounted.
    pub pin: PathBuf,
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |field, reason| Err(Error::Settings { field, reason });
        if self.own.ip().is_unspecified() || self.own.port() == 0 {
            return refuse("own", format!("expected an address and a port, found {}", self.own));
        }
        if !(1..=GROUPS_MAX).contains(&self.groups.len()) {
            let found = self.groups.len();
            return refuse("groups", format!("expected 1..={GROUPS_MAX}, found {found}"));
        }
        for (index, group) in self.groups.iter().enumerate() {
            if self.groups[..index].contains(group) {
                return refuse("groups", format!("{group:?} is there twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn settings_that_contradict_themselves_are_refused_by_name() {
        let group = |group| GroupKey { cluster: 1, group };
        let settings = Settings {
            own: "10.0.0.1:7000".parse().unwrap(),
            groups: vec![group(1), group(2)],
            pin: PathBuf::new(),
        };
        settings.check().unwrap();
        let refused = [
            (Settings { own: "0.0.0.0:7000".parse().unwrap(), ..settings.clone() }, "own: "),
            (Settings { own: "10.0.0.1:0".parse().unwrap(), ..settings.clone() }, "own: "),
            (Settings { groups: vec![], ..settings.clone() }, "found 0"),
            (Settings { groups: (0..17).map(group).collect(), ..settings.clone() }, "found 17"),
            (Settings { groups: vec![group(1), group(1)], ..settings }, "twice"),
        ];
        for (settings, part) in refused {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
