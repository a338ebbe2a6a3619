//! What a front end does with a request.

use super::{
    balance::{Tried, choose, next_turn},
    fields::{self, ConnectionOptions, REQUEST_ID},
    health::NodeStates,
    metrics::UpstreamMetrics,
    relay::{ReadAnswer, Relay, with_head},
    request::{self, ReadRequest, RequestId, Target, Wanted},
    upstream::Upstream,
};
use crate::{
    body::{Body, RequestBody},
    config::Limits,
    hand_off::HandOff,
    serve::{
        ConnectionInfo, Departure, Place, RequestHead, Service, ShortAnswer, ShortRequest,
        Shortcut, Target as Destination,
    },
};
use ashlar_object::{ClusterMap, Key, NodeIndex, PartitionIndex};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
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
    /// How connections move; none if they do not.
    pub(super) hand_off: Option<Arc<HandOff>>,
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
pub(crate) struct FrontEnd(pub(crate) Arc<Core>);

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
    ) -> Option<impl Future<Output = Shortcut> + Send + use<'s>> {
        let read = self.short_read(request, connection)?;
        Some(async move {
            let relay = self.relay(connection);
            let mut answer = match relay.read(&read).await {
                ReadAnswer::Node(head, body) => {
                    ShortAnswer { status: head.status, lines: head.lines, body }
                }
                ReadAnswer::Large(node) => return Shortcut::Move(Destination::Storage(node)),
                ReadAnswer::Refusal(response) => ShortAnswer::of(response, read.to_head),
            };
            fields::write(&mut answer.lines, REQUEST_ID, read.id.bytes());
            let method = if read.to_head { "HEAD" } else { "GET" };
            log(method, read.path(), answer.status, &read.id, connection);
            Shortcut::Answer(answer)
        })
    }

    fn moves(&self) -> bool {
        self.0.hand_off.is_some()
    }

    fn place(&self, head: &RequestHead<'_>, connection: ConnectionInfo) -> Place {
        let Some(hand_off) = &self.0.hand_off else { return Place::Here };
        let Some(threshold_bytes) = hand_off.threshold_bytes(connection.flow.origin) else {
            return Place::Here;
        };
        let target = match head.method {
            "PUT" => self.upload_place(head, threshold_bytes),
            "GET" if threshold_bytes == 0 => self.download_place(head, connection.thread),
            _ => None,
        };
        target.map_or(Place::Here, Place::At)
    }

    async fn depart(
        &self,
        departure: Departure,
        connection: ConnectionInfo,
    ) -> Result<(), Departure> {
        match &self.0.hand_off {
            Some(hand_off) => hand_off.depart(departure, connection).await,
            None => Err(departure),
        }
    }

    fn ended(&self, connection: ConnectionInfo) {
        if let Some(hand_off) = &self.0.hand_off {
            hand_off.ended(connection);
        }
    }
}

impl FrontEnd {
    /// The identifier that a response to `request` must carry, in a node that answers by itself.
    pub(crate) fn request_id_line(request: &ShortRequest<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        fields::write(&mut line, REQUEST_ID, RequestId::of(request.field(REQUEST_ID)).bytes());
        line
    }

    /// Whether a node that a request for an object needs is known to answer. True of other requests.
    pub(crate) fn reaches(&self, method: &str, path: &str) -> bool {
        let Some(key) = Key::from_path(path).ok().filter(|_| path != "/") else { return true };
        let chain = self.0.map.chain(self.0.map.partition_of(&key));
        let usable = |node: &NodeIndex| self.0.states.is_usable(*node);
        match method {
            "GET" | "HEAD" => chain.iter().any(usable),
            "PUT" | "DELETE" => usable(&chain[0]),
            _ => true,
        }
    }

    /// The field that a response to a request with these fields must carry.
    pub(crate) fn request_id(headers: &HeaderMap) -> (HeaderName, HeaderValue) {
        let id = RequestId::of(headers.get(REQUEST_ID).map(HeaderValue::as_bytes));
        (HeaderName::from_static(REQUEST_ID), id.value())
    }

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
                    ReadAnswer::Large(_) => unreachable!("a node says so only if it was asked"),
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
    fn short_read(
        &self,
        request: &ShortRequest<'_>,
        connection: ConnectionInfo,
    ) -> Option<ReadRequest> {
        if request.path == "/" {
            return None;
        }
        let partition = self.0.map.partition_of(&Key::from_path(request.path).ok()?);
        let id = RequestId::of(request.field(REQUEST_ID));
        let options = ConnectionOptions::default();
        let (path, host) = (request.path, Some(request.host));
        let fields = request.fields.iter().map(|field| (field.name, field.value));
        let mut relay_bytes_max = None;
        if connection.can_move
            && let Some(hand_off) = &self.0.hand_off
            && let Some(threshold_bytes) = hand_off.threshold_bytes(connection.flow.origin)
        {
            relay_bytes_max = Some(threshold_bytes.saturating_sub(1));
        }
        let to_head = request.to_head;
        let wanted = Wanted { partition, to_head, path, host, relay_bytes_max };
        Some(ReadRequest::new(&wanted, fields, &options, id))
    }

    /// Where an upload goes that is not relayed.
    fn upload_place(&self, head: &RequestHead<'_>, threshold_bytes: u64) -> Option<Destination> {
        let length = head.field(header::CONTENT_LENGTH.as_str());
        let length = length.map(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        // A body of unknown length may be large.
        let is_large = match length {
            Some(length) => length? >= threshold_bytes,
            None => head.field(header::TRANSFER_ENCODING.as_str()).is_some(),
        };
        let key = Key::from_path(head.target.split('?').next()?).ok()?;
        let node = self.0.map.chain(self.0.map.partition_of(&key))[0];
        (is_large && self.0.states.is_usable(node)).then_some(Destination::Storage(node))
    }

    /// Where a download goes that is not relayed, if all downloads move.
    fn download_place(&self, head: &RequestHead<'_>, thread: usize) -> Option<Destination> {
        let path = head.target.split('?').next()?;
        let key = Key::from_path(path).ok().filter(|_| path != "/")?;
        let partition = self.0.map.partition_of(&key);
        let (_, node) = self.0.choose(partition, Tried::default(), thread)?;
        Some(Destination::Storage(node))
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
