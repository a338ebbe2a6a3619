//! Small responses that several handlers give.

use crate::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// When a client that met a temporary failure should try again, in seconds.
const RETRY_AFTER_S: &str = "1";

/// A one-line explanation.
pub(crate) fn text(status: StatusCode, message: impl std::fmt::Display) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(format!("{message}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// 503: nothing was done; try again soon.
pub(crate) fn unavailable(message: impl std::fmt::Display) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
