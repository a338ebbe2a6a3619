//! Replicas of groups: the role of `[replication]`.

mod metrics;

use crate::{
    admin::Health,
    config::{Config, Replication, ReplicationGroup, ServiceKind},
    metrics::Registry,
    run::NodeError,
};
use ashlar_replica::{
    Beginning, GroupConfig, GroupStats, Journal, JournalError, Node, NodeConfig, Role,
};
use ashlar_storage::{Contents, ReplicaJournal, StorageError};
use ashlar_vr::{Mode, Service, Write, kv::KeyValue};
use metrics::Metrics;
use std::{io, path::Path, sync::Arc};
use xxhash_rust::xxh3::xxh3_64;

/// Names a cluster in the frames of its groups.
pub fn cluster_number(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Replicas that run until this is dropped.
pub(crate) struct Replicas {
    _node: Node,
}

/// Starts the replicas of a node.
pub(crate) fn start(
    config: &Config,
    role: &Replication,
    registry: &mut Registry,
) -> Result<(Replicas, Arc<dyn Health>), NodeError> {
    let data = config.data.as_deref().expect("the configuration was checked for it");
    let groups = role.groups.iter().map(|group| replica(data, group));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let node = Node::start(NodeConfig {
        address: role.listen,
        cluster: cluster_number(&config.cluster.id),
        datagram_bytes_max: role.datagram_bytes_max,
        cpu: role.cpu,
        groups,
    })?;
    Metrics::register(registry, &node);
    let health = Arc::new(Running { groups: node.groups().to_vec() });
    Ok((Replicas { _node: node }, health))
}

/// One replica, with what its journal has.
fn replica(data: &Path, group: &ReplicationGroup) -> Result<GroupConfig, NodeError> {
    let number = group.number;
    let directory = data.join("replication").join(number.to_string());
    let (journal, contents) = ReplicaJournal::open(&directory)?;
    let beginning = match (contents, group.options.mode) {
        (Contents::New, _) => match &group.configuration {
            Some(configuration) => Beginning::New(configuration.clone()),
            None => Beginning::Join,
        },
        (Contents::Kept(kept), Mode::Volatile) => {
            if kept.checkpoint.is_some() || !kept.entries.is_empty() {
                return Err(NodeError::Mode { group: number, was: "durable" });
            }
            Beginning::Lost(kept.promise)
        }
        (Contents::Kept(kept), Mode::Durable) => Beginning::Restored(kept),
    };
    let service: Box<dyn Service + Send> = match group.service {
        ServiceKind::Kv => Box::new(KeyValue::default()),
    };
    let journal: Option<Box<dyn Journal>> = Some(Box::new(OnDisk(journal)));
    Ok(GroupConfig { group: number, options: group.options, beginning, journal, service })
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
        let stopped = self.groups.iter().find(|(_, stats)| stats.role() == Role::Failed);
        match stopped {
            Some((group, _)) => Err(format!("group {group}: its journal failed")),
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
