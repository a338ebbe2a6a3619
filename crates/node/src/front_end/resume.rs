//! A body that goes on from another replica when its storage node breaks off.

use super::{
    balance::Tried,
    relay::READ_TIMEOUT,
    request::{HeadWriter, ReadRequest, RequestId},
    service::Core,
    upstream::{Failure, Outgoing, ResponseHead, Timeouts, UpstreamBody},
};
use crate::body::BodyError;
use ashlar_object::{NodeIndex, PartitionIndex};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// How often in a row a body may break off.
const RESUMES_MAX: u32 = 3;
/// After so many bytes the row ends: an object of any size arrives as long as nodes fail rarely.
const CREDIT_BYTES: u64 = 16 << 20;

/// How to ask for the rest of a body.
pub(super) struct ResumePoint {
    /// What every request for the object begins with.
    start: Bytes,
    id: RequestId,
    /// The rest must be of the very same object: a strong entity tag.
    etag: Vec<u8>,
    /// Where the body ends in the object.
    end: u64,
}

impl ResumePoint {
    /// None if the rest could not be asked for: only a GET's answer with a strong entity tag and a
    /// known place in the object can be continued.
    pub(super) fn of(request: &ReadRequest, answer: &ResponseHead) -> Option<Self> {
        if request.to_head {
            return None;
        }
        let etag = answer.field("etag").filter(|etag| etag.starts_with(b"\""))?;
        let end = match answer.status {
            StatusCode::OK => answer.body_bytes,
            StatusCode::PARTIAL_CONTENT => {
                let (start, end) = content_range(answer)?;
                (end.checked_sub(start) == Some(answer.body_bytes)).then_some(end)?
            }
            _ => return None,
        };
        let start = request.head.slice(..request.start_bytes);
        Some(Self { start, id: request.id, etag: etag.to_vec(), end })
    }

    /// Asks other replicas than the one that `failed` for the last `remaining_bytes`.
    async fn resume(
        self: Arc<Self>,
        core: Arc<Core>,
        thread: usize,
        partition: PartitionIndex,
        failed: NodeIndex,
        remaining_bytes: u64,
    ) -> Option<UpstreamBody> {
        let start = self.end - remaining_bytes;
        let range = format!("bytes={start}-{}", self.end - 1);
        let mut head = HeadWriter::resume(&self.start);
        head.field("range", range.as_bytes());
        head.field("if-match", &self.etag);
        let head = head.finish();
        let timeouts = Timeouts { response: READ_TIMEOUT, stall: core.limits.stall_timeout };
        let mut tried = Tried::default();
        let chain = core.map.chain(partition);
        chain
            .iter()
            .position(|node| *node == failed)
            .into_iter()
            .for_each(|place| tried.add(place));
        while let Some((place, node)) = core.choose(partition, tried, thread) {
            tried.add(place);
            let mut outgoing = Outgoing::read(head.clone(), false);
            match core.upstream.send(thread, node, &mut outgoing, timeouts).await {
                Ok(answer) if self.continues(&answer.head, start) => {
                    core.metrics.resumed(node);
                    return Some(answer.body);
                }
                Ok(answer) => tracing::info!(
                    id = self.id.text(),
                    node = core.states.name(node),
                    status = answer.head.status.as_u16(),
                    "a replica cannot continue a body"
                ),
                Err(failure) => core.states.failed(node, &failure),
            }
        }
        None
    }

    /// Whether an answer is the rest of the body, from `start` on.
    fn continues(&self, answer: &ResponseHead, start: u64) -> bool {
        answer.status == StatusCode::PARTIAL_CONTENT
            && answer.field("etag") == Some(&self.etag)
            && content_range(answer) == Some((start, self.end))
            && answer.body_bytes == self.end - start
    }
}

/// First byte and end of what a 206 holds.
fn content_range(answer: &ResponseHead) -> Option<(u64, u64)> {
    parse_content_range(std::str::from_utf8(answer.field("content-range")?).ok()?)
}

/// Reads `bytes FIRST-LAST/SIZE` and gives the first byte and the end; SIZE may be `*`.
pub(crate) fn parse_content_range(value: &str) -> Option<(u64, u64)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok())?
    };
    let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
    let fits = size == "*" || number(size).is_some_and(|size| end <= size);
    (first < end && fits).then_some((first, end))
}

/// A body from one replica after the other.
pub(super) struct ResumingBody {
    core: Arc<Core>,
    thread: usize,
    partition: PartitionIndex,
    /// None if the rest cannot be asked for.
    point: Option<Arc<ResumePoint>>,
    source: UpstreamBody,
    /// The search for another source.
    search: Option<Pin<Box<dyn Future<Output = Option<UpstreamBody>> + Send>>>,
    /// How often in a row the body has broken off.
    breaks: u32,
    /// Bytes that remained at the last break.
    broke_at: u64,
}

impl ResumingBody {
    pub(super) fn new(
        core: Arc<Core>,
        thread: usize,
        partition: PartitionIndex,
        point: Option<ResumePoint>,
        source: UpstreamBody,
    ) -> Self {
        let broke_at = source.remaining_bytes();
        let point = point.map(Arc::new);
        Self { core, thread, partition, point, source, search: None, breaks: 0, broke_at }
    }

    /// Starts to look for another source.
    fn search(&mut self, failure: &Failure) -> Result<(), BodyError> {
        let (node, remaining_bytes) = (self.source.node(), self.source.remaining_bytes());
        self.core.states.failed(node, failure);
        if self.broke_at - remaining_bytes > CREDIT_BYTES {
            self.breaks = 0;
        }
        self.breaks += 1;
        self.broke_at = remaining_bytes;
        let Some(point) = self.point.as_ref().filter(|_| self.breaks <= RESUMES_MAX) else {
            return Err(BodyError::new(failure.to_string()));
        };
        let name = self.core.states.name(node);
        tracing::info!(id = point.id.text(), node = name, %failure, "a body broke off");
        let (point, core) = (Arc::clone(point), Arc::clone(&self.core));
        let search = point.resume(core, self.thread, self.partition, node, remaining_bytes);
        self.search = Some(Box::pin(search));
        Ok(())
    }
}

impl HttpBody for ResumingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(search) = &mut self.search {
                let found = ready!(search.as_mut().poll(context));
                self.search = None;
                match found {
                    Some(source) => self.source = source,
                    None => {
                        let error = BodyError::new("no replica has the rest");
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            match ready!(self.source.poll_piece(context)) {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Some(Err(failure)) => {
                    if let Err(error) = self.search(&failure) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.remaining_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.source.remaining_bytes())
    }
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(self.poll_piece(context));
        Poll::Ready(piece.map(|piece| match piece {
            Ok(piece) => Ok(Frame::data(piece)),
            Err(failure) => Err(BodyError::new(failure.to_string())),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::Request;
    use proptest::prelude::*;

    #[test]
    fn a_content_range_gives_start_and_end() {
        for (value, range) in [
            ("bytes 0-0/1", Some((0, 1))),
            ("bytes 5-9/*", Some((5, 10))),
            ("bytes 5-9/10", Some((5, 10))),
            ("bytes 5-9/9", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 1-+2/10", None),
            ("bytes -2/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("lines 0-1/2", None),
        ] {
            assert_eq!(parse_content_range(value), range, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_survives_its_text(first in 0..u64::MAX / 2, length in 1..u64::MAX / 2) {
            let (end, last) = (first + length, first + length - 1);
            let text = format!("bytes {first}-{last}/{end}");
            prop_assert_eq!(parse_content_range(&text), Some((first, end)));
        }

        #[test]
        fn any_text_gives_an_answer(text in "(bytes )?[0-9*/-]{0,30}") {
            if let Some((first, end)) = parse_content_range(&text) {
                prop_assert!(first < end);
            }
        }
    }

    fn point(method: &str, status: u16, fields: &[(&str, &str)]) -> Option<u64> {
        let text: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} Status\r\n{text}content-length: 5\r\n\r\n");
        let answer = ResponseHead::of_text(&text);
        let request = Request::builder().method(method).uri("/a").body(()).unwrap();
        let id = RequestId::of(None);
        let request = ReadRequest::of(PartitionIndex(0), &request.into_parts().0, id);
        ResumePoint::of(&request, &answer).map(|point| point.end)
    }

    #[test]
    fn only_what_certainly_is_the_same_object_can_be_continued() {
        let range = ("content-range", "bytes 5-9/20");
        let etag = ("etag", "\"a\"");
        assert_eq!(point("GET", 200, &[etag]), Some(5));
        assert_eq!(point("GET", 206, &[etag, range]), Some(10));
        assert_eq!(point("GET", 206, &[etag, ("content-range", "bytes 5-8/20")]), None);
        assert_eq!(point("GET", 206, &[etag]), None);
        assert_eq!(point("GET", 404, &[etag]), None);
        assert_eq!(point("GET", 200, &[]), None);
        assert_eq!(point("GET", 200, &[("etag", "W/\"a\"")]), None);
        assert_eq!(point("HEAD", 200, &[etag]), None);
    }
}
