//! Replicas of groups: the role of `[replication]`.

mod metrics;

use crate::{
    admin::Health,
    config::{Config, Replication, ReplicationGroup, ServiceKind},
    metrics::Registry,
    run::NodeError,
};
use ashlar_net::service_address::{Interface, interface_of};
use ashlar_replica::{
    Beginning, GroupConfig, GroupStats, Journal, JournalError, Node, NodeConfig, Offload,
    OffloadConfig, OffloadError, Role, cluster_number,
};
use ashlar_storage::{Contents, Purpose, ReplicaJournal, StorageError};
use ashlar_vr::{Mode, Service, Write, kv::KeyValue};
use metrics::Metrics;
use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Weak},
};

/// A group whose journal [`format()`] has seen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The group.
    pub group: u32,
    /// Where its journal is.
    pub directory: PathBuf,
    /// What the journal was created for, as the configuration names it; none if one was there.
    pub created: Option<&'static str>,
}

/// Creates the journals of all groups of a node that have none: its replicas begin from them, once.
///
/// # Errors
/// When a journal cannot be created; those before it are there.
pub fn format(config: &Config) -> impl Iterator<Item = Result<Formatted, StorageError>> {
    let groups = config.replication.iter().flat_map(|role| &role.groups);
    groups.map(|group| {
        let directory = directory(config, group);
        let purpose = purpose(group);
        let created = ReplicaJournal::create(&directory, purpose, &owner(config, group))?;
        let created = created.then(|| state(purpose));
        Ok(Formatted { group: group.number, directory, created })
    })
}

/// Where a group's journal is.
fn directory(config: &Config, group: &ReplicationGroup) -> PathBuf {
    let data = config.data.as_deref().expect("the configuration was checked for it");
    data.join("replication").join(group.number.to_string())
}

/// What a group's journal is created for.
fn purpose(group: &ReplicationGroup) -> Purpose {
    if group.configuration.is_some() { Purpose::New } else { Purpose::Join }
}

/// Whose journal a group's is: no other replica may ever speak with its promises, and a durable one not with those of a volatile one,
/// which had entries that are not there.
fn owner(config: &Config, group: &ReplicationGroup) -> String {
    let listen = config.replication.as_ref().map(|role| role.listen.to_string());
    let listen = listen.expect("a group is of this role");
    let mode = match group.options.mode {
        Mode::Volatile => "volatile",
        Mode::Durable => "durable",
    };
    format!("{listen} in {mode} group {} of cluster {}", group.number, config.cluster.id)
}

/// As the configuration names it.
fn state(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::New => "new",
        Purpose::Join => "join",
    }
}

/// Replicas that run until this is dropped.
pub(crate) struct Replicas {
    node: Arc<Node>,
}

/// Switches what programs in the kernel do for replicas, as long as those run.
#[derive(Clone)]
pub(crate) struct Offloads(Vec<Weak<Node>>);

impl Offloads {
    /// Of all replicas of a process.
    pub(crate) fn of<'a>(replicas: impl Iterator<Item = &'a Replicas>) -> Self {
        Self(replicas.map(|replicas| Arc::downgrade(&replicas.node)).collect())
    }

    /// What programs do for each replica that may use them, by group.
    pub(crate) fn list(&self) -> Vec<(u32, Offload)> {
        self.0.iter().filter_map(Weak::upgrade).flat_map(|node| node.offloads()).collect()
    }

    /// Has programs do this for the replicas of a group that are here.
    pub(crate) fn switch(&self, group: u32, offload: Offload) -> Result<(), OffloadError> {
        let has_group = |node: &Arc<Node>| node.offloads().iter().any(|(known, _)| *known == group);
        let mut nodes = self.0.iter().filter_map(Weak::upgrade).filter(has_group).peekable();
        if nodes.peek().is_none() {
            return Err(OffloadError::NoGroup(group));
        }
        nodes.try_for_each(|node| node.switch(group, offload))
    }
}

/// Starts the replicas of a node.
pub(crate) fn start(
    config: &Config,
    role: &Replication,
    registry: &mut Registry,
) -> Result<(Replicas, Arc<dyn Health>), NodeError> {
    let groups = role.groups.iter().map(|group| replica(config, group));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let node = Node::start(NodeConfig {
        address: role.listen,
        cluster: cluster_number(&config.cluster.id),
        datagram_bytes_max: role.datagram_bytes_max,
        cpu: role.cpu,
        offload: offload(config, role),
        groups,
    })?;
    let node = Arc::new(node);
    Metrics::register(registry, &node);
    let health = Arc::new(Running { groups: node.groups().to_vec() });
    Ok((Replicas { node }, health))
}

/// Where programs in the kernel are kept. Their name is the data's, which one process at a time has, whatever else runs here.
fn offload(config: &Config, role: &Replication) -> Option<OffloadConfig> {
    let data = config.data.as_deref().expect("the configuration was checked for it");
    let directory = data.join("replication");
    // The directory itself names the node, and not its path: containers may have the same ones. Without one, the journals are missed.
    let identity = directory.metadata().map(|it| (it.dev(), it.ino())).unwrap_or_default();
    let (identity, listen) = (format!("{identity:?}"), role.listen);
    let name = format!("ashlar-{:016x}", cluster_number(&format!("{identity} {listen}")));
    // One that cannot be found out is missed only by who uses programs.
    let found = interface_of(role.listen.ip()).ok().flatten();
    let is_ethernet = |interface: &Interface| interface.hardware_address != [0; 6];
    let found = found.filter(is_ethernet).map(|interface| interface.name);
    Some(OffloadConfig {
        interface: role.interface.clone().or(found),
        xdp: role.xdp,
        pin: role.programs.join(name),
        marker: directory.join("programs"),
    })
}

/// One replica, with what its journal has.
fn replica(config: &Config, group: &ReplicationGroup) -> Result<GroupConfig, NodeError> {
    let (number, directory) = (group.number, directory(config, group));
    let (journal, contents) = ReplicaJournal::open(&directory).map_err(|error| match error {
        StorageError::NoJournal { path } => NodeError::NoJournal { group: number, directory: path },
        error => NodeError::Storage(error),
    })?;
    let is = owner(config, group);
    if journal.owner() != is {
        return Err(NodeError::Owner { directory, was: journal.owner().to_owned(), is });
    }
    let beginning = match (contents, group.options.mode) {
        (Contents::Created(created), _) if created != purpose(group) => {
            return Err(NodeError::State { group: number, was: state(created) });
        }
        (Contents::Created(_), _) => match &group.configuration {
            Some(configuration) => Beginning::New(configuration.clone()),
            None => Beginning::Join,
        },
        (Contents::Kept(kept), Mode::Volatile) => Beginning::Lost(kept.promise),
        (Contents::Kept(kept), Mode::Durable) => Beginning::Restored(kept),
    };
    let service: Box<dyn Service + Send> = match group.service {
        ServiceKind::Kv => Box::new(KeyValue::default()),
    };
    let journal: Option<Box<dyn Journal>> = Some(Box::new(OnDisk(journal)));
    let (options, offload) = (group.options, group.offload);
    Ok(GroupConfig { group: number, options, beginning, journal, offload, service })
}

/// A journal of the storage engine.
struct OnDisk(ReplicaJournal);

impl Journal for OnDisk {
    fn append(&mut self, write: &Write) -> Result<(), JournalError> {
        self.0.append(write).map_err(failed)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.0.sync().map_err(failed)
    }

    fn rest(&mut self) -> Result<(), JournalError> {
        self.0.seal().map_err(failed)
    }
}

fn failed(error: StorageError) -> JournalError {
    JournalError(io::Error::other(error))
}

/// Whether replicas take part in their groups.
struct Running {
    groups: Vec<(u32, Arc<GroupStats>)>,
}

impl Health for Running {
    fn ready(&self) -> Result<(), String> {
        // Between two views it will be of use again in a moment; these may stay what they are.
        let is_of_no_use = |role| matches!(role, Role::Failed | Role::Joining | Role::Recovering);
        match self.groups.iter().find(|(_, stats)| is_of_no_use(stats.role())) {
            Some((group, stats)) => Err(format!("group {group}: {}", stats.role().name())),
            None => Ok(()),
        }
    }

    fn complete(&self) -> Result<(), String> {
        let waits = |role| !matches!(role, Role::Leader | Role::Backup | Role::Retired);
        match self.groups.iter().find(|(_, stats)| waits(stats.role())) {
            Some((group, stats)) => Err(format!("group {group}: {}", stats.role().name())),
            None => Ok(()),
        }
    }
}
