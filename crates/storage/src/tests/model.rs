//! What a store must hold, kept in maps; and random batches for it.

use crate::{Batch, Bound, DiskEngine, Engine, Item, Place, ScanStep, StorageError, StoredChange};
use ashlar_object::{
    Body, Change, ETag, Entry, Key, ObjectMeta, Operation, PartitionIndex, StageId, Version,
    chain::Newest,
};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Few enough that keys are overwritten often.
const KEYS: u32 = 24;
const PARTITIONS: u16 = 3;
/// A body in a file is summed in blocks of this.
const BLOCK_BYTES: usize = 64 * 1024;

/// A store in maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    partitions: BTreeMap<u16, Partition>,
    /// Keys and their versions.
    keys: BTreeMap<Key, BTreeMap<Version, (PartitionIndex, Change)>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Partition {
    applied: Version,
    committed: Version,
    joined: bool,
    window: Vec<Entry>,
}

/// Random batches that a chain's replica could ask for. The same seed gives the same batches.
pub(super) struct Workload {
    random: Pcg64,
    /// What the store holds after the batches so far.
    pub(super) model: Model,
    stages: u128,
}

/// The bytes of a large body, which its identifier decides.
pub(super) fn large_body(id: StageId) -> Bytes {
    let mut random = Pcg64::seed_from_u64(id.0 as u64);
    let odd_bytes = [0, 1, 5000, BLOCK_BYTES - 1][random.random_range(0..4)];
    let mut body = vec![0; random.random_range(0..3) * BLOCK_BYTES + odd_bytes];
    random.fill(&mut body[..]);
    body.into()
}

pub(super) fn meta_of(body: &[u8]) -> ObjectMeta {
    ObjectMeta {
        size_bytes: body.len() as u64,
        etag: ETag(Md5::digest(body).into()),
        modified_ms: 1_700_000_000_000,
        content_type: Some("text/plain".into()),
        user: vec![("colour".into(), "blue".into())],
    }
}

pub(super) fn put_inline(body: &[u8]) -> Change {
    let meta = meta_of(body);
    let body = Body::Inline(Bytes::copy_from_slice(body));
    Change::Put { meta, body }
}

pub(super) fn put_large(id: StageId) -> Change {
    let meta = meta_of(&large_body(id));
    let body = Body::Staged(id);
    Change::Put { meta, body }
}

pub(super) fn entry(version: u64, key: &str, change: Change) -> Entry {
    let key = Key::new(key).unwrap();
    Entry { version: Version(version), operation: Arc::new(Operation { key, change }) }
}

/// Has a large body received.
pub(super) fn receive(engine: &dyn Engine, id: StageId) {
    let body = large_body(id);
    let mut writer = engine.stage(id).unwrap();
    for piece in body.chunks(10_000) {
        writer.write(piece).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), body.len() as u64);
}

/// Has the large bodies that a batch names received.
pub(super) fn receive_all(engine: &dyn Engine, batch: &Batch) {
    for item in &batch.items {
        if let Item::Entry { entry, .. } = item
            && let Some(id) = entry.operation.change.stage()
        {
            receive(engine, id);
        }
    }
}

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Pcg64::seed_from_u64(seed),
            model: Model::default(),
            stages: u128::from(seed) << 64,
        }
    }

    /// The next batch; the model takes it in.
    pub(super) fn next_batch(&mut self) -> Batch {
        let items = (0..self.random.random_range(1..10))
            .map(|_| {
                let item = self.next_item();
                self.model.take(&item);
                item
            })
            .collect();
        Batch { items }
    }

    fn next_item(&mut self) -> Item {
        let number = self.random.random_range(0..KEYS);
        let partition = PartitionIndex((number % u32::from(PARTITIONS)) as u16);
        let key = Key::new(&format!("key/{number}")).unwrap();
        let state = self.model.partitions.get(&partition.0);
        let next = state.map_or(Version::NONE, |state| state.applied).next();
        let oldest = state.and_then(|state| state.window.first()).cloned();
        match self.random.random_range(0..100) {
            0..45 if oldest.is_some() => {
                let entry = oldest.unwrap();
                Item::Release { partition, entry }
            }
            45..47 => Item::Joined { partition },
            choice => {
                let change = self.next_change(choice);
                let operation = Arc::new(Operation { key, change });
                let entry = Entry { version: next, operation };
                Item::Entry { partition, entry }
            }
        }
    }

    fn next_change(&mut self, choice: u32) -> Change {
        match choice {
            75..85 => Change::Delete,
            85.. => {
                self.stages += 1;
                put_large(StageId(self.stages))
            }
            _ => {
                let mut body = vec![0; self.random.random_range(0..3000)];
                self.random.fill(&mut body[..]);
                put_inline(&body)
            }
        }
    }
}

impl Model {
    /// Takes in an item as the engine must.
    pub(super) fn take(&mut self, item: &Item) {
        match item {
            Item::Entry { partition, entry } => {
                let state = self.partitions.entry(partition.0).or_default();
                state.applied = entry.version;
                state.window.push(entry.clone());
                let change = entry.operation.change.clone();
                let versions = self.keys.entry(entry.operation.key.clone()).or_default();
                versions.insert(entry.version, (*partition, change));
            }
            Item::Release { partition, entry } => {
                let state = self.partitions.entry(partition.0).or_default();
                state.committed = state.committed.max(entry.version);
                state.window.retain(|e| e.version > entry.version);
                let versions = self.keys.entry(entry.operation.key.clone()).or_default();
                versions.retain(|version, (_, change)| {
                    let dropped = *change == Change::Delete && *version == entry.version;
                    *version >= entry.version && !dropped
                });
                if versions.is_empty() {
                    self.keys.remove(&entry.operation.key);
                }
            }
            Item::Joined { partition } => {
                self.partitions.entry(partition.0).or_default().joined = true;
            }
        }
    }

    /// The large bodies that versions name.
    pub(super) fn stages(&self) -> BTreeSet<StageId> {
        let versions = self.keys.values().flat_map(BTreeMap::values);
        versions.filter_map(|(_, change)| change.stage()).collect()
    }

    /// Compares everything that an engine shows, and panics at a difference.
    pub(super) fn assert_shown_by(&self, engine: &DiskEngine) {
        assert_eq!(*self, Self::shown_by(engine).unwrap());
        for number in 0..KEYS {
            let key = Key::new(&format!("key/{number}")).unwrap();
            let newest = self.keys.get(&key).map(|versions| {
                let (version, (_, change)) = versions.last_key_value().unwrap();
                let meta = change.meta().cloned();
                Newest { version: *version, meta }
            });
            assert_eq!(engine.newest(&key).unwrap(), newest, "{key}");
            let versions = engine.snapshot().unwrap().versions(&key).unwrap();
            let expected = self.keys.get(&key).map_or(0, BTreeMap::len);
            assert_eq!(versions.len(), expected, "{key}");
        }
    }

    /// Reads all that an engine shows.
    pub(super) fn shown_by(engine: &DiskEngine) -> Result<Self, StorageError> {
        let mut model = Self::default();
        for partition in 0..PARTITIONS {
            let recovered = engine.recover(PartitionIndex(partition))?;
            let state = Partition {
                applied: recovered.applied,
                committed: recovered.committed,
                joined: recovered.joined,
                window: recovered.window,
            };
            if state != Partition::default() {
                model.partitions.insert(partition, state);
            }
        }
        let snapshot = engine.snapshot()?;
        let mut rows = Vec::new();
        snapshot.scan(&Bound::default(), &mut |key, versions| {
            rows.push((key.clone(), versions.to_vec()));
            ScanStep::Next
        })?;
        for (key, versions) in rows {
            let mut changes = BTreeMap::new();
            for stored in versions {
                let change = match &stored.change {
                    StoredChange::Delete => Change::Delete,
                    StoredChange::Put { meta, place } => {
                        let body = match place {
                            Place::Inline => Body::Inline(snapshot.inline_body(&key, &stored)?),
                            Place::Staged(id) => {
                                assert_eq!(read_large(engine, *id)?, large_body(*id), "{key}");
                                Body::Staged(*id)
                            }
                        };
                        let meta = meta.clone();
                        Change::Put { meta, body }
                    }
                };
                changes.insert(stored.version, (stored.partition, change));
            }
            model.keys.insert(key, changes);
        }
        Ok(model)
    }
}

/// Reads a large body in pieces.
pub(super) fn read_large(engine: &dyn Engine, id: StageId) -> Result<Vec<u8>, StorageError> {
    let blob = engine.open_stage(id)?;
    let mut body = Vec::new();
    while (body.len() as u64) < blob.len() {
        body.extend_from_slice(&blob.read_at(body.len() as u64, 50_000)?);
    }
    Ok(body)
}
