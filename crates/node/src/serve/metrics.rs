//! What a server counts.

use crate::metrics::{Counter, Durations, Registry};
use http::{Method, StatusCode, Uri};
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use std::sync::Arc;

/// The counts of one role's HTTP server. Clones count together. ROLE is `front_end` or `storage`.
///
/// | Name | Meaning |
/// |---|---|
/// | `ashlar_ROLE_http_requests_total{method,status}` | answered requests by kind (`get`, `head`, `put`, `delete`, `list`, `other`) and status class (`1xx` … `5xx`) |
/// | `ashlar_ROLE_http_request_duration_seconds` | from a request's head to its response's last byte |
/// | `ashlar_ROLE_http_received_bytes_total` | heads and bodies of requests, without TLS |
/// | `ashlar_ROLE_http_sent_bytes_total` | heads and bodies of responses, without TLS |
/// | `ashlar_ROLE_http_connections` | open connections |
/// | `ashlar_ROLE_http_connections_accepted_total` | connections so far |
/// | `ashlar_ROLE_http_connections_delayed_total` | connections that waited because of the limit |
/// | `ashlar_ROLE_http_connections_timed_out_total` | connections cut because the client was slow |
/// | `ashlar_ROLE_tls_handshakes_failed_total` | TLS handshakes that failed |
#[derive(Clone, Debug)]
pub(crate) struct ServerMetrics(Arc<Counts>);

/// The counters behind [`ServerMetrics`], resolved once.
#[derive(Debug)]
pub(super) struct Counts {
    /// By kind, then by status class.
    requests: [[Counter; STATUS_CLASSES.len()]; KINDS.len()],
    pub(super) durations: Durations,
    pub(super) received_bytes: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) delayed: Counter,
    pub(super) timed_out: Counter,
    pub(super) handshakes_failed: Counter,
}

/// A kind of request: an index into [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(usize);

const KINDS: [&str; 6] = ["get", "head", "put", "delete", "list", "other"];
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl ServerMetrics {
    /// Registers the counts of `role`, which is part of their names.
    pub(crate) fn new(registry: &mut Registry, role: &'static str) -> Self {
        let registry = registry.sub_registry_with_prefix(role);
        let requests = Family::<[(&str, &str); 2], Counter>::default();
        registry.register("http_requests", "Answered requests", requests.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let received_bytes = counter("http_received_bytes", "Bytes of requests, without TLS");
        let sent_bytes = counter("http_sent_bytes", "Bytes of responses, without TLS");
        let accepted = counter("http_connections_accepted", "Connections so far");
        let delayed =
            counter("http_connections_delayed", "Connections that waited because of the limit");
        let timed_out =
            counter("http_connections_timed_out", "Connections cut because the client was slow");
        let handshakes_failed = counter("tls_handshakes_failed", "TLS handshakes that failed");
        let (durations, connections) = (Durations::default(), Gauge::default());
        registry.register(
            "http_request_duration_seconds",
            "From a request's head to its response's last byte",
            durations.clone(),
        );
        registry.register("http_connections", "Open connections", connections.clone());
        let of =
            |kind, class| requests.get_or_create(&[("method", kind), ("status", class)]).clone();
        Self(Arc::new(Counts {
            requests: KINDS.map(|kind| STATUS_CLASSES.map(|class| of(kind, class))),
            durations,
            received_bytes,
            sent_bytes,
            connections,
            accepted,
            delayed,
            timed_out,
            handshakes_failed,
        }))
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.0
    }
}

impl Counts {
    /// Counts an answered request.
    pub(super) fn answered(&self, kind: Kind, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len());
        self.requests[kind.0][class - 1].add(1);
    }
}

impl Kind {
    /// A GET of an object.
    pub(super) const GET: Self = Self(0);
    /// A HEAD of an object.
    pub(super) const HEAD: Self = Self(1);

    /// The kind of a request.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        Self(match *method {
            Method::GET | Method::HEAD if uri.path() == "/" => 4,
            Method::GET => return Self::GET,
            Method::HEAD => return Self::HEAD,
            Method::PUT => 2,
            Method::DELETE => 3,
            _ => 5,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_status_class() {
        let mut registry = crate::metrics::registry();
        let metrics = ServerMetrics::new(&mut registry, "test");
        for (method, path, status) in [
            (Method::GET, "/a", 200),
            (Method::GET, "/", 206),
            (Method::PUT, "/a", 412),
            (Method::from_bytes(b"MKCOL").unwrap(), "/a", 999),
        ] {
            let kind = Kind::of(&method, &path.parse().unwrap());
            metrics.counts().answered(kind, StatusCode::from_u16(status).unwrap());
        }
        let text = crate::metrics::text(&registry);
        for (kind, class) in [("get", "2xx"), ("list", "2xx"), ("put", "4xx"), ("other", "5xx")] {
            let line = format!(
                "ashlar_test_http_requests_total{{method=\"{kind}\",status=\"{class}\"}} 1\n"
            );
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
}
