//! One request and its response, counted from head to last byte.

use super::{
    client::Progress,
    metrics::{Kind, ServerMetrics},
};
use crate::body::{Body, BodyError};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Instant,
};

/// A request that has come and whose response has not been taken whole.
pub(super) struct Exchange {
    progress: Arc<Progress>,
    metrics: ServerMetrics,
    kind: Kind,
    pub(super) started: Instant,
}

impl Exchange {
    /// Starts with a request's head.
    pub(super) fn start(
        request: &Request<Incoming>,
        progress: &Arc<Progress>,
        metrics: &ServerMetrics,
    ) -> Self {
        let requests = progress.requests.load(Relaxed) + 1;
        progress.requests.store(requests, Relaxed);
        progress.head_bytes.store(false, Relaxed);
        progress.has_body.store(!request.body().is_end_stream(), Relaxed);
        Self {
            progress: Arc::clone(progress),
            metrics: metrics.clone(),
            kind: Kind::of(request.method(), request.uri()),
            started: Instant::now(),
        }
    }

    /// Goes on to the end of `response`.
    pub(super) fn answer(self, response: Response<Body>) -> Response<CountedBody> {
        self.metrics.counts().answered(self.kind, response.status());
        response.map(|body| CountedBody { body, _exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let responses = self.progress.responses.load(Relaxed) + 1;
        self.progress.responses.store(responses, Relaxed);
        self.metrics.counts().durations.observe(self.started.elapsed());
    }
}

/// A response's body that ends its exchange when hyper has taken it.
pub(super) struct CountedBody {
    body: Body,
    _exchange: Exchange,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
