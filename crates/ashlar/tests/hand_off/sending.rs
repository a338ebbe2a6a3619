//! How users send bursts of requests: in pieces of any size, with pauses, and not always to the end.

use crate::{
    http_client::Outgoing,
    model::{Asked, Content, Framing, Method},
};
use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use std::{io, time::Duration};
use tokio::{sync::oneshot, time::sleep};

/// Bytes of a body written in one go.
const PIECE_BYTES: usize = 48 << 10;

/// How a burst of requests ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection goes on.
    None,
    /// The last request says that it is the last.
    Close,
    /// The user sends its last byte before the answers come.
    HalfClose,
    /// The user is gone in the middle of the last answer.
    Abort,
    /// The user is gone, with a reset, while it sends.
    AbortSending,
}

/// Whether a user has sent what it wanted to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    CalledOff,
}

/// Sends a burst, in pieces of any size.
pub(crate) struct Writer<'a> {
    pub(crate) random: Pcg64Mcg,
    pub(crate) outgoing: &'a mut Outgoing,
    /// Stalls now and then.
    pub(crate) rude: bool,
    /// Opens when the server asks for a body.
    pub(crate) gate: Option<oneshot::Receiver<()>>,
}

impl Writer<'_> {
    pub(crate) async fn send(&mut self, asked: &[Asked], ending: Ending) -> io::Result<Sent> {
        let calls_off = ending == Ending::AbortSending;
        // Everything that fits goes out in one piece; bodies are made as they go.
        let mut ready = Vec::new();
        for asked in asked {
            ready.extend_from_slice(asked.head.as_bytes());
            if calls_off && self.random.random_bool(0.3) {
                let some = self.random.random_range(0..=ready.len());
                self.outgoing.send(&ready[..some]).await?;
                return self.call_off();
            }
            let Method::Put(content) = asked.method else { continue };
            if asked.framing == Framing::Expect {
                self.pieces(&mut ready).await?;
                let gate = self.gate.take().expect("one request of a burst waits at most");
                if gate.await.is_err() {
                    return Ok(Sent::All);
                }
            }
            if self.body(content, asked.framing, calls_off, &mut ready).await? == Sent::CalledOff {
                return Ok(Sent::CalledOff);
            }
        }
        self.pieces(&mut ready).await?;
        if ending == Ending::HalfClose {
            self.outgoing.finish().await?;
        }
        if calls_off { self.call_off() } else { Ok(Sent::All) }
    }

    fn call_off(&self) -> io::Result<Sent> {
        self.outgoing.reset_on_drop()?;
        Ok(Sent::CalledOff)
    }

    async fn body(
        &mut self,
        content: Content,
        framing: Framing,
        calls_off: bool,
        ready: &mut Vec<u8>,
    ) -> io::Result<Sent> {
        let mut offset = 0;
        while offset < content.size {
            let left = (content.size - offset) as usize;
            let piece = self.random.random_range(1..=PIECE_BYTES).min(left);
            if framing == Framing::Chunked {
                ready.extend_from_slice(format!("{piece:x}\r\n").as_bytes());
            }
            let start = ready.len();
            ready.resize(start + piece, 0);
            content.fill(offset, &mut ready[start..]);
            offset += piece as u64;
            if framing == Framing::Chunked {
                ready.extend_from_slice(b"\r\n");
            }
            if ready.len() >= PIECE_BYTES {
                self.pieces(ready).await?;
                if calls_off && self.random.random_bool(0.2) {
                    return self.call_off();
                }
            }
        }
        if framing == Framing::Chunked {
            ready.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(Sent::All)
    }

    /// Sends what is ready; sometimes in two parts with a pause between them.
    async fn pieces(&mut self, ready: &mut Vec<u8>) -> io::Result<()> {
        let split = if ready.len() > 1 && self.random.random_bool(0.1) {
            self.random.random_range(1..ready.len())
        } else {
            0
        };
        if split > 0 {
            self.outgoing.send(&ready[..split]).await?;
            let stalls = self.rude && self.random.random_bool(0.1);
            let pause_ms = self.random.random_range(0..if stalls { 1_500 } else { 4 });
            sleep(Duration::from_millis(pause_ms)).await;
        }
        self.outgoing.send(&ready[split..]).await?;
        ready.clear();
        Ok(())
    }
}
