//! What a front end does with a request.

use super::{
    balance::{Tried, choose, next_turn},
    fields::{self, ConnectionOptions, REQUEST_ID},
    health::NodeStates,
    metrics::UpstreamMetrics,
    relay::{ReadAnswer, Relay, with_head},
    request::{self, ReadRequest, RequestId, Target},
    upstream::Upstream,
};
use crate::{
    body::{Body, RequestBody},
    config::Limits,
    serve::{ConnectionInfo, Service, ShortAnswer, ShortRequest},
};
use ashlar_object::{ClusterMap, Key, NodeIndex, PartitionIndex};
use http::{HeaderValue, Request, Response, StatusCode, request::Parts};
use hyper::body::{Body as _, Incoming};
use std::{future::Future, sync::Arc, time::Duration};

/// What all requests of a front end share.
pub(crate) struct Core {
    pub(super) map: ClusterMap,
    pub(super) upstream: Arc<Upstream>,
    pub(super) states: Arc<NodeStates>,
    pub(super) metrics: UpstreamMetrics,
    pub(super) limits: Limits,
    /// How long the head of a chain may take to answer a write that it has got.
    pub(super) write_timeout: Duration,
}

impl Core {
    /// The replica of a partition to read from, and its place in the chain.
    pub(super) fn choose(
        &self,
        partition: PartitionIndex,
        tried: Tried,
        thread: usize,
    ) -> Option<(usize, NodeIndex)> {
        let chain = self.map.chain(partition);
        let usable = |node| self.states.is_usable(node);
        let outstanding = |node| self.upstream.outstanding(thread, node);
        let place = choose(chain, tried, usable, outstanding, next_turn())?;
        Some((place, chain[place]))
    }
}

/// A front end as the HTTP server sees it.
#[derive(Clone)]
pub(super) struct FrontEnd(pub(super) Arc<Core>);

impl Service for FrontEnd {
    async fn call(&self, request: Request<Incoming>, connection: ConnectionInfo) -> Response<Body> {
        let (head, body) = request.into_parts();
        let id = RequestId::of(head.headers.get(REQUEST_ID).map(HeaderValue::as_bytes));
        let mut response = self.answer(&head, body, &id, connection).await;
        response.headers_mut().insert(REQUEST_ID, id.value());
        log(head.method.as_str(), head.uri.path(), response.status(), &id, connection);
        response
    }

    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        connection: ConnectionInfo,
    ) -> Option<impl Future<Output = ShortAnswer> + Send + use<'s>> {
        let read = self.short_read(request)?;
        Some(async move {
            let relay = self.relay(connection);
            let mut answer = match relay.read(&read).await {
                ReadAnswer::Node(head, body) => {
                    ShortAnswer { status: head.status, lines: head.lines, body }
                }
                ReadAnswer::Refusal(response) => ShortAnswer::of(response, read.to_head),
            };
            fields::write(&mut answer.lines, REQUEST_ID, read.id.bytes());
            let method = if read.to_head { "HEAD" } else { "GET" };
            log(method, read.path(), answer.status, &read.id, connection);
            answer
        })
    }
}

impl FrontEnd {
    async fn answer(
        &self,
        head: &Parts,
        body: Incoming,
        id: &RequestId,
        connection: ConnectionInfo,
    ) -> Response<Body> {
        let relay = self.relay(connection);
        match Target::of(head, !body.is_end_stream()) {
            Ok(Target::Read(key)) => {
                let request = ReadRequest::of(self.0.map.partition_of(&key), head, *id);
                match relay.read(&request).await {
                    ReadAnswer::Node(head, body) => with_head(&head, body),
                    ReadAnswer::Refusal(response) => response,
                }
            }
            Ok(Target::Write(key)) => {
                let mut body = RequestBody::new(body, self.0.limits.stall_timeout);
                relay.write(&key, head, id, &mut body).await
            }
            Ok(Target::List) => relay.list(head.uri.query().unwrap_or_default(), id).await,
            Ok(Target::Options) => request::options(),
            Err(refusal) => *refusal,
        }
    }

    /// A read of an object; none for what [`FrontEnd::answer`] must look at more closely.
    fn short_read(&self, request: &ShortRequest<'_>) -> Option<ReadRequest> {
        if request.path == "/" {
            return None;
        }
        let partition = self.0.map.partition_of(&Key::from_path(request.path).ok()?);
        let id = RequestId::of(request.field(REQUEST_ID));
        let options = ConnectionOptions::default();
        let (path, host) = (request.path, Some(request.host));
        let fields = request.fields.iter().map(|field| (field.name, field.value));
        Some(ReadRequest::new(partition, request.to_head, path, host, fields, &options, id))
    }

    fn relay(&self, connection: ConnectionInfo) -> Relay<'_> {
        Relay { core: &self.0, thread: connection.thread, received: connection.received }
    }
}

/// One line for a request: what went wrong always, the rest for those who look closely.
fn log(method: &str, path: &str, status: StatusCode, id: &RequestId, connection: ConnectionInfo) {
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                id = id.text(),
                method,
                path,
                status = status.as_u16(),
                peer = %connection.peer,
                secure = connection.secure,
                ms = connection.received.elapsed().as_millis(),
                $message
            )
        };
    }
    if status.is_server_error() {
        line!(info, "request failed");
    } else {
        line!(debug, "request");
    }
}
