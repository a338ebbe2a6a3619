//! What comes over UDP to a replica: datagrams of any bytes, some of them with headers that belong to the cluster and checksums that
//! fit, give frames or errors; every frame that was taken encodes to bytes that give it again.
#![no_main]

use ashlar_fastpath::replication::{HEADER_BYTES, Header, MAGIC, VERSION};
use ashlar_wire::replication::{Reassembly, decode, encode, take_frame};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, IntoBytes};

const CLUSTER: u64 = 7;

/// Makes bytes a frame of the cluster that only its contents could be wrong with.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut header, body) = Header::read_from_prefix(bytes).ok()?;
    (header.magic, header.version) = (MAGIC.into(), VERSION);
    header.cluster = CLUSTER.into();
    header.body_bytes = u32::try_from(body.len()).ok()?.into();
    header.checksum = 0.into();
    let mut frame = [header.as_bytes(), body].concat();
    header.checksum = (xxh3_64(&frame) as u32).into();
    frame[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    Some(frame)
}

fuzz_target!(|datagrams: Vec<(bool, Vec<u8>)>| {
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut reassembly = Reassembly::default();
    for (is_sealed, bytes) in datagrams {
        let frame = is_sealed.then(|| sealed(&bytes)).flatten();
        let mut datagram = Bytes::from(frame.unwrap_or(bytes));
        while !datagram.is_empty() {
            let part = take_frame(&mut datagram);
            let Ok(Some(frame)) = reassembly.take(CLUSTER, from, part) else { continue };
            let Ok((scope, sender, frame)) = decode(CLUSTER, &frame) else { continue };
            let mut again = Vec::new();
            encode(scope, sender, &frame, &mut again);
            assert_eq!(decode(CLUSTER, &Bytes::from(again)), Ok((scope, sender, frame)));
        }
    }
});
