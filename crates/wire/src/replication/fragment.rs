//! Frames that are longer than a datagram.

use super::{DecodeError, FRAME_BYTES_MAX, HEADER_BYTES, Header, decode, encode::seal, kind};
use ashlar_fastpath::replication::{MAGIC, NO_PLACE, VERSION};
use bytes::Bytes;
use core::net::SocketAddr;
use std::collections::HashMap;

/// Senders of which parts are kept.
const SENDERS_MAX: usize = 256;
/// Frames of one sender that may be incomplete at one time: more mean that their rest was lost.
const INCOMPLETE_MAX: usize = 4;
/// Bytes of all incomplete frames together.
const BYTES_MAX: usize = 64 << 20;

/// Cuts frames into datagrams.
#[derive(Debug)]
pub struct Fragments {
    datagram_bytes_max: usize,
    /// Frames that were cut so far: names them.
    number: u64,
}

impl Fragments {
    /// For datagrams of at most so many bytes.
    ///
    /// # Panics
    /// When nothing fits beside a header.
    pub fn new(datagram_bytes_max: usize) -> Self {
        assert!(datagram_bytes_max > 2 * HEADER_BYTES, "datagrams of {datagram_bytes_max} bytes");
        Self { datagram_bytes_max, number: 0 }
    }

    /// Calls `send` with each datagram of a frame: with the frame itself if it fits.
    pub fn cut(&mut self, frame: &[u8], piece: &mut Vec<u8>, mut send: impl FnMut(&[u8])) {
        if frame.len() <= self.datagram_bytes_max {
            return send(frame);
        }
        self.number += 1;
        let whole = decode_header(frame);
        let step = self.datagram_bytes_max - HEADER_BYTES;
        for (place, part) in frame.chunks(step).enumerate() {
            let header = Header {
                magic: MAGIC.into(),
                version: VERSION,
                kind: kind::FRAGMENT,
                sender: NO_PLACE,
                cluster: whole.cluster,
                group: whole.group,
                view: (step as u64).into(),
                op: self.number.into(),
                commit: (frame.len() as u64).into(),
                digest: (place as u64).into(),
                ..Header::default()
            };
            piece.clear();
            piece.resize(HEADER_BYTES, 0);
            piece.extend_from_slice(part);
            seal(header, piece);
            send(piece);
        }
    }
}

fn decode_header(frame: &[u8]) -> Header {
    use zerocopy::FromBytes;
    Header::read_from_prefix(frame).expect("a frame begins with a header").0
}

/// Puts frames together again. What it keeps of them is bounded, whoever sends.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// By their sender; nobody is there without any.
    incomplete: HashMap<SocketAddr, Vec<Incomplete>>,
    /// Of all of them.
    bytes: usize,
}

/// A frame of which some parts have come.
#[derive(Debug)]
struct Incomplete {
    number: u64,
    step: usize,
    bytes: Vec<u8>,
    /// Which parts have come, and how many have not.
    present: Vec<bool>,
    missing: usize,
}

impl Reassembly {
    /// Takes a datagram. Gives the frame that it is, or completes.
    ///
    /// # Errors
    /// When it is neither a frame nor a part of one.
    pub fn take(
        &mut self,
        cluster: u64,
        from: SocketAddr,
        datagram: Bytes,
    ) -> Result<Option<Bytes>, DecodeError> {
        const KIND_OFFSET: usize = 5;
        if datagram.get(KIND_OFFSET) != Some(&kind::FRAGMENT) {
            return Ok(Some(datagram));
        }
        let (header, part) = decode::open(cluster, &datagram)?;
        let invalid = |field| DecodeError::Invalid { field };
        let fits = |value: u64| usize::try_from(value).ok().filter(|it| *it <= FRAME_BYTES_MAX);
        let total = fits(header.commit.get()).ok_or(DecodeError::TooLong { field: "frame" })?;
        let step = fits(header.view.get()).filter(|it| *it > 0).ok_or(invalid("step"))?;
        let start = fits(header.digest.get()).and_then(|place| place.checked_mul(step));
        let start = start.filter(|start| *start < total).ok_or(invalid("place"))?;
        if part.len() != step.min(total - start) {
            return Err(invalid("part"));
        }
        let number = header.op.get();
        let known = self
            .incomplete
            .get(&from)
            .and_then(|frames| frames.iter().position(|frame| frame.number == number));
        if known.is_none() {
            self.make_room(from, total);
        }
        let frames = self.incomplete.entry(from).or_default();
        let at = match known {
            Some(at) => at,
            None => {
                let parts = total.div_ceil(step);
                let (bytes, present) = (vec![0; total], vec![false; parts]);
                frames.push(Incomplete { number, step, bytes, present, missing: parts });
                self.bytes += total;
                frames.len() - 1
            }
        };
        let frame = &mut frames[at];
        if frame.bytes.len() != total || frame.step != step {
            return Err(invalid("frame"));
        }
        frame.bytes[start..start + part.len()].copy_from_slice(&part);
        if !std::mem::replace(&mut frame.present[start / step], true) {
            frame.missing -= 1;
        }
        if frame.missing > 0 {
            return Ok(None);
        }
        let whole = frames.remove(at).bytes;
        if frames.is_empty() {
            self.incomplete.remove(&from);
        }
        self.bytes -= total;
        Ok(Some(whole.into()))
    }

    /// Makes room for one more frame of a sender.
    fn make_room(&mut self, from: SocketAddr, bytes: usize) {
        let is_new = !self.incomplete.contains_key(&from);
        if is_new && self.incomplete.len() >= SENDERS_MAX || self.bytes + bytes > BYTES_MAX {
            // Whoever has lost a part repeats the whole: nothing here is worth more than what comes.
            self.incomplete.clear();
            self.bytes = 0;
        }
        if let Some(frames) = self.incomplete.get_mut(&from)
            && frames.len() >= INCOMPLETE_MAX
        {
            self.bytes -= frames.remove(0).bytes.len();
        }
    }

    /// Whether nothing is incomplete.
    pub fn is_empty(&self) -> bool {
        self.incomplete.is_empty()
    }

    /// Bytes that are kept for incomplete frames.
    pub fn kept_bytes(&self) -> usize {
        self.bytes
    }
}
