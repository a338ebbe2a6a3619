//! One connection of the generator: a request, its answer, and whether the answer is right.

use super::content::Content;
use super::deadline::Deadline;
use super::failure::Failure;
use super::recorder::Recorder;
use super::response::{Response, ResponseParser};
use super::target::{Target, TlsFacts};
use super::transport::{Sink, Transport};
use super::workload::{Operation, OperationSource};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How much of a request body goes out with its head, in one system call.
const INLINE_BODY_BYTES_MAX: u64 = 64 * 1024;

/// What the connections of one thread share.
pub(super) struct ThreadContext {
    /// Where the load goes.
    pub(super) target: Target,
    /// What is asked for. Borrowed only between two awaits.
    pub(super) source: RefCell<OperationSource>,
    /// The bytes of objects.
    pub(super) content: Content,
    /// Whether received bytes are compared, not only counted.
    pub(super) verify_content: bool,
    /// The longest that a request, or connecting, may take.
    pub(super) timeout: Duration,
    /// What is counted.
    pub(super) recorder: Recorder,
}

/// Sends operations one at a time and reconnects when it must.
pub(super) struct Connection {
    context: Rc<ThreadContext>,
    /// Its number among all connections, which decides where it connects.
    number: usize,
    /// Its turn among the operations of the source.
    turn: usize,
    transport: Option<Transport>,
    parser: ResponseParser,
    deadline: Deadline,
    /// The request on its way out; kept for its allocation.
    request: Vec<u8>,
}

impl Connection {
    /// The connection of that number; it connects when it is first used.
    pub(super) fn new(context: Rc<ThreadContext>, number: usize) -> Self {
        let deadline = Deadline::new(context.timeout);
        Self {
            context,
            number,
            turn: number,
            transport: None,
            parser: ResponseParser::new(),
            deadline,
            request: Vec::new(),
        }
    }

    /// Connects unless connected, within the time-out; over HTTPS, what was negotiated.
    pub(super) async fn connect(&mut self) -> Result<Option<TlsFacts>, Failure> {
        if self.transport.is_none() {
            let connecting = Transport::connect(&self.context.target, self.number);
            self.transport = Some(self.deadline.bound(Instant::now(), connecting).await?);
        }
        Ok(self.transport.as_ref().and_then(Transport::tls_facts))
    }

    /// Performs the next operation of the source. See [`Self::perform`].
    pub(super) async fn perform_next(
        &mut self,
        due: Instant,
        due_in_window: Option<bool>,
    ) -> Result<(), Failure> {
        let operation = self.context.source.borrow_mut().draw(&mut self.turn);
        self.perform(operation, due, due_in_window).await
    }

    /// Performs `operation` and counts it, with the latency from `due` on; for `due_in_window` see
    /// [`Recorder::answered`]. After a failure the next operation uses a new connection.
    pub(super) async fn perform(
        &mut self,
        operation: Operation,
        due: Instant,
        due_in_window: Option<bool>,
    ) -> Result<(), Failure> {
        let result = self.exchange(operation).await;
        self.context.source.borrow().answered(operation);
        let recorder = &self.context.recorder;
        match result {
            Ok(response) => {
                recorder.answered(due.elapsed(), due_in_window);
                if !response.keep_alive {
                    self.transport = None;
                    recorder.reconnected();
                }
                Ok(())
            }
            Err(failure) => {
                self.transport = None;
                recorder.failed(&failure);
                Err(failure)
            }
        }
    }

    /// Waits for the server to break the open connection.
    pub(super) async fn broken(&self) {
        if let Some(transport) = &self.transport {
            transport.broken().await;
        }
    }

    async fn exchange(&mut self, operation: Operation) -> Result<Response, Failure> {
        self.connect().await?;
        let Some(transport) = &mut self.transport else {
            unreachable!("connect leaves a connection or an error");
        };
        let context = &*self.context;
        context.source.borrow().write_head(operation, &mut self.request);
        self.parser.start();
        let mut answer = Answer {
            parser: &mut self.parser,
            context,
            expected: operation.expected_body(),
            content_differs: false,
            response: None,
        };
        let request = &mut self.request;
        let exchange = async {
            let sent = send(transport, request, &context.content, operation).await?;
            context.recorder.add_body_bytes(sent);
            transport.receive(&mut answer).await?;
            answer.verdict()
        };
        self.deadline.bound(Instant::now(), exchange).await
    }
}

/// Sends the head in `request` and the operation's body; the number of body bytes.
async fn send(
    transport: &mut Transport,
    request: &mut Vec<u8>,
    content: &Content,
    operation: Operation,
) -> Result<u64, Failure> {
    let Some((origin, body_bytes)) = operation.body() else {
        transport.send(request).await?;
        return Ok(0);
    };
    let mut offset = 0;
    while offset < body_bytes.min(INLINE_BODY_BYTES_MAX) {
        let piece = content.piece(origin, offset, body_bytes.min(INLINE_BODY_BYTES_MAX) - offset);
        request.extend_from_slice(piece);
        offset += piece.len() as u64;
    }
    transport.send(request).await?;
    while offset < body_bytes {
        let piece = content.piece(origin, offset, body_bytes - offset);
        transport.send(piece).await?;
        offset += piece.len() as u64;
    }
    Ok(body_bytes)
}

/// Checks an answer as it arrives.
struct Answer<'a> {
    parser: &'a mut ResponseParser,
    context: &'a ThreadContext,
    /// Where the expected body begins in the pattern, and its length.
    expected: Option<(u64, u64)>,
    /// Whether a byte was another than expected.
    content_differs: bool,
    /// Present once it is complete.
    response: Option<Response>,
}

impl Answer<'_> {
    /// Whether the complete answer is the right one.
    fn verdict(&self) -> Result<Response, Failure> {
        let response = self.response.ok_or(Failure::Closed)?;
        if !(200..300).contains(&response.status) {
            return Err(Failure::Status(response.status));
        }
        if let Some((_, expected)) = self.expected
            && response.body_bytes != expected
        {
            return Err(Failure::Length { expected, received: response.body_bytes });
        }
        if self.content_differs {
            return Err(Failure::Content);
        }
        Ok(response)
    }
}

impl Sink for Answer<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let context = self.context;
        let compared = self.expected.filter(|_| context.verify_content);
        let mut offset = self.parser.body_bytes();
        let differs = &mut self.content_differs;
        self.response = self.parser.feed(bytes, |body| {
            context.recorder.add_body_bytes(body.len() as u64);
            if let Some((origin, _)) = compared {
                *differs |= !context.content.matches(origin, offset, body);
                offset += body.len() as u64;
            }
        })?;
        Ok(self.response.is_some())
    }

    fn skippable_bytes(&self) -> u64 {
        if self.context.verify_content && self.expected.is_some() {
            return 0;
        }
        self.parser.skippable_bytes()
    }

    fn skipped(&mut self, count: u64) -> bool {
        self.context.recorder.add_body_bytes(count);
        self.response = self.parser.skip(count);
        self.response.is_some()
    }

    fn end_of_stream(&mut self) -> Result<(), Failure> {
        if self.parser.is_untouched() {
            return Err(Failure::Closed);
        }
        self.response = Some(self.parser.end_of_stream()?);
        Ok(())
    }
}
