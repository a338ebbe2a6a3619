//! A cluster of processes that loses a storage node.

use crate::harness::{Cluster, Wire, content, eventually, tag};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
};

/// The storage node that is lost.
const LOST: usize = 1;
const STORAGE_NODES: usize = 3;

#[test]
fn a_lost_storage_node_costs_writes_for_a_while_and_no_data() {
    let mut cluster = Cluster::start();

    let acknowledged = write_while(&mut cluster, |cluster| cluster.kill_storage(LOST));
    assert!(acknowledged.len() >= WRITES_BEFORE);
    for (path, body) in &acknowledged {
        let got = cluster.curl(path).run();
        assert_eq!((got.status, &got.body == body), (200, true), "{path} with a node away");
    }
    let refused = cluster.curl("/while-away").put("x").run();
    assert_eq!(refused.status, 503);
    assert_ne!(refused.field("retry-after"), "");
    assert_eq!(cluster.curl("/while-away").run().status, 404, "503 means that nothing was done");

    cluster.restart_storage(LOST);
    eventually("writes work again", || {
        let put = cluster.curl("/again").put("x").run();
        assert!(matches!(put.status, 200 | 201 | 503 | 504), "{}", put.status);
        (put.status < 300).then_some(())
    });
    for (path, body) in &acknowledged {
        assert!(&cluster.curl(path).run().body == body, "{path}");
    }
    replicas_agree(&cluster);
    cluster.stop();
}

#[test]
fn downloads_go_on_when_their_storage_node_dies() {
    // More than all buffers on the way hold.
    const BYTES: usize = 32 << 20;
    let mut cluster = Cluster::start();
    let bytes = content(24, BYTES);
    eventually("the chain takes the write", || {
        let put = cluster.curl("/large").put(bytes.clone()).run();
        (put.status == 201).then_some(())
    });
    // Enough of them that every storage node serves some.
    let mut downloads: Vec<_> = (0..2 * STORAGE_NODES).map(|_| cluster.wire()).collect();
    for download in &mut downloads {
        download.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(download.reply_head().status, 200);
    }
    cluster.kill_storage(LOST);
    for mut download in downloads {
        assert!(download.exactly(BYTES) == bytes, "a download is not what was stored");
    }
    assert!(
        cluster.counter("ashlar_front_end_bodies_resumed_total") > 0,
        "no download was disturbed"
    );
}

#[test]
fn an_acknowledged_write_is_seen_at_every_replica_at_once() {
    const WRITES: usize = 60;
    let cluster = Cluster::start();
    let writer = |client: usize| {
        let mut front_end = cluster.wire();
        let mut storage: Vec<_> =
            (0..STORAGE_NODES).map(|index| cluster.wire_storage(index)).collect();
        for number in 0..WRITES {
            // Few keys, so that there are old versions to be seen.
            let path = format!("/seen/{client}/{}", number % 4);
            let body = format!("{number}");
            let length = body.len();
            let request =
                format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
            let status = eventually("the chain takes the write", || {
                front_end.send(&request);
                // The front end has not looked at all storage nodes yet.
                Some(front_end.reply().status).filter(|status| *status != 503)
            });
            assert!(status < 300, "{path}: {status}");
            for replica in &mut storage {
                replica.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            }
            for (index, replica) in storage.iter_mut().enumerate() {
                let read = replica.reply();
                assert_eq!((read.status, read.text()), (200, body.clone()), "{path} at {index}");
            }
        }
    };
    thread::scope(|scope| {
        for client in 0..4 {
            let writer = &writer;
            scope.spawn(move || writer(client));
        }
    });
}

/// How many writes succeed before the disturbance.
const WRITES_BEFORE: usize = 40;

/// Writes from several clients until the `disturbance` makes a write fail; what was acknowledged.
fn write_while(
    cluster: &mut Cluster,
    disturbance: impl FnOnce(&mut Cluster),
) -> BTreeMap<String, Vec<u8>> {
    let (written, is_disturbed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let writer = |client: usize, mut wire: Wire| {
        let mut acknowledged = BTreeMap::new();
        for number in 0.. {
            let path = format!("/w/{client}/{number}");
            // Both that are kept with their metadata and that are kept in files.
            let body = content(number, if number % 4 == 0 { 100_000 } else { 100 });
            let length = body.len();
            wire.send(format!(
                "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
            ));
            wire.send(&body);
            let reply = wire.reply();
            match reply.status {
                201 => {
                    assert_eq!(reply.field("etag"), tag(&body));
                    acknowledged.insert(path, body);
                    written.fetch_add(1, SeqCst);
                }
                503 | 504 if is_disturbed.load(SeqCst) => break,
                // The front end has not looked at all storage nodes yet.
                503 => {}
                status => panic!("{path}: status {status}: {}", reply.text()),
            }
        }
        acknowledged
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let wire = cluster.wire();
                let writer = &writer;
                scope.spawn(move || writer(client, wire))
            })
            .collect();
        eventually("the writers are busy", || {
            (written.load(SeqCst) >= WRITES_BEFORE).then_some(())
        });
        is_disturbed.store(true, SeqCst);
        disturbance(cluster);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Every storage node, asked directly, has the same objects.
fn replicas_agree(cluster: &Cluster) {
    let listing = |index| all_objects(cluster, index);
    let first = listing(0);
    assert!(first.len() > WRITES_BEFORE);
    for index in 1..STORAGE_NODES {
        assert_eq!(listing(index), first, "storage node {index}");
    }
    for (key, object) in &first {
        let bodies: Vec<_> = (0..STORAGE_NODES)
            .map(|index| cluster.curl_storage(index, &format!("/{key}")).run())
            .collect();
        for reply in bodies {
            assert_eq!(reply.status, 200);
            assert_eq!(object["etag"], tag(&reply.body), "{key}");
        }
    }
}

/// All pages of one node's listing.
fn all_objects(cluster: &Cluster, index: usize) -> BTreeMap<String, serde_json::Value> {
    let mut all = BTreeMap::new();
    let mut token = String::new();
    loop {
        let path = format!("/?max-keys=100&continuation-token={token}");
        let reply = cluster.curl_storage(index, &path).run();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = reply.json();
        for object in page["objects"].as_array().unwrap() {
            all.insert(object["key"].as_str().unwrap().to_string(), object.clone());
        }
        match page["next_continuation_token"].as_str() {
            Some(next) => token = next.to_string(),
            None => return all,
        }
    }
}
