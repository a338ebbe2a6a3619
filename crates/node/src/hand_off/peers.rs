//! The channels that are open.

use super::channel::Channel;
use crate::serve::Target;
use ashlar_object::NodeIndex;
use std::{collections::HashMap, sync::Arc};

/// Open channels, by whom they lead to. There is one for each of our event loops, or of the peer's.
#[derive(Default)]
pub(super) struct Peers {
    storage: HashMap<NodeIndex, Vec<Arc<Channel>>>,
    /// By the front end's name.
    front_ends: HashMap<String, Vec<Arc<Channel>>>,
}

impl Peers {
    pub(super) fn insert(&mut self, channel: Arc<Channel>) {
        self.list(&channel).push(channel);
    }

    pub(super) fn remove(&mut self, channel: &Arc<Channel>) {
        self.list(channel).retain(|known| !Arc::ptr_eq(known, channel));
    }

    /// A channel to the target, best one that lives on `thread`.
    pub(super) fn find(&self, target: Target, origin: &str, thread: usize) -> Option<Arc<Channel>> {
        let list = match target {
            Target::Storage(node) => self.storage.get(&node),
            Target::Origin => self.front_ends.get(origin),
        }?;
        let here = list.iter().find(|channel| channel.thread == thread);
        here.or_else(|| list.first()).cloned()
    }

    /// Whether any channel leads to a storage node.
    pub(super) fn reaches(&self, node: NodeIndex) -> bool {
        self.storage.get(&node).is_some_and(|list| !list.is_empty())
    }

    /// All channels to storage nodes.
    pub(super) fn to_storage(&self) -> Vec<Arc<Channel>> {
        self.storage.values().flatten().cloned().collect()
    }

    fn list(&mut self, channel: &Channel) -> &mut Vec<Arc<Channel>> {
        match channel.node {
            Some(node) => self.storage.entry(node).or_default(),
            None => self.front_ends.entry(channel.name.clone()).or_default(),
        }
    }
}
