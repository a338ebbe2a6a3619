//! What a front end does with a request.

use super::{
    balance::{Tried, choose, next_turn},
    fields::REQUEST_ID,
    health::NodeStates,
    metrics::UpstreamMetrics,
    relay::Relay,
    request::{self, RequestId, Target},
    upstream::Upstream,
};
use crate::{
    body::{Body, RequestBody},
    config::Limits,
    serve::{ConnectionInfo, Service},
};
use ashlar_object::{ClusterMap, NodeIndex, PartitionIndex};
use http::{Request, Response, request::Parts};
use hyper::body::{Body as _, Incoming};
use std::{sync::Arc, time::Duration};

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
        let id = RequestId::of(&head.headers);
        let mut response = self.answer(&head, body, &id, connection).await;
        response.headers_mut().insert(REQUEST_ID, id.value().clone());
        log(&head, &response, &id, connection);
        response
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
        let relay = Relay {
            core: &self.0,
            head,
            id,
            thread: connection.thread,
            received: connection.received,
        };
        match Target::of(head, !body.is_end_stream()) {
            Ok(Target::Read(key)) => relay.read(&key).await,
            Ok(Target::Write(key)) => {
                let mut body = RequestBody::new(body, self.0.limits.stall_timeout);
                relay.write(&key, &mut body).await
            }
            Ok(Target::List) => relay.list().await,
            Ok(Target::Options) => request::options(),
            Err(refusal) => *refusal,
        }
    }
}

/// One line for a request: what went wrong always, the rest for those who look closely.
fn log(head: &Parts, response: &Response<Body>, id: &RequestId, connection: ConnectionInfo) {
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                id = id.text(),
                method = %head.method,
                path = head.uri.path(),
                status = response.status().as_u16(),
                peer = %connection.peer,
                secure = connection.secure,
                ms = connection.received.elapsed().as_millis(),
                $message
            )
        };
    }
    if response.status().is_server_error() {
        line!(info, "request failed");
    } else {
        line!(debug, "request");
    }
}
