//! One request relayed: a read to any replica of its chain, a write to the head.

use super::{
    balance::Tried,
    request::{self, Framing, RequestId},
    resume::{ResumePoint, ResumingBody},
    service::Core,
    upstream::{Content, Failure, FailureKind, Outgoing, Timeouts, UpstreamResponse},
};
use crate::{
    body::{Body, RequestBody},
    response,
};
use ashlar_object::{Key, NodeIndex, PartitionIndex};
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

/// What a request's relay needs besides its head.
#[derive(Clone, Copy)]
pub(super) struct Relay<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) head: &'a Parts,
    pub(super) id: &'a RequestId,
    /// The event-loop thread that the request runs on.
    pub(super) thread: usize,
    /// When the request came.
    pub(super) received: Instant,
}

impl Relay<'_> {
    /// Reads from the replicas of the key's chain, one after the other, until one answers.
    pub(super) async fn read(self, key: &Key) -> Response<Body> {
        let core = self.core;
        let partition = core.map.partition_of(key);
        let to_head = self.head.method == Method::HEAD;
        let bytes = request::relayed_head(self.head, self.id, Framing::None, false);
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
            let mut outgoing = Outgoing::read(bytes.clone(), to_head);
            let timeouts =
                Timeouts { response: READ_TIMEOUT.min(left), stall: core.limits.stall_timeout };
            match core.upstream.send(self.thread, node, &mut outgoing, timeouts).await {
                Ok(answer) if is_temporary(answer.head.status) => {
                    core.metrics.refused(node);
                    refusal = Some(answer);
                }
                Ok(answer) => return self.answer_read(partition, answer),
                Err(failure) => self.failed(node, &failure),
            }
        }
        match refusal {
            Some(answer) => relayed(answer),
            None => {
                response::unavailable(format!("no replica of partition {} answers", partition.0))
            }
        }
    }

    /// Relays a replica's answer; its body will go on from another replica if it breaks off.
    fn answer_read(
        self,
        partition: PartitionIndex,
        mut answer: UpstreamResponse,
    ) -> Response<Body> {
        let body = match answer.body.take_whole() {
            Some(bytes) => Body::full(bytes),
            None => {
                let point = ResumePoint::of(self.head, self.id, &answer.head);
                let (core, thread) = (Arc::clone(self.core), self.thread);
                Body::boxed(ResumingBody::new(core, thread, partition, point, answer.body))
            }
        };
        with_head(answer.head, body)
    }

    /// Writes at the head of the key's chain. What a failure means is certain: either nothing has
    /// been written, or nobody knows.
    pub(super) async fn write(self, key: &Key, body: &mut RequestBody) -> Response<Body> {
        let core = self.core;
        let node = core.map.chain(core.map.partition_of(key))[0];
        let name = core.states.name(node);
        if !core.states.is_usable(node) {
            return response::unavailable(format!("{name}, the head of the key's chain, is down"));
        }
        let expects_continue = expects_continue(self.head) && !body.is_end_stream();
        let framing = match self.head.method {
            Method::PUT => Framing::of(body),
            _ => Framing::None,
        };
        let bytes = request::relayed_head(self.head, self.id, framing, expects_continue);
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
                self.failed(node, &failure);
                if outgoing.is_sent() {
                    let message = format!("it is unknown whether {name} has written: {failure}");
                    response::text(StatusCode::GATEWAY_TIMEOUT, message)
                } else {
                    response::unavailable(format!("nothing was written: {name}: {failure}"))
                }
            }
        }
    }

    fn failed(self, node: NodeIndex, failure: &Failure) {
        let name = self.core.states.name(node);
        tracing::info!(id = self.id.text(), node = name, %failure, "a storage node failed a request");
        self.core.states.failed(node, failure);
    }
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
    with_head(answer.head, body)
}

fn with_head(head: super::upstream::ResponseHead, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}
