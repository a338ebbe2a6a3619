//! One request relayed: a read to any replica of its chain, a write to the head.

use super::{
    balance::Tried,
    request::{self, Framing, ReadRequest, RequestId},
    resume::{ResumePoint, ResumingBody},
    service::Core,
    upstream::{Content, Failure, FailureKind, Outgoing, ResponseHead, Timeouts, UpstreamResponse},
};
use crate::{
    body::{Body, RequestBody},
    response,
    storage_node::HAND_OFF_HEADER,
};
use ashlar_object::{Key, NodeIndex};
use http::{HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a replica may take to start its answer to a read.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all replicas together may take.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// Ends a client's connection.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What relaying a request needs besides the request.
#[derive(Clone, Copy)]
pub(super) struct Relay<'a> {
    pub(super) core: &'a Arc<Core>,
    /// The event-loop thread that the request runs on.
    pub(super) thread: usize,
    /// When the request came.
    pub(super) received: Instant,
}

/// The answer to a read.
pub(super) enum ReadAnswer {
    /// A storage node's.
    Node(ResponseHead, Body),
    /// This node has it, and it is longer than what is relayed.
    Large(NodeIndex),
    /// None of them has one.
    Refusal(Response<Body>),
}

impl Relay<'_> {
    /// Reads from the replicas of a chain, one after the other, until one answers.
    pub(super) async fn read(self, request: &ReadRequest) -> ReadAnswer {
        let (core, partition) = (self.core, request.partition);
        let mut left = READ_DEADLINE;
        let mut tried = Tried::default();
        let mut refusal = None;
        while let Some((place, node)) = core.choose(partition, tried, self.thread) {
            if tried != Tried::default() {
                left = READ_DEADLINE.saturating_sub(self.received.elapsed());
                core.metrics.retried(node);
            }
            if left.is_zero() {
                break;
            }
            tried.add(place);
            let mut outgoing = Outgoing::read(request.head.clone(), request.to_head);
            let timeouts =
                Timeouts { response: READ_TIMEOUT.min(left), stall: core.limits.stall_timeout };
            match core.upstream.send(self.thread, node, &mut outgoing, timeouts).await {
                Ok(answer) if is_temporary(answer.head.status) => {
                    core.metrics.refused(node);
                    refusal = Some(answer);
                }
                Ok(answer) if is_large(request, &answer) => return ReadAnswer::Large(node),
                Ok(answer) => return self.answer_read(request, answer),
                Err(failure) => self.failed(&request.id, node, &failure),
            }
        }
        match refusal {
            Some(answer) => self.answer_read(request, answer),
            None => {
                let message = format!("no replica of partition {} answers", partition.0);
                ReadAnswer::Refusal(response::unavailable(message))
            }
        }
    }

    /// Relays a replica's answer; its body will go on from another replica if it breaks off.
    fn answer_read(self, request: &ReadRequest, mut answer: UpstreamResponse) -> ReadAnswer {
        let body = match answer.body.take_whole() {
            Some(bytes) => Body::full(bytes),
            None => {
                let point = ResumePoint::of(request, &answer.head);
                let (core, thread) = (Arc::clone(self.core), self.thread);
                let (partition, source) = (request.partition, answer.body);
                Body::boxed(ResumingBody::new(core, thread, partition, point, source))
            }
        };
        ReadAnswer::Node(answer.head, body)
    }

    /// Writes at the head of the key's chain. What a failure means is certain: either nothing has
    /// been written, or nobody knows.
    pub(super) async fn write(
        self,
        key: &Key,
        head: &Parts,
        id: &RequestId,
        body: &mut RequestBody,
    ) -> Response<Body> {
        let core = self.core;
        let node = core.map.chain(core.map.partition_of(key))[0];
        let name = core.states.name(node);
        if !core.states.is_usable(node) {
            return response::unavailable(format!("{name}, the head of the key's chain, is down"));
        }
        let expects_continue = expects_continue(head) && !body.is_end_stream();
        let framing = match head.method {
            Method::PUT => Framing::of(body),
            _ => Framing::None,
        };
        let bytes = request::write_head(head, id, framing, expects_continue);
        let content = match framing {
            Framing::None | Framing::Length(0) => Content::None,
            Framing::Length(_) => Content::Sized(body),
            Framing::Chunked => Content::Chunked(body),
        };
        let mut outgoing = Outgoing::write(bytes, content, expects_continue);
        let timeouts = Timeouts { response: core.write_timeout, stall: core.limits.stall_timeout };
        match core.upstream.send(self.thread, node, &mut outgoing, timeouts).await {
            Ok(answer) => {
                let mut response = relayed(answer);
                if !outgoing.is_sent() {
                    // The rest of the body will not be read.
                    response.headers_mut().insert(header::CONNECTION, CLOSE);
                }
                response
            }
            Err(failure) if failure.kind == FailureKind::Client => response::text(
                StatusCode::REQUEST_TIMEOUT,
                format!("nothing was written: {failure}"),
            ),
            Err(failure) => {
                self.failed(id, node, &failure);
                if outgoing.is_sent() {
                    let message = format!("it is unknown whether {name} has written: {failure}");
                    response::text(StatusCode::GATEWAY_TIMEOUT, message)
                } else {
                    response::unavailable(format!("nothing was written: {name}: {failure}"))
                }
            }
        }
    }

    fn failed(self, id: &RequestId, node: NodeIndex, failure: &Failure) {
        let name = self.core.states.name(node);
        tracing::info!(id = id.text(), node = name, %failure, "a storage node failed a request");
        self.core.states.failed(node, failure);
    }
}

/// Whether the node says that the body is longer than what is relayed.
fn is_large(request: &ReadRequest, answer: &UpstreamResponse) -> bool {
    // Looked at first: other answers to a read have another status.
    request.asks_for_size
        && answer.head.status == StatusCode::NO_CONTENT
        && answer.head.field(HAND_OFF_HEADER.as_str()).is_some()
}

/// Whether another replica may do better.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether the client sends its body only after it has been asked for it.
fn expects_continue(head: &Parts) -> bool {
    let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    head.version >= Version::HTTP_11 && head.headers.get(header::EXPECT).is_some_and(expects)
}

/// A storage node's response as it is.
fn relayed(mut answer: UpstreamResponse) -> Response<Body> {
    let body = match answer.body.take_whole() {
        Some(bytes) => Body::full(bytes),
        None => Body::boxed(answer.body),
    };
    with_head(&answer.head, body)
}

/// A response with a storage node's head.
pub(super) fn with_head(head: &ResponseHead, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers();
    response
}
