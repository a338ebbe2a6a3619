//! GET and HEAD.

use super::{
    Shared, content,
    lookup::{LookupError, Object, lookup},
    write::now_ms,
};
use crate::{body::Body, response};
use ashlar_object::{
    Key, PartitionIndex,
    condition::{Verdict, http_date},
    range::{self, RangeVerdict},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use std::{ops::Range, sync::Arc};

/// The version of an object within its partition.
pub(crate) const VERSION_HEADER: HeaderName = HeaderName::from_static("x-ashlar-version");
/// What names of user metadata start with; the same as in S3.
pub(super) const USER_PREFIX: &str = "x-amz-meta-";
/// The type of an object whose writer gave none.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A front end relays at most so many bytes of a body; what is larger it wants to hear about.
pub(crate) const RELAY_MAX_HEADER: HeaderName = HeaderName::from_static("x-ashlar-relay-max");
/// The answer to a front end: the body is larger, hand the client's connection to this node.
pub(crate) const HAND_OFF_HEADER: HeaderName = HeaderName::from_static("x-ashlar-hand-off");

/// Answers a read of `key`.
pub(super) async fn read(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    key: &Key,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Body> {
    match lookup(shared, partition, key).await {
        Ok(object) => respond(object, method, headers),
        Err(LookupError::Storage(error)) => {
            tracing::error!(%key, %error, "cannot read an object");
            // Another replica may have it whole: the front end tries there.
            response::unavailable("this replica cannot read the object")
        }
        Err(error) => response::unavailable(error),
    }
}

/// The response for what a read may see.
pub(super) fn respond(
    object: Option<Object>,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Body> {
    let conditions = match super::conditions(headers) {
        Ok(conditions) => conditions,
        Err(error) => return response::text(StatusCode::BAD_REQUEST, error),
    };
    let verdict = conditions.for_read(object.as_ref().map(|object| &object.meta));
    let Some(object) = object else {
        return match verdict {
            Verdict::Failed => failed_precondition(),
            _ => response::text(StatusCode::NOT_FOUND, "no such object"),
        };
    };
    match verdict {
        Verdict::Failed => failed_precondition(),
        Verdict::NotModified => {
            let mut response = response::empty(StatusCode::NOT_MODIFIED);
            put_validators(response.headers_mut(), &object);
            response
        }
        Verdict::Proceed => send(object, method, headers),
    }
}

pub(super) fn failed_precondition() -> Response<Body> {
    response::text(StatusCode::PRECONDITION_FAILED, "a condition of the request does not hold")
}

fn send(object: Object, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let size_bytes = object.meta.size_bytes;
    // RFC 9110, section 14.2: a range has a meaning for GET only.
    let field = single(headers, header::RANGE).and_then(|value| value.to_str().ok());
    let wanted = field.filter(|_| method == Method::GET && if_range_holds(headers, &object));
    let (status, part) = match range::select(wanted, size_bytes) {
        RangeVerdict::Whole => (StatusCode::OK, 0..size_bytes),
        RangeVerdict::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        RangeVerdict::Unsatisfiable => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let mut response = response::text(status, "the object has no bytes in this range");
            let value = format!("bytes */{size_bytes}");
            put(response.headers_mut(), header::CONTENT_RANGE, &value);
            return response;
        }
    };
    let mut response = response::empty(status);
    put_fields(response.headers_mut(), &object, &part, status);
    if method == Method::GET {
        if part.end - part.start > relay_bytes_max(headers) {
            let mut response = response::empty(StatusCode::NO_CONTENT);
            response.headers_mut().insert(HAND_OFF_HEADER, HeaderValue::from_static("1"));
            return response;
        }
        *response.body_mut() = content::body(object.source, part);
    }
    response
}

/// How many bytes of a body whoever asks wants to get.
fn relay_bytes_max(headers: &HeaderMap) -> u64 {
    let value = headers.get(RELAY_MAX_HEADER).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(u64::MAX)
}

/// RFC 9110, section 13.1.5: the range counts only for the object that the client has a part of.
fn if_range_holds(headers: &HeaderMap, object: &Object) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = single(headers, header::IF_RANGE) else { return false };
    let value = value.as_bytes();
    let modified_ms = object.meta.modified_ms;
    value == object.meta.etag.to_string().as_bytes()
        || (value == http_date(modified_ms).as_bytes() && is_strong(modified_ms, now_ms()))
}

/// Whether a date names one object only (RFC 9110, section 8.8.2.2): another one may have been
/// written within the same second, at another clock's time.
fn is_strong(modified_ms: u64, now_ms: u64) -> bool {
    const STRONG_AFTER_MS: u64 = 60_000;
    now_ms.saturating_sub(modified_ms) >= STRONG_AFTER_MS
}

/// The value of a field that is no list: none if it stands in several lines.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn put_fields(headers: &mut HeaderMap, object: &Object, part: &Range<u64>, status: StatusCode) {
    put_validators(headers, object);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let content_type = object.meta.content_type.as_deref();
    let content_type = content_type.and_then(|value| HeaderValue::from_str(value).ok());
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(DEFAULT_TYPE));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let size_bytes = object.meta.size_bytes;
        let value = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
        put(headers, header::CONTENT_RANGE, &value);
    }
    for (name, value) in &object.meta.user {
        // Checked when the object was written.
        let name = HeaderName::from_bytes(format!("{USER_PREFIX}{name}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
}

fn put_validators(headers: &mut HeaderMap, object: &Object) {
    put(headers, header::ETAG, &object.meta.etag.to_string());
    put(headers, header::LAST_MODIFIED, &http_date(object.meta.modified_ms));
    headers.insert(VERSION_HEADER, HeaderValue::from(object.version.0));
}

/// Inserts a value that we made ourselves.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("our own values are printable"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_strong_after_a_minute() {
        assert!(is_strong(5_000, 65_000));
        assert!(!is_strong(5_000, 64_999));
        // The clock was set back.
        assert!(!is_strong(5_000, 0));
    }
}
