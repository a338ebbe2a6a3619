//! The storage node's HTTP: which request goes where.

use super::{
    Shared,
    listing::list,
    lookup::{Object, Source},
    read::{RELAY_MAX_HEADER, read, respond},
    write::{delete_object, put_object},
};
use crate::{
    admin::Health,
    body::Body,
    listing::{ListQuery, PARTITIONS_HEADER, parse_partitions},
    response,
    serve::{ConnectionInfo, Service, ShortAnswer, ShortRequest, Shortcut},
};
use ashlar_object::{ETag, Key, ObjectMeta, Version, synthetic};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{
    future::{Future, ready},
    sync::Arc,
};

/// A request with this field asks whether the node is alive; it is answered with 204.
pub(crate) const PING_HEADER: HeaderName = HeaderName::from_static("x-ashlar-ping");

/// The methods that an object has.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
/// The methods that a synthetic object has.
const READ_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// Objects of the disk engine.
#[derive(Clone)]
pub(crate) struct DiskService {
    /// What its requests share.
    pub(super) shared: Arc<Shared>,
}

impl DiskService {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    async fn object(&self, key: Key, request: Request<Incoming>) -> Response<Body> {
        let shared = &self.shared;
        let partition = shared.identity.cluster.map.partition_of(&key);
        if shared.identity.place_in(partition).is_none() {
            let message = "the key's chain does not include this node";
            return response::text(StatusCode::MISDIRECTED_REQUEST, message);
        }
        match *request.method() {
            Method::GET | Method::HEAD => {
                read(shared, partition, &key, request.method(), request.headers()).await
            }
            Method::PUT => put_object(shared, partition, key, request).await,
            Method::DELETE => delete_object(shared, partition, key, request.headers()).await,
            _ => not_allowed(METHODS),
        }
    }

    async fn list(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed(READ_METHODS);
        }
        let query = match ListQuery::parse(request.uri().query().unwrap_or("")) {
            Ok(query) => query,
            Err(message) => return response::text(StatusCode::BAD_REQUEST, message),
        };
        let map = &self.shared.identity.cluster.map;
        let held = |partition: &_| self.shared.identity.place_in(*partition).is_some();
        let partitions = match request.headers().get(PARTITIONS_HEADER) {
            None => Some(map.partitions().filter(held).collect()),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|value| parse_partitions(value, map.partitions().len()))
                .filter(|wanted| wanted.iter().all(held)),
        };
        match partitions {
            Some(partitions) => list(&self.shared, query, partitions).await,
            None => {
                let message = format!("{PARTITIONS_HEADER} names partitions that are not here");
                response::text(StatusCode::BAD_REQUEST, message)
            }
        }
    }
}

/// The fields of a simple read that have a meaning for objects.
fn read_fields(request: &ShortRequest<'_>) -> HeaderMap {
    let names = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        RELAY_MAX_HEADER,
    ];
    let mut headers = HeaderMap::new();
    for field in request.fields {
        let name = names.iter().find(|name| name.as_str().eq_ignore_ascii_case(field.name));
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            headers.append(name.clone(), value);
        }
    }
    headers
}

/// The method of a simple read.
fn read_method(request: &ShortRequest<'_>) -> Method {
    if request.to_head { Method::HEAD } else { Method::GET }
}

impl Service for DiskService {
    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        _from: ConnectionInfo,
    ) -> Option<impl Future<Output = Shortcut> + Send + use<'s>> {
        let shared = &self.shared;
        let key = Key::from_path(request.path).ok()?;
        let partition = shared.identity.cluster.map.partition_of(&key);
        shared.identity.place_in(partition)?;
        if request.path == "/" || request.field(PING_HEADER.as_str()).is_some() {
            return None;
        }
        let (method, headers) = (read_method(request), read_fields(request));
        Some(async move {
            let response = read(shared, partition, &key, &method, &headers).await;
            Shortcut::Answer(ShortAnswer::of(response, method == Method::HEAD))
        })
    }

    async fn call(&self, request: Request<Incoming>, _from: ConnectionInfo) -> Response<Body> {
        if request.headers().contains_key(PING_HEADER) {
            return response::empty(StatusCode::NO_CONTENT);
        }
        if request.uri().path() == "/" {
            return self.list(&request).await;
        }
        match Key::from_path(request.uri().path()) {
            Ok(key) => self.object(key, request).await,
            Err(error) => response::text(StatusCode::BAD_REQUEST, error),
        }
    }
}

impl Health for DiskService {
    fn ready(&self) -> Result<(), String> {
        if self.shared.chain.is_closed() {
            return Err("the disk has failed".into());
        }
        let map = &self.shared.identity.cluster.map;
        let held = map.partitions().filter(|p| self.shared.identity.place_in(*p).is_some());
        let waiting = held.filter(|p| !self.shared.views.serves_reads(*p)).count();
        match waiting {
            0 => Ok(()),
            _ => Err(format!("{waiting} partitions have not joined their chains")),
        }
    }

    fn complete(&self) -> Result<(), String> {
        self.ready()?;
        let is_head = |partition: &_| {
            let place = self.shared.identity.place_in(*partition);
            place.is_some_and(|place| place.predecessor.is_none())
        };
        let heads = self.shared.identity.cluster.map.partitions().filter(is_head);
        match heads.filter(|p| !self.shared.views.takes_writes(*p)).count() {
            0 => Ok(()),
            refusing => Err(format!("{refusing} partitions take no writes")),
        }
    }
}

/// Objects that are computed: `GET /N` answers N bytes.
#[derive(Clone, Copy)]
pub(crate) struct SyntheticService;

impl Service for SyntheticService {
    async fn call(&self, request: Request<Incoming>, _from: ConnectionInfo) -> Response<Body> {
        if request.headers().contains_key(PING_HEADER) {
            return response::empty(StatusCode::NO_CONTENT);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed(READ_METHODS);
        }
        let object = Key::from_path(request.uri().path()).ok().and_then(|key| synthetic(&key));
        respond(object, request.method(), request.headers())
    }

    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        _from: ConnectionInfo,
    ) -> Option<impl Future<Output = Shortcut> + Send + use<'s>> {
        if request.field(PING_HEADER.as_str()).is_some() {
            return None;
        }
        let object = synthetic(&Key::from_path(request.path).ok()?);
        let response = respond(object, &read_method(request), &read_fields(request));
        let answer = ShortAnswer::of(response, request.to_head);
        Some(ready(Shortcut::Answer(answer)))
    }
}

/// The object that is computed for `key`, if its name is a size.
fn synthetic(key: &Key) -> Option<Object> {
    let size_bytes = synthetic::size_of(key)?;
    Some(Object {
        version: Version::NONE,
        meta: synthetic_meta(size_bytes),
        source: Source::Synthetic,
    })
}

impl Health for SyntheticService {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The entity tag of a synthetic object is its size: hashing a terabyte for it would take hours.
fn synthetic_meta(size_bytes: u64) -> ObjectMeta {
    let etag = ETag(u128::from(size_bytes).to_be_bytes());
    ObjectMeta { size_bytes, etag, modified_ms: 0, content_type: None, user: Vec::new() }
}

fn not_allowed(methods: HeaderValue) -> Response<Body> {
    let message = "the method has no meaning for this resource";
    let mut response = response::text(StatusCode::METHOD_NOT_ALLOWED, message);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}
