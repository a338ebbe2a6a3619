//! A connection between storage nodes, as frames.

use super::{CONNECT_TIMEOUT, Identity};
use ashlar_object::NodeIndex;
use ashlar_wire::{Frame, FrameError, Hello, HelloAnswer, Purpose};
use bytes::BytesMut;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// Why a connection to a peer is of no further use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer sent what is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The peer does not want this connection.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The peer did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The peer has opened another connection in place of this one.
    #[error("the peer has connected anew")]
    Replaced,
    /// This node's chain thread takes nothing in: its disk is full or hangs.
    #[error("the chain thread takes nothing in")]
    Stuck,
    /// A frame that does not belong here.
    #[error("unexpected frame instead of {0}")]
    Unexpected(&'static str),
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: OwnedReadHalf,
    /// What has arrived and is not decoded yet; at most one frame and one read.
    buffer: BytesMut,
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    stream: OwnedWriteHalf,
    /// What is encoded and not sent yet.
    buffer: BytesMut,
}

impl FrameReader {
    /// Room for one read.
    const READ_BYTES: usize = 64 * 1024;

    /// The next frame; none when the peer closed the connection between frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, PeerError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(Self::READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(PeerError::Closed) };
            }
        }
    }

    /// As [`FrameReader::next`], but the peer must send or close within `limit`.
    pub(crate) async fn next_within(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Frame>, PeerError> {
        timeout(limit, self.next()).await.map_err(|_| PeerError::Timeout(limit))?
    }

    /// The next frame, which must come within `limit`.
    pub(crate) async fn expect(&mut self, limit: Duration) -> Result<Frame, PeerError> {
        self.next_within(limit).await?.ok_or(PeerError::Closed)
    }
}

impl FrameWriter {
    /// Encodes a frame; [`FrameWriter::flush`] sends it.
    pub(crate) fn push(&mut self, frame: &Frame) {
        frame.encode(&mut self.buffer);
    }

    /// How many bytes wait for [`FrameWriter::flush`].
    pub(crate) fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Sends what was pushed; the peer must take bytes at least every `limit`.
    pub(crate) async fn flush(&mut self, limit: Duration) -> Result<(), PeerError> {
        while !self.buffer.is_empty() {
            match timeout(limit, self.stream.write_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(PeerError::Closed),
                Ok(result) => result?,
                Err(_) => return Err(PeerError::Timeout(limit)),
            };
        }
        Ok(())
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, frame: &Frame, limit: Duration) -> Result<(), PeerError> {
        self.push(frame);
        self.flush(limit).await
    }
}

/// Opens a connection to `node` for `purpose`.
pub(crate) async fn connect(
    identity: &Identity,
    node: NodeIndex,
    purpose: Purpose,
) -> Result<(FrameReader, FrameWriter), PeerError> {
    let address = identity.peer_address(node);
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| PeerError::Timeout(CONNECT_TIMEOUT))??;
    let (mut reader, mut writer) = split(stream)?;
    let hello = Hello {
        fingerprint: identity.cluster.map.fingerprint(),
        node: identity.name().into(),
        purpose,
    };
    writer.send(&Frame::Hello(hello), CONNECT_TIMEOUT).await?;
    match reader.expect(CONNECT_TIMEOUT).await? {
        Frame::HelloAnswer(HelloAnswer::Welcome) => Ok((reader, writer)),
        Frame::HelloAnswer(HelloAnswer::Refused(why)) => Err(PeerError::Refused(why)),
        _ => Err(PeerError::Unexpected("the answer to a hello")),
    }
}

/// Greets whoever connected; tells who it is and what for.
pub(crate) async fn accept(
    identity: &Identity,
    stream: TcpStream,
) -> Result<(NodeIndex, Purpose, FrameReader, FrameWriter), PeerError> {
    let (mut reader, mut writer) = split(stream)?;
    let Frame::Hello(hello) = reader.expect(CONNECT_TIMEOUT).await? else {
        return Err(PeerError::Unexpected("a hello"));
    };
    let map = &identity.cluster.map;
    let verdict = match map.node_named(&hello.node) {
        _ if hello.fingerprint != map.fingerprint() => Err("the cluster maps differ"),
        Some(node) if node != identity.node => Ok(node),
        Some(_) => Err("the peer has this node's name"),
        None => Err("no storage node has that name"),
    };
    match verdict {
        Ok(node) => {
            let welcome = Frame::HelloAnswer(HelloAnswer::Welcome);
            writer.send(&welcome, CONNECT_TIMEOUT).await?;
            Ok((node, hello.purpose, reader, writer))
        }
        Err(why) => {
            let refusal = Frame::HelloAnswer(HelloAnswer::Refused(why.into()));
            writer.send(&refusal, CONNECT_TIMEOUT).await?;
            Err(PeerError::Refused(format!("{why} (peer {:?})", hello.node)))
        }
    }
}

/// The halves of a connection.
pub(crate) fn split(stream: TcpStream) -> Result<(FrameReader, FrameWriter), PeerError> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let reader = FrameReader { stream: read, buffer: BytesMut::new() };
    Ok((reader, FrameWriter { stream: write, buffer: BytesMut::new() }))
}
