//! Large bodies that do not become objects leave nothing behind, whatever fails and when.

use super::{cluster::index, *};
use crate::{
    peer::connection::connect,
    storage_node::{
        chain_thread::Input,
        sweep::{Pace, sweep},
    },
};
use ashlar_object::{
    Body, Change, ETag, Key, ObjectMeta, Operation, PartitionIndex, StageId,
    chain::{Outcome, Write as ChainWrite},
    condition::Conditions,
};
use ashlar_storage::Engine;
use ashlar_wire::{Frame, Purpose};
use bytes::Bytes;
use std::io::Write;

const LARGE: &[u8] = &[7; 100_000];

fn assert_no_bodies(cluster: &Cluster) {
    wait_for("all bodies to be removed", || {
        cluster.nodes.iter().all(|node| node.disk.bodies().is_empty())
    });
}

/// Waits until a body has come to its end at each of these nodes.
fn wait_for_finishes(cluster: &Cluster, nodes: &[usize]) {
    wait_for("the body to arrive", || {
        nodes.iter().all(|node| cluster.nodes[*node].disk.finish.reached() > 0)
    });
}

#[test]
fn a_body_that_a_replica_cannot_store_is_removed_everywhere() {
    for failing in 0..3 {
        let cluster = Cluster::start(3, 0);
        cluster.wait_until_complete();
        let key = &cluster.keys_of(&[0, 1, 2], 1)[0];
        cluster.nodes[failing].disk.finish.set(Fate::Fails);
        let (status, _) = cluster.request(0, &format!("PUT /{key}"), LARGE);
        // The head tells of its own disk; of another's it knows that nothing was written.
        assert_eq!(status, if failing == 0 { 507 } else { 503 });
        wait_for_finishes(&cluster, &[0, 1, 2]);
        assert_no_bodies(&cluster);
        assert_eq!(cluster.request(0, &format!("GET /{key}"), b"").0, 404);
    }
}

#[test]
fn a_client_that_goes_away_while_its_body_is_synced_leaves_nothing() {
    for slow in 0..3 {
        let cluster = Cluster::start(3, 0);
        cluster.wait_until_complete();
        let key = &cluster.keys_of(&[0, 1, 2], 1)[0];
        cluster.nodes[slow].disk.finish.set(Fate::Waits);
        let mut client = cluster.connect(0);
        let length = LARGE.len();
        write!(client, "PUT /{key} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
            .unwrap();
        client.write_all(LARGE).unwrap();
        wait_for_finishes(&cluster, &[0, 1, 2]);
        drop(client);
        cluster.nodes[slow].disk.finish.set(Fate::Works);
        // The head may notice only after it has written the object.
        wait_for("the write to end", || {
            let bodies: usize = cluster.nodes.iter().map(|node| node.disk.bodies().len()).sum();
            let (status, _) = cluster.request(0, &format!("GET /{key}"), b"");
            (status, bodies) == (404, 0) || (status, bodies) == (200, 3)
        });
    }
}

#[test]
fn a_refused_write_leaves_no_body() {
    let cluster = Cluster::start(3, 0);
    cluster.wait_until_complete();
    let key = &cluster.keys_of(&[0, 1, 2], 1)[0];
    let mut client = cluster.connect(0);
    write!(client, "PUT /{key} HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\n").unwrap();
    write!(client, "Content-Length: {}\r\n\r\n", LARGE.len()).unwrap();
    client.write_all(LARGE).unwrap();
    wait_for_finishes(&cluster, &[0, 1, 2]);
    assert_no_bodies(&cluster);
}

/// A predecessor that sends a whole body, and is gone before it hears what became of it.
#[test]
fn a_predecessor_that_crashes_leaves_no_body_at_its_successors() {
    for slow in [1, 2] {
        let cluster = Cluster::start(3, 0);
        cluster.wait_until_complete();
        let key = &cluster.keys_of(&[0, 1, 2], 1)[0];
        cluster.nodes[slow].disk.finish.set(Fate::Waits);
        let identity = cluster.identity(0);
        let partition = identity.cluster.map.partition_of(&Key::new(key).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = index(1);
            let (_, mut writer) = connect(&identity, peer, Purpose::Stage).await.unwrap();
            for frame in whole_body(partition) {
                writer.send(&frame, PATIENCE).await.unwrap();
            }
            wait_for_finishes(&cluster, &[1, 2]);
        });
        drop(runtime);
        // Long enough for the successor to see the connection closed.
        sleep(Duration::from_millis(200));
        cluster.nodes[slow].disk.finish.set(Fate::Works);
        assert_no_bodies(&cluster);
    }
}

fn whole_body(partition: PartitionIndex) -> [Frame; 3] {
    [
        Frame::StageOpen { partition, stage: StageId(9), relay: true },
        Frame::StageData(Bytes::from_static(LARGE)),
        Frame::StageEnd { length_bytes: LARGE.len() as u64 },
    ]
}

/// A large body on the disk of `node`.
fn store_body(cluster: &Cluster, node: usize, stage: StageId) {
    let mut writer = cluster.nodes[node].disk.stage(stage).unwrap();
    writer.write(LARGE).unwrap();
    writer.finish().unwrap();
}

#[test]
fn forgotten_bodies_are_swept_and_named_ones_stay() {
    let cluster = Cluster::start(1, 0);
    cluster.wait_until_complete();
    assert_eq!(cluster.request(0, "PUT /kept", LARGE).0, 201);
    let node = &cluster.nodes[0];
    let kept = node.disk.bodies();
    // In different slices.
    for number in [1, 2, 3, 255] {
        store_body(&cluster, 0, StageId(number));
    }
    assert_eq!((kept.len(), node.disk.bodies().len()), (1, 5));
    let pace = Pace { interval: Duration::from_millis(1), age: Duration::ZERO };
    let chain = node.service.shared.chain.clone();
    cluster.event_loop().spawn(sweep(node.disk.clone(), chain, pace));
    wait_for("the forgotten bodies to be removed", || node.disk.bodies() == kept);
    assert!(cluster.request(0, "GET /kept", b"").1.as_bytes() == LARGE);
}

/// An entry that waits for the next sync names its body already.
#[test]
fn a_body_whose_entry_is_about_to_be_synced_is_not_swept() {
    let cluster = Cluster::start(1, 0);
    cluster.wait_until_complete();
    let (node, stage) = (&cluster.nodes[0], StageId(7));
    store_body(&cluster, 0, stage);
    node.disk.apply.set(Fate::Waits);
    let reached = node.disk.apply.reached();
    let chain = node.service.shared.chain.clone();
    let outcome = cluster.event_loop().block_on(async {
        let (first, _busy) = write_input(&cluster, "first", Body::Inline(Bytes::new()));
        chain.send(first).await;
        wait_for("the chain thread to be busy", || node.disk.apply.reached() > reached);
        // Both are there when it takes its next inputs.
        let (write, outcome) = write_input(&cluster, "second", Body::Staged(stage));
        chain.send(write).await;
        chain.send(Input::Unnamed { stages: vec![stage] }).await;
        node.disk.apply.set(Fate::Works);
        outcome.await
    });
    assert!(matches!(outcome.unwrap().unwrap(), Outcome::Committed { .. }));
    assert!(cluster.request(0, "GET /second", b"").1.as_bytes() == LARGE);
}

#[test]
fn a_write_whose_body_has_been_swept_is_refused() {
    let cluster = Cluster::start(1, 0);
    cluster.wait_until_complete();
    let chain = cluster.nodes[0].service.shared.chain.clone();
    let outcome = cluster.event_loop().block_on(async {
        let (write, outcome) = write_input(&cluster, "key", Body::Staged(StageId(7)));
        chain.send(write).await;
        outcome.await
    });
    outcome.unwrap().unwrap_err();
    assert_eq!(cluster.request(0, "PUT /key", b"goes on").0, 201);
}

type Reply = tokio::sync::oneshot::Receiver<Result<Outcome, ashlar_storage::StorageError>>;

fn write_input(cluster: &Cluster, key: &str, body: Body) -> (Input, Reply) {
    let key = Key::new(key).unwrap();
    let size_bytes = if body == Body::Inline(Bytes::new()) { 0 } else { LARGE.len() as u64 };
    let meta = ObjectMeta {
        size_bytes,
        etag: ETag([0; 16]),
        modified_ms: 0,
        content_type: None,
        user: Vec::new(),
    };
    let partition = cluster.identity(0).cluster.map.partition_of(&key);
    let operation = Operation { key, change: Change::Put { meta, body } };
    let (reply, outcome) = tokio::sync::oneshot::channel();
    let write = ChainWrite { operation, conditions: Conditions::default() };
    (Input::Write { partition, write, reply }, outcome)
}
