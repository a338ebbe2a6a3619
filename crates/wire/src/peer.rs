//! The framing between storage nodes: chain messages, staged bodies, tail queries.
//!
//! A connection starts with [`Frame::Hello`] and its answer, and then serves one [`Purpose`].
//!
//! | frame         | sent by     | purpose | meaning |
//! |---------------|-------------|---------|---------|
//! | `Hello`       | connector   | all     | who I am, what for, which cluster map I follow |
//! | `HelloAnswer` | acceptor    | all     | welcome, or why not |
//! | `Chain`       | both        | chain   | a [`Message`] of one partition's chain |
//! | `Ping`, `Pong`| connector, acceptor | chain | the peer is alive |
//! | `StageOpen`   | connector   | stage   | a body follows; with `relay`, pass it on down the chain |
//! | `StageData`   | connector   | stage   | its next bytes |
//! | `StageEnd`    | connector   | stage   | it is complete |
//! | `StageDiscard`| connector   | stage   | the body's write never came to be |
//! | `StageDone`   | acceptor    | stage   | the body is synced here and behind |
//! | `StageFailed` | acceptor    | stage   | it is not, and why |
//! | `TailQuery`   | connector   | query   | how far are these partitions committed? |
//! | `TailAnswer`  | acceptor    | query   | that far, in the order asked |

use ashlar_object::{PartitionIndex, StageId, Version, chain::Message};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32},
};

/// The layout's version; peers with another one are refused.
pub const PROTOCOL_VERSION: u8 = 2;
/// The largest payload of a frame: an inline body of 1 MiB with its metadata, or a piece of a
/// staged one.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// The largest piece of a staged body in one frame.
pub const STAGE_DATA_BYTES_MAX: usize = 1 << 20;
/// The most partitions in one tail query.
pub const QUERY_PARTITIONS_MAX: usize = 4096;

/// What precedes every payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameHeader {
    /// CRC32C of the rest of the header and the payload.
    pub checksum: U32,
    /// Bytes of the payload, at most [`PAYLOAD_BYTES_MAX`].
    pub length_bytes: U32,
    /// Which frame.
    pub kind: u8,
    /// [`PROTOCOL_VERSION`].
    pub version: u8,
    /// The partition, for frames that concern one.
    pub partition: U16,
}

/// Bytes of a [`FrameHeader`].
pub const HEADER_BYTES: usize = 12;
const _: () = assert!(size_of::<FrameHeader>() == HEADER_BYTES);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Chain messages of all partitions in which the connector precedes the acceptor.
    Chain,
    /// Staged bodies, one after the other.
    Stage,
    /// Tail queries.
    Query,
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`ClusterMap::fingerprint`](ashlar_object::ClusterMap::fingerprint) of the sender's map.
    pub fingerprint: u64,
    /// The sender's name in the map.
    pub node: String,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// Go on.
    Welcome,
    /// The connection is about to be closed, and why.
    Refused(String),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who, what for.
    Hello(Hello),
    /// Welcome or not.
    HelloAnswer(HelloAnswer),
    /// A message of a partition's chain.
    Chain(PartitionIndex, Message),
    /// Are you alive?
    Ping,
    /// I am.
    Pong,
    /// A staged body follows.
    StageOpen {
        /// The partition whose chain it goes down.
        partition: PartitionIndex,
        /// Its name.
        stage: StageId,
        /// Whether the receiver passes it on to its own successor.
        relay: bool,
    },
    /// The body's next bytes, at most [`STAGE_DATA_BYTES_MAX`].
    StageData(Bytes),
    /// The body is complete.
    StageEnd {
        /// Its length, to be compared with what arrived.
        length_bytes: u64,
    },
    /// The write of this body never came to be: remove it here and behind.
    StageDiscard {
        /// The partition whose chain it went down.
        partition: PartitionIndex,
        /// Its name.
        stage: StageId,
    },
    /// The body is synced here and, if relayed, behind.
    StageDone,
    /// The body could not be stored.
    StageFailed(String),
    /// How far are these partitions committed?
    TailQuery(Vec<PartitionIndex>),
    /// So far, in the order asked; none where the receiver cannot tell.
    TailAnswer(Vec<Option<Version>>),
}

/// Why bytes are not a frame. The connection they came on is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The sender speaks another version.
    #[error("the peer speaks protocol version {0}, this node {PROTOCOL_VERSION}")]
    Version(u8),
    /// The length is beyond [`PAYLOAD_BYTES_MAX`].
    #[error("a frame of {0} bytes is beyond the limit of {PAYLOAD_BYTES_MAX}")]
    TooLong(u32),
    /// The checksum does not fit.
    #[error("a frame's checksum does not fit")]
    Checksum,
    /// No such frame.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The payload does not parse.
    #[error("malformed payload of frame kind {0}")]
    Payload(u8),
}

impl Frame {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// When the payload is larger than [`PAYLOAD_BYTES_MAX`]: the sender must bound what it sends.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, HEADER_BYTES);
        self.put_payload(out);
        let length = out.len() - start - HEADER_BYTES;
        assert!(length <= PAYLOAD_BYTES_MAX, "a frame of {length} bytes");
        let mut header = FrameHeader {
            checksum: U32::ZERO,
            length_bytes: U32::new(length as u32),
            kind: self.kind(),
            version: PROTOCOL_VERSION,
            partition: U16::new(self.partition().0),
        };
        header.checksum = U32::new(checksum(&header, &out[start + HEADER_BYTES..]));
        out[start..start + HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// Takes the next frame off the front of `buffer`; none if it is not complete yet.
    ///
    /// # Errors
    /// When the bytes cannot be a frame.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Ok((header, rest)) = FrameHeader::read_from_prefix(buffer) else {
            return Ok(None);
        };
        if header.version != PROTOCOL_VERSION {
            return Err(FrameError::Version(header.version));
        }
        let length = header.length_bytes.get();
        if length as usize > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        if rest.len() < length as usize {
            return Ok(None);
        }
        if checksum(&header, &rest[..length as usize]) != header.checksum.get() {
            return Err(FrameError::Checksum);
        }
        buffer.advance(HEADER_BYTES);
        let payload = buffer.split_to(length as usize).freeze();
        Self::parse(&header, payload).map(Some)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::HelloAnswer(_) => 2,
            Self::Chain(..) => 3,
            Self::Ping => 4,
            Self::Pong => 5,
            Self::StageOpen { .. } => 6,
            Self::StageData(_) => 7,
            Self::StageEnd { .. } => 8,
            Self::StageDiscard { .. } => 9,
            Self::StageDone => 10,
            Self::StageFailed(_) => 11,
            Self::TailQuery(_) => 12,
            Self::TailAnswer(_) => 13,
        }
    }

    fn partition(&self) -> PartitionIndex {
        match self {
            Self::Chain(partition, _)
            | Self::StageOpen { partition, .. }
            | Self::StageDiscard { partition, .. } => *partition,
            _ => PartitionIndex(0),
        }
    }

    fn put_payload(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => put(out, hello),
            Self::HelloAnswer(answer) => put(out, answer),
            Self::Chain(_, message) => put(out, message),
            Self::Ping | Self::Pong | Self::StageDone => {}
            Self::StageOpen { stage, relay, .. } => put(out, &(stage, relay)),
            Self::StageData(bytes) => out.extend_from_slice(bytes),
            Self::StageEnd { length_bytes } => put(out, length_bytes),
            Self::StageDiscard { stage, .. } => put(out, stage),
            Self::StageFailed(why) => put(out, why),
            Self::TailQuery(partitions) => {
                put(out, &partitions.iter().map(|partition| partition.0).collect::<Vec<_>>());
            }
            Self::TailAnswer(versions) => put(out, versions),
        }
    }

    fn parse(header: &FrameHeader, payload: Bytes) -> Result<Self, FrameError> {
        let partition = PartitionIndex(header.partition.get());
        let kind = header.kind;
        let frame = match kind {
            1 => Self::Hello(get(kind, &payload)?),
            2 => Self::HelloAnswer(get(kind, &payload)?),
            3 => Self::Chain(partition, get(kind, &payload)?),
            4 => Self::Ping,
            5 => Self::Pong,
            6 => {
                let (stage, relay) = get(kind, &payload)?;
                Self::StageOpen { partition, stage, relay }
            }
            7 if payload.len() <= STAGE_DATA_BYTES_MAX => Self::StageData(payload),
            8 => Self::StageEnd { length_bytes: get(kind, &payload)? },
            9 => Self::StageDiscard { partition, stage: get(kind, &payload)? },
            10 => Self::StageDone,
            11 => Self::StageFailed(get(kind, &payload)?),
            12 => {
                let partitions: Vec<u16> = get(kind, &payload)?;
                if partitions.len() > QUERY_PARTITIONS_MAX {
                    return Err(FrameError::Payload(kind));
                }
                Self::TailQuery(partitions.into_iter().map(PartitionIndex).collect())
            }
            13 => Self::TailAnswer(get(kind, &payload)?),
            7 => return Err(FrameError::Payload(kind)),
            _ => return Err(FrameError::Kind(kind)),
        };
        Ok(frame)
    }
}

fn checksum(header: &FrameHeader, payload: &[u8]) -> u32 {
    let head = crc32c::crc32c(&header.as_bytes()[size_of::<U32>()..]);
    crc32c::crc32c_append(head, payload)
}

fn put<T: Serialize>(out: &mut BytesMut, value: &T) {
    // Serializing to memory fails only for types that postcard cannot express; ours are tested.
    let bytes = postcard::to_stdvec(value).expect("the payload serializes");
    out.extend_from_slice(&bytes);
}

fn get<'a, T: Deserialize<'a>>(kind: u8, payload: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Payload(kind)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::{Body, Change, ETag, Entry, Key, ObjectMeta, Operation, chain::Readiness};
    use proptest::prelude::*;

    fn put_entry(body: Body) -> Message {
        let meta = ObjectMeta {
            size_bytes: 3,
            etag: ETag([7; 16]),
            modified_ms: 5,
            content_type: Some("text/plain".into()),
            user: vec![("a".into(), "b".into())],
        };
        let operation =
            Operation { key: Key::new("k").unwrap(), change: Change::Put { meta, body } };
        Message::Prepare(Entry { version: Version(9), operation: operation.into() })
    }

    fn samples() -> Vec<Frame> {
        let (partition, stage) = (PartitionIndex(300), StageId(u128::MAX - 5));
        let hello = Hello { fingerprint: u64::MAX, node: "s1".into(), purpose: Purpose::Stage };
        vec![
            Frame::Hello(hello),
            Frame::HelloAnswer(HelloAnswer::Refused("no".into())),
            Frame::Chain(partition, put_entry(Body::Inline(Bytes::from_static(b"foo")))),
            Frame::Chain(partition, put_entry(Body::Staged(stage))),
            Frame::Chain(
                partition,
                Message::Probe { committed: Version(3), holds: Some(Version(4)) },
            ),
            Frame::Chain(
                partition,
                Message::Progress {
                    committed: Version(3),
                    readiness: Readiness { writable: true, has_space: false },
                },
            ),
            Frame::Ping,
            Frame::Pong,
            Frame::StageOpen { partition, stage, relay: true },
            Frame::StageData(Bytes::from_static(&[1; 1000])),
            Frame::StageEnd { length_bytes: 1 << 40 },
            Frame::StageDiscard { partition, stage },
            Frame::StageDone,
            Frame::StageFailed("disk full".into()),
            Frame::TailQuery(vec![partition]),
            Frame::TailAnswer(vec![None, Some(Version(4))]),
        ]
    }

    #[test]
    fn frames_survive_the_wire_in_any_segmentation() {
        let mut stream = BytesMut::new();
        samples().iter().for_each(|frame| frame.encode(&mut stream));
        for step in [1, 7, 64, stream.len()] {
            let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    decoded.push(frame);
                }
            }
            assert_eq!(decoded, samples());
        }
    }

    #[test]
    fn the_layout_does_not_change_by_accident() {
        let mut out = BytesMut::new();
        Frame::StageEnd { length_bytes: 5 }.encode(&mut out);
        assert_eq!(&out[4..], [1, 0, 0, 0, 8, 2, 0, 0, 5]);
    }

    #[test]
    fn a_peer_of_another_version_is_named() {
        let mut out = BytesMut::new();
        Frame::Ping.encode(&mut out);
        out[9] = 1;
        assert_eq!(Frame::decode(&mut out), Err(FrameError::Version(1)));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_accepted(pick in any::<proptest::sample::Index>(), bit in any::<proptest::sample::Index>()) {
            let frames = samples();
            let mut out = BytesMut::new();
            let frame = pick.get(&frames);
            frame.encode(&mut out);
            let at = bit.index(out.len() * 8);
            out[at / 8] ^= 1 << (at % 8);
            if let Ok(Some(other)) = Frame::decode(&mut out) {
                prop_assert_eq!(&other, frame, "a damaged frame was taken for another");
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
        }
    }
}
