//! Peers that go away without a word, or come back while this node is busy.

use super::{cluster::index, *};
use crate::{
    peer::{
        SILENCE_TIMEOUT,
        connection::{FrameReader, FrameWriter, PeerError, connect},
    },
    storage_node::chain_thread::Input,
};
use ashlar_object::{Body, Change, ETag, Entry, Key, ObjectMeta, Operation, Version};
use ashlar_object::{PartitionIndex, chain::Message};
use ashlar_wire::{Frame, Purpose};
use bytes::Bytes;
use tokio::time::timeout;

/// A chain connection to the node that runs, from the one that is played.
async fn chain_connection(cluster: &Cluster) -> (FrameReader, FrameWriter) {
    connect(&cluster.identity(1), index(0), Purpose::Chain).await.unwrap()
}

/// Whether the peer closes the connection before it takes the predecessor for gone.
async fn is_closed(reader: &mut FrameReader) -> bool {
    let limit = 4 * SILENCE_TIMEOUT;
    loop {
        match timeout(limit, reader.next()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(PeerError::Closed | PeerError::Io(_))) => return true,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return false,
        }
    }
}

#[test]
fn a_new_chain_connection_replaces_the_old_one() {
    let cluster = Cluster::start(1, 1);
    cluster.event_loop().block_on(async {
        let (mut old, mut old_writer) = chain_connection(&cluster).await;
        let (mut new, mut new_writer) = chain_connection(&cluster).await;
        // The old one says that it lives, as a connection does whose reset is still under way.
        let pings = tokio::spawn(async move {
            while old_writer.send(&Frame::Ping, PATIENCE).await.is_ok() {
                tokio::time::sleep(SILENCE_TIMEOUT / 4).await;
            }
        });
        assert!(is_closed(&mut old).await);
        pings.abort();
        new_writer.send(&Frame::Ping, PATIENCE).await.unwrap();
        assert_eq!(new.expect(PATIENCE).await.unwrap(), Frame::Pong);
    });
}

#[test]
fn connections_do_not_wait_for_a_stuck_chain_thread() {
    let cluster = Cluster::start(1, 1);
    let node = &cluster.nodes[0];
    let key = &cluster.keys_of(&[1, 0], 1)[0];
    let partition = cluster.identity(0).cluster.map.partition_of(&Key::new(key).unwrap());
    node.disk.apply.set(Fate::Waits);
    cluster.event_loop().block_on(async {
        let (mut reader, mut writer) = chain_connection(&cluster).await;
        writer.send(&prepare(partition, key), PATIENCE).await.unwrap();
        wait_for("the chain thread to be stuck", || node.disk.apply.reached() > 0);
        let chain = node.service.shared.chain.clone();
        let nothing = || Input::Unnamed { stages: Vec::new() };
        while timeout(SILENCE_TIMEOUT / 4, chain.send(nothing())).await.is_ok() {}
        writer.send(&prepare(partition, key), PATIENCE).await.unwrap();
        let pings = tokio::spawn(async move {
            while writer.send(&Frame::Ping, PATIENCE).await.is_ok() {
                tokio::time::sleep(SILENCE_TIMEOUT / 4).await;
            }
        });
        assert!(is_closed(&mut reader).await);
        pings.abort();
    });
    node.disk.apply.set(Fate::Works);
}

#[test]
fn an_idle_body_connection_is_closed() {
    let cluster = Cluster::start(1, 1);
    let identity = std::sync::Arc::new(cluster.identity(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    cluster.event_loop().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
        let (reader, writer) = crate::peer::connection::split(accepted).unwrap();
        let idle_timeout = Duration::from_millis(20);
        let disk = cluster.nodes[0].disk.clone();
        let ended = crate::peer::stage::serve(identity, disk, reader, writer, idle_timeout).await;
        assert!(matches!(ended, Err(PeerError::Timeout(_))), "{ended:?}");
        drop(stream);
    });
}

fn prepare(partition: PartitionIndex, key: &str) -> Frame {
    let meta = ObjectMeta {
        size_bytes: 0,
        etag: ETag([0; 16]),
        modified_ms: 0,
        content_type: None,
        user: Vec::new(),
    };
    let change = Change::Put { meta, body: Body::Inline(Bytes::new()) };
    let operation = Operation { key: Key::new(key).unwrap(), change };
    let entry = Entry { version: Version(1), operation: operation.into() };
    Frame::Chain(partition, Message::Prepare(entry))
}
