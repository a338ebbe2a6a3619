//! The link to a successor: one connection for the chains of all partitions, kept up for ever.

use super::{
    Identity, LINK_QUEUE_MAX, SILENCE_TIMEOUT,
    connection::{FrameReader, FrameWriter, PeerError, connect},
};
use crate::storage_node::chain_thread::{ChainHandle, Input};
use ashlar_object::NodeIndex;
use ashlar_wire::{Frame, Purpose};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// Attempts that fail before the log tells: nodes that start together find each other within a few.
const QUIET_ATTEMPTS: u32 = 10;
/// Encoded bytes that are gathered before they are sent.
const GATHER_BYTES_MAX: usize = 256 * 1024;

/// Keeps the link to `successor` up until the chain thread ends.
pub(crate) async fn maintain(identity: Arc<Identity>, successor: NodeIndex, chain: ChainHandle) {
    let name = identity.cluster.map.member(successor).name.clone();
    let mut failures = 0;
    while !chain.is_closed() {
        match connect(&identity, successor, Purpose::Chain).await {
            Ok((reader, writer)) => {
                tracing::info!(successor = name, "chain link is up");
                failures = 0;
                let Err(error) = run(successor, &chain, reader, writer).await;
                tracing::warn!(successor = name, %error, "chain link is down");
                chain.send(Input::SuccessorDown { node: successor }).await;
            }
            Err(error) => {
                failures += 1;
                // Told once: the others repeat it.
                if failures == QUIET_ATTEMPTS {
                    tracing::warn!(successor = name, %error, "cannot reach the successor");
                }
            }
        }
        sleep(RECONNECT_DELAY).await;
    }
}

async fn run(
    successor: NodeIndex,
    chain: &ChainHandle,
    reader: FrameReader,
    writer: FrameWriter,
) -> Result<Infallible, PeerError> {
    let (sender, queue) = mpsc::channel(LINK_QUEUE_MAX);
    chain.send(Input::SuccessorUp { node: successor, link: sender }).await;
    tokio::select! {
        result = receive(successor, chain, reader) => result,
        result = transmit(queue, writer) => result,
    }
}

/// Passes what the successor says to the chain thread. Its pongs show that it lives.
async fn receive(
    successor: NodeIndex,
    chain: &ChainHandle,
    mut reader: FrameReader,
) -> Result<Infallible, PeerError> {
    loop {
        match reader.expect(SILENCE_TIMEOUT).await? {
            Frame::Chain(partition, message) => {
                chain.send(Input::Message { partition, from: successor, message }).await;
            }
            Frame::Pong => {}
            _ => return Err(PeerError::Unexpected("a chain message")),
        }
    }
}

/// Sends what the chain thread queues, gathered, and a ping now and then.
async fn transmit(
    mut queue: mpsc::Receiver<Frame>,
    mut writer: FrameWriter,
) -> Result<Infallible, PeerError> {
    let mut ping = interval(SILENCE_TIMEOUT / 4);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = queue.recv() => writer.push(&frame.ok_or(PeerError::Closed)?),
            _ = ping.tick() => writer.push(&Frame::Ping),
        }
        gather(&mut queue, &mut writer);
        writer.flush(SILENCE_TIMEOUT).await?;
    }
}

/// Encodes what else is queued, up to a bound.
fn gather(queue: &mut mpsc::Receiver<Frame>, writer: &mut FrameWriter) {
    while writer.pending_bytes() < GATHER_BYTES_MAX {
        let Ok(frame) = queue.try_recv() else { return };
        writer.push(&frame);
    }
}

/// The other end: takes a predecessor's messages in and answers on the same connection.
pub(crate) async fn serve(
    predecessor: NodeIndex,
    chain: ChainHandle,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), PeerError> {
    let (sender, mut queue) = mpsc::channel::<Frame>(LINK_QUEUE_MAX);
    let pongs = sender.clone();
    hand_over(&chain, Input::PredecessorUp { node: predecessor, link: sender }).await?;
    let receive = async {
        loop {
            // A predecessor that is silent for long has gone; it pings four times as often.
            match reader.next_within(2 * SILENCE_TIMEOUT).await? {
                Some(Frame::Chain(partition, message)) => {
                    let input = Input::Message { partition, from: predecessor, message };
                    hand_over(&chain, input).await?;
                }
                Some(Frame::Ping) => {
                    // A full queue shows that we live; the next ping is answered again.
                    let _ = pongs.try_send(Frame::Pong);
                }
                Some(_) => return Err(PeerError::Unexpected("a chain message")),
                None => return Ok(()),
            }
            if chain.is_closed() {
                return Err(PeerError::Closed);
            }
        }
    };
    let transmit = async {
        while let Some(frame) = queue.recv().await {
            writer.push(&frame);
            gather(&mut queue, &mut writer);
            writer.flush(SILENCE_TIMEOUT).await?;
        }
        Ok(())
    };
    tokio::select! {
        result = receive => result,
        result = transmit => result,
    }
}

/// Hands an input to the chain thread, which may be waiting for its disk. The predecessor does not
/// wait for that: it hears no pongs and connects anew, so this connection must end, too.
async fn hand_over(chain: &ChainHandle, input: Input) -> Result<(), PeerError> {
    match timeout(2 * SILENCE_TIMEOUT, chain.send(input)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(PeerError::Closed),
        Err(_) => Err(PeerError::Stuck),
    }
}
