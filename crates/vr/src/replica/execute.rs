//! Executing what is committed.

use super::{Answer, Replica, Write};
use crate::{
    Configuration, Entry, Kind, Known, Mode, Operation, RESULT_BYTES_MAX, Request, Service,
};
use bytes::Bytes;
use core::net::SocketAddr;

/// The result of a reconfiguration that begins an epoch.
const BEGUN: &[u8] = b"the epoch begins";

/// The members that a request names for the next epoch.
pub(super) struct Reconfiguration {
    pub(super) members: Vec<SocketAddr>,
}

impl Reconfiguration {
    /// Of a request that is one, and names a group.
    pub(super) fn of(request: &Request) -> Option<Self> {
        if request.kind != Kind::Reconfigure {
            return None;
        }
        let text = str::from_utf8(&request.body).ok()?;
        let members =
            text.split(' ').map(str::parse).collect::<Result<Vec<SocketAddr>, _>>().ok()?;
        Configuration::new(0, members.clone()).ok().map(|_| Self { members })
    }
}

impl<S: Service> Replica<S> {
    /// Everything up to `commit` is committed, and is here.
    pub(super) fn advance(&mut self, now_us: u64, commit: u64) {
        self.commit = self.commit.max(commit);
        while self.executed < self.commit {
            let Some(entry) = self.log.get(self.executed + 1).cloned() else { break };
            self.executed = entry.op;
            self.unsaved_bytes += entry.bytes();
            self.time_ms = entry.time_ms;
            self.execute(&entry);
            self.executed_at(entry.op);
        }
        self.settle_epoch(now_us);
        self.forget_old_snapshot();
        self.answer_reads();
        self.release();
        self.checkpoint();
    }

    fn execute(&mut self, entry: &Entry) {
        let Request { client, session, number, acknowledged, kind, body } = &entry.request;
        let (client, number, acknowledged, kind) = (*client, *number, *acknowledged, *kind);
        if kind == Kind::Register {
            self.sessions.register(client, entry.op);
            self.executed_for(client, number);
            let begun_op = self.sessions.begun(client).expect("it has just registered");
            let result = Bytes::copy_from_slice(&begun_op.to_le_bytes());
            self.reply(client, 0, Answer::Executed(result));
            return;
        }
        self.executed_for(client, number);
        match self.sessions.lookup(client, *session, number) {
            Known::NoSession => return self.reply(client, number, Answer::NoSession),
            Known::New { executed } if executed == number - 1 => {}
            // It is in the log twice, or its predecessor is not.
            Known::New { .. } | Known::Executed(_) | Known::Acknowledged => return,
        }
        let begins = Reconfiguration::of(&entry.request);
        let result = match (kind, &begins) {
            (Kind::Reconfigure, Some(_)) => Bytes::from_static(BEGUN),
            (Kind::Reconfigure, None) => Bytes::new(),
            _ => {
                let operation = Operation { op: entry.op, time_ms: entry.time_ms, client, body };
                let result = self.service.execute(&operation);
                assert!(result.len() <= RESULT_BYTES_MAX, "a result of {} bytes", result.len());
                result
            }
        };
        self.sessions.note(client, number, acknowledged, entry.op, result.clone());
        self.reply(client, number, Answer::Executed(result));
        if let Some(Reconfiguration { members }) = begins {
            self.begin_epoch(entry, members);
        }
    }

    /// Answers a client, if that is this replica's task.
    fn reply(&mut self, client: crate::ClientId, number: u64, answer: Answer) {
        if self.leading.is_some() {
            self.answer(client, number, answer);
        }
    }

    /// Writes a checkpoint when much was executed since the last one, or nothing but one can shorten the log.
    pub(super) fn checkpoint(&mut self) {
        let bytes_max = self.options.log_bytes_max;
        let is_long = self.unsaved_bytes > bytes_max / 2 || self.log.bytes() > bytes_max;
        let is_durable = self.options.mode == Mode::Durable;
        if !is_durable
            || !is_long
            || self.checkpoint.is_some()
            || self.executed <= self.checkpoint_op
        {
            return;
        }
        let bytes = self.encode_snapshot();
        let digest = self.log.digest_at(self.executed).expect("what was executed last is here");
        let (op, promise) = (self.executed, self.promise());
        let number =
            self.outputs.write(Write::Checkpoint { op, digest, bytes, replaces: false, promise });
        self.checkpoint = Some((number, op));
        self.unsaved_bytes = 0;
    }

    /// Forgets what nobody is likely to ask for.
    pub(super) fn release(&mut self) {
        let last_op = match self.options.mode {
            Mode::Volatile => self.executed,
            Mode::Durable => self.executed.min(self.checkpoint_op),
        };
        let bytes_max = self.options.log_bytes_max;
        while self.log.bytes() > bytes_max && self.log.base_op() < last_op {
            self.log.release(self.log.base_op() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::{
        ClientId, Configuration, Kind, Mode, Operation, Options, Output, RESULT_BYTES_MAX, ReadId,
        Replica, Request, Service, Start, Write,
    };
    use bytes::Bytes;

    /// Gives as many bytes as it is asked for.
    struct Long;

    impl Service for Long {
        fn execute(&mut self, operation: &Operation<'_>) -> Bytes {
            self.read(operation.body)
        }

        fn read(&self, question: &[u8]) -> Bytes {
            vec![0; u64::from_le_bytes(question.try_into().unwrap()) as usize].into()
        }

        fn snapshot(&self) -> Bytes {
            Bytes::new()
        }

        fn restore(&mut self, _snapshot: &Bytes) -> bool {
            true
        }
    }

    /// A group of one, which executes a request at once, and how many checkpoints it has written.
    struct Alone(Replica<Long>, usize);

    impl Alone {
        fn new() -> Self {
            Self::with(Options::default())
        }

        fn with(options: Options) -> Self {
            let address = ([10, 0, 0, 1], 1).into();
            let start = Start::New(Configuration::new(0, vec![address]).unwrap());
            let replica = Replica::new(0, address, options, 1, start, Long);
            let mut alone = Self(replica.unwrap(), 0);
            alone.perform();
            alone.request(Kind::Register, 0, 0, Bytes::new());
            alone
        }

        fn perform(&mut self) {
            while let Some(output) = self.0.poll_output() {
                if let Output::Persist { number, write } = output {
                    self.1 += usize::from(matches!(write, Write::Checkpoint { .. }));
                    self.0.handle_persisted(0, number);
                }
            }
        }

        fn request(&mut self, kind: Kind, session: u64, number: u64, body: Bytes) {
            let (client, acknowledged) = (ClientId(1), number.saturating_sub(1));
            let request = Request { client, session, number, acknowledged, kind, body };
            self.0.handle_request(0, 0, request);
            self.perform();
        }

        fn execute(&mut self, bytes: usize) {
            let body = Bytes::copy_from_slice(&(bytes as u64).to_le_bytes());
            self.request(Kind::Operation, 1, 1, body);
            assert_eq!(self.0.executed(), 2);
        }

        fn read(&mut self, bytes: usize) {
            let question = Bytes::copy_from_slice(&(bytes as u64).to_le_bytes());
            self.0.handle_read(0, ReadId(1), question);
        }
    }

    #[test]
    fn a_checkpoint_is_written_for_every_half_of_a_log_and_no_more_often() {
        let log_bytes_max = 40_000;
        let options = Options {
            mode: Mode::Durable,
            log_bytes_max,
            window_bytes: 10_000,
            batch_bytes_max: 1_000,
            ..Options::default()
        };
        let mut alone = Alone::with(options);
        let mut appended = 0;
        for number in 1..=2_000 {
            let body = Bytes::copy_from_slice(&[0; 8]);
            alone.request(Kind::Operation, 1, number, body);
            appended += alone.0.log().get(alone.0.log().head_op()).unwrap().bytes();
        }
        let expected = appended / (log_bytes_max / 2);
        assert!((expected - 1..=expected + 1).contains(&alone.1), "{} checkpoints", alone.1);
        assert!(alone.0.log().bytes() <= log_bytes_max);
    }

    #[test]
    fn results_and_answers_of_the_largest_size_are_taken() {
        Alone::new().execute(RESULT_BYTES_MAX);
        Alone::new().read(RESULT_BYTES_MAX);
    }

    #[test]
    #[should_panic(expected = "a result of")]
    fn a_longer_result_is_a_fault_of_its_service() {
        Alone::new().execute(RESULT_BYTES_MAX + 1);
    }

    #[test]
    #[should_panic(expected = "an answer of")]
    fn a_longer_answer_is_a_fault_of_its_service() {
        Alone::new().read(RESULT_BYTES_MAX + 1);
    }
}
