//! Listings while writes are under way.

use super::{cluster::index, *};
use crate::peer::{
    Identity,
    connection::{FrameReader, FrameWriter, accept},
};
use ashlar_object::{Key, Version, chain::Message, chain::Readiness};
use ashlar_wire::{Frame, Purpose};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::Instant,
};

/// Enough that one question after the other would take longer than a front end waits.
const DIRTY: usize = 8;
/// A front end takes a node that answers later for gone.
const FRONT_END_PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_silent_tail_does_not_hold_a_listing_up() {
    let mut cluster = Cluster::start(1, 1);
    let tail = cluster.played.remove(0);
    let identity = Arc::new(cluster.identity(1));
    cluster.event_loop().spawn(play_silent_tail(identity, tail));
    let map = cluster.identity(0).cluster.map;
    let keys = cluster.keys_of(&[0, 1], DIRTY);
    let partition_of = |key: &String| map.partition_of(&Key::new(key).unwrap());
    let views = &cluster.nodes[0].service.shared.views;
    wait_for("the chains to take writes", || {
        keys.iter().all(|key| views.takes_writes(partition_of(key)))
    });
    // Their answers never come.
    let mut writers = Vec::new();
    for key in &keys {
        let mut writer = cluster.connect(0);
        write!(writer, "PUT /{key} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").unwrap();
        writers.push(writer);
    }
    wait_for("the writes to be under way", || {
        keys.iter().all(|key| views.is_dirty(partition_of(key)))
    });
    let partitions: Vec<_> = keys.iter().map(|key| partition_of(key).0.to_string()).collect();
    let begin = Instant::now();
    let mut lister = cluster.connect(0);
    write!(lister, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n").unwrap();
    write!(lister, "x-ashlar-partitions: {}\r\n\r\n", partitions.join(",")).unwrap();
    let mut answer = String::new();
    lister.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(begin.elapsed() < FRONT_END_PATIENCE / 2, "it took {:?}", begin.elapsed());
}

/// A tail that takes its chains' messages, confirms nothing and answers no question.
async fn play_silent_tail(identity: Arc<Identity>, listener: TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let identity = identity.clone();
        tokio::spawn(async move {
            let (node, purpose, reader, writer) = accept(&identity, stream).await.unwrap();
            assert_eq!(node, index(0));
            match purpose {
                Purpose::Chain => join_and_confirm_nothing(reader, writer).await,
                // Held open.
                _ => std::future::pending().await,
            }
        });
    }
}

async fn join_and_confirm_nothing(mut reader: FrameReader, mut writer: FrameWriter) {
    while let Ok(Some(frame)) = reader.next().await {
        let answer = match frame {
            Frame::Ping => Frame::Pong,
            Frame::Chain(partition, Message::Probe { .. }) => {
                let readiness = Readiness { writable: true, has_space: true };
                let (accepted, committed) = (Version::NONE, Version::NONE);
                let resume = Message::Resume { accepted, committed, readiness, compared: true };
                Frame::Chain(partition, resume)
            }
            _ => continue,
        };
        writer.send(&answer, PATIENCE).await.unwrap();
    }
}
