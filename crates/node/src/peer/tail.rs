//! Asking tails how far they have committed, many readers with one question.

use super::{
    Identity, QUERY_TIMEOUT, TAIL_WORD_TIMEOUT,
    connection::{FrameReader, FrameWriter, PeerError, connect},
};
use ashlar_object::{NodeIndex, PartitionIndex, Version};
use ashlar_wire::{Frame, Purpose, peer::QUERY_PARTITIONS_MAX};
use std::sync::Arc;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Questions that wait for one tail; beyond, a reader is told that the tail is unavailable.
const QUESTIONS_MAX: usize = 4096;

/// A reader's question.
#[derive(Debug)]
struct Question {
    partition: PartitionIndex,
    answer: oneshot::Sender<Option<Version>>,
}

/// Asks other nodes, as the tails of partitions.
#[derive(Clone, Debug)]
pub(crate) struct TailClient {
    /// A queue for each node of the cluster.
    queues: Arc<Vec<mpsc::Sender<Question>>>,
}

impl TailClient {
    /// Starts a task for each node on the current runtime.
    pub(crate) fn spawn(identity: &Arc<Identity>) -> Self {
        let queues = identity
            .cluster
            .map
            .nodes()
            .map(|node| {
                let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
                tokio::spawn(ask_in_turn(identity.clone(), node, receiver));
                sender
            })
            .collect();
        Self { queues: Arc::new(queues) }
    }

    /// How far `tail` has committed `partition`; none if it cannot tell or does not answer within
    /// [`TAIL_WORD_TIMEOUT`].
    ///
    /// The question goes out after this is called: an answer that was under way before is not
    /// taken, because it may be older than the asker's snapshot.
    pub(crate) async fn committed(
        &self,
        tail: NodeIndex,
        partition: PartitionIndex,
    ) -> Option<Version> {
        let (answer, receiver) = oneshot::channel();
        self.queues[usize::from(tail.0)].try_send(Question { partition, answer }).ok()?;
        timeout(TAIL_WORD_TIMEOUT, receiver).await.ok()?.ok()?
    }
}

/// Sends what has gathered while the last question was out, as one question.
async fn ask_in_turn(
    identity: Arc<Identity>,
    tail: NodeIndex,
    mut queue: mpsc::Receiver<Question>,
) {
    let mut connection = None;
    let mut questions = Vec::new();
    while queue.recv_many(&mut questions, QUERY_PARTITIONS_MAX).await > 0 {
        // Whoever has waited too long has gone.
        questions.retain(|question| !question.answer.is_closed());
        if questions.is_empty() {
            continue;
        }
        let asked = questions.iter().map(|question| question.partition).collect::<Vec<_>>();
        let answers = match ask(&identity, tail, &mut connection, asked).await {
            Ok(answers) => answers,
            Err(error) => {
                connection = None;
                tracing::debug!(tail = tail.0, %error, "tail query failed");
                vec![None; questions.len()]
            }
        };
        for (question, answer) in questions.drain(..).zip(answers) {
            // A reader that gave up needs no answer.
            let _ = question.answer.send(answer);
        }
    }
}

async fn ask(
    identity: &Identity,
    tail: NodeIndex,
    connection: &mut Option<(FrameReader, FrameWriter)>,
    partitions: Vec<PartitionIndex>,
) -> Result<Vec<Option<Version>>, PeerError> {
    let count = partitions.len();
    let query = Frame::TailQuery(partitions);
    // A kept connection may have died unnoticed: try a fresh one before giving up.
    if let Some((mut reader, mut writer)) = connection.take()
        && let Ok(answers) = exchange(&mut reader, &mut writer, &query, count).await
    {
        *connection = Some((reader, writer));
        return Ok(answers);
    }
    let (mut reader, mut writer) = connect(identity, tail, Purpose::Query).await?;
    let answers = exchange(&mut reader, &mut writer, &query, count).await?;
    *connection = Some((reader, writer));
    Ok(answers)
}

async fn exchange(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    query: &Frame,
    count: usize,
) -> Result<Vec<Option<Version>>, PeerError> {
    writer.send(query, QUERY_TIMEOUT).await?;
    match reader.expect(QUERY_TIMEOUT).await? {
        Frame::TailAnswer(answers) if answers.len() == count => Ok(answers),
        _ => Err(PeerError::Unexpected("a tail's answer")),
    }
}
