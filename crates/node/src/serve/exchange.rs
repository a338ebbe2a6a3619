//! One request and its response, counted from head to last byte.

use super::{
    client::Progress,
    metrics::{Kind, ServerMetrics},
};
use crate::body::{Body, BodyError};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
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
    started: Instant,
    /// The answer comes from elsewhere, and is counted there.
    withdrawn: bool,
}

impl Exchange {
    /// Starts with a request's head, which was there when it `started`.
    pub(super) fn start(
        kind: Kind,
        has_body: bool,
        started: Instant,
        progress: &Arc<Progress>,
        metrics: &ServerMetrics,
    ) -> Self {
        let requests = progress.requests.load(Relaxed) + 1;
        progress.requests.store(requests, Relaxed);
        progress.head_bytes.store(false, Relaxed);
        progress.has_body.store(has_body, Relaxed);
        Self {
            progress: Arc::clone(progress),
            metrics: metrics.clone(),
            kind,
            started,
            withdrawn: false,
        }
    }

    /// Ends it uncounted: the answer will come from elsewhere.
    pub(super) fn withdraw(mut self) {
        self.withdrawn = true;
    }

    /// Counts the answer.
    pub(super) fn answered(&self, status: StatusCode) {
        self.metrics.counts().answered(self.kind, status);
    }

    /// Goes on to the end of `response`.
    pub(super) fn answer(self, response: Response<Body>) -> Response<CountedBody> {
        self.answered(response.status());
        response.map(|body| CountedBody { body, _exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let responses = self.progress.responses.load(Relaxed) + 1;
        self.progress.responses.store(responses, Relaxed);
        if !self.withdrawn {
            self.metrics.counts().durations.observe(self.started.elapsed());
        }
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
