//! Bodies: a response's is nothing, bytes at hand, or a stream; a request's comes in time.

use crate::timer::StallTimer;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// A response's body.
///
/// An empty body and one whose bytes are at hand cost no allocation and tell their exact length,
/// so that they are never sent in chunks.
pub(crate) struct Body(Kind);

enum Kind {
    /// Nothing, or all has been taken.
    Empty,
    /// Bytes that have not been taken yet; never empty.
    Full(Bytes),
    /// Bytes that arrive over time.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

/// Why a body broke off. The connection is cut, because the receiver was promised more.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub(crate) struct BodyError(Box<dyn Error + Send + Sync>);

impl BodyError {
    /// An error caused by `cause`.
    pub(crate) fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl Body {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// These bytes.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// A stream. A body that knows its length should say so in its size hint.
    pub(crate) fn boxed(
        body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self(Kind::Stream(Box::pin(body)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Stream(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// A request's body that fails when its sender stalls.
///
/// The time counts only while somebody waits for bytes: a receiver may take as long as it wants.
pub(crate) struct RequestBody<B = Incoming> {
    incoming: B,
    stall: StallTimer,
}

impl<B> RequestBody<B> {
    /// `incoming`, which must not keep its reader waiting for longer than `stall_timeout`.
    pub(crate) fn new(incoming: B, stall_timeout: Duration) -> Self {
        Self { incoming, stall: StallTimer::new(stall_timeout) }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.stall.progress();
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::new)));
        }
        ready!(self.stall.poll_wait(context));
        let message = format!("the client sent nothing for {:?}", self.stall.timeout());
        Poll::Ready(Some(Err(BodyError::new(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => formatter.write_str("Body::Empty"),
            Kind::Full(bytes) => write!(formatter, "Body::Full({} bytes)", bytes.len()),
            Kind::Stream(body) => write!(formatter, "Body::Stream({:?})", body.size_hint()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http_body_util::BodyExt;

    async fn collected(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn bodies_tell_their_length_and_give_their_bytes() {
        for (body, bytes) in [
            (Body::empty(), ""),
            (Body::full(""), ""),
            (Body::full("abc"), "abc"),
            (Body::boxed(Body::full("abc")), "abc"),
        ] {
            assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
            assert_eq!(body.is_end_stream(), bytes.is_empty());
            assert_eq!(collected(body).await, bytes);
        }
    }

    /// A sender of which nothing comes.
    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_request_body_comes_through_or_fails_in_time() {
        let body = RequestBody::new(Body::full("abc"), Duration::from_secs(3600));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        let mut silent = RequestBody::new(Silent, Duration::from_millis(1));
        let error = silent.frame().await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "the body broke off: the client sent nothing for 1ms");
    }
}
