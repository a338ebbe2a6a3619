//! Listings: one page from the pages of storage nodes that hold all partitions between them.

use super::{
    cover::{Share, cover},
    relay::{READ_TIMEOUT, Relay},
    request::{HeadWriter, RequestId},
    upstream::{FailureKind, Outgoing, Timeouts, UpstreamResponse},
};
use crate::{
    body::Body,
    listing::{ListQuery, PARTITIONS_HEADER, format_partitions},
    response,
};
use ashlar_object::{
    NodeIndex, PartitionIndex,
    list::{Page, merge},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Response, StatusCode, header};
use std::{collections::HashSet, future::poll_fn};

/// Partitions that one request asks for: the field that names them stays well below the limit of
/// a head.
const PARTITIONS_MAX: usize = 512;
/// Requests of one listing that are under way at a time; each may bring a page into memory.
const REQUESTS_MAX: usize = 8;
/// The longest page: 1,000 keys of 1,024 bytes, each byte escaped with six characters, and more.
const PAGE_BYTES_MAX: u64 = 8 << 20;

impl Relay<'_> {
    /// Answers with one page.
    pub(super) async fn list(self, query: &str, id: &RequestId) -> Response<Body> {
        let query = match ListQuery::parse(query) {
            Ok(query) => query,
            Err(message) => return response::text(StatusCode::BAD_REQUEST, message),
        };
        match self.page(&query, id).await {
            Ok(page) => {
                let json = serde_json::to_vec(&page).expect("a page has no maps to fail on");
                let mut response = Response::new(Body::full(json));
                let media_type = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, media_type);
                response
            }
            Err(partition) => {
                response::unavailable(format!("no replica of partition {} answers", partition.0))
            }
        }
    }

    /// Merges the pages of all partitions. When a node fails, others take its partitions.
    async fn page(self, query: &ListQuery, id: &RequestId) -> Result<Page, PartitionIndex> {
        let core = self.core;
        let mut failed: HashSet<NodeIndex> = HashSet::new();
        let all: Vec<_> = core.map.partitions().collect();
        let usable = |node| core.states.is_usable(node);
        let mut waiting = split(cover(&core.map, &all, |node, _| usable(node))?);
        let mut asked = FuturesUnordered::new();
        let mut merged: Option<Page> = None;
        loop {
            while asked.len() < REQUESTS_MAX
                && let Some((node, partitions)) = waiting.pop()
            {
                asked.push(async move {
                    (self.ask(node, &partitions, query, id).await, node, partitions)
                });
            }
            let Some((answer, node, partitions)) = asked.next().await else {
                return Ok(merged.unwrap_or_default());
            };
            match answer {
                Ok(page) => {
                    let pages = merged.take().into_iter().chain([page]).collect();
                    merged = Some(merge(&query.request, pages));
                }
                Err(problem) => {
                    let name = core.states.name(node);
                    tracing::info!(
                        id = id.text(),
                        node = name,
                        problem,
                        "a storage node does not list"
                    );
                    failed.insert(node);
                    let other = |node, _| !failed.contains(&node) && usable(node);
                    let shares = split(cover(&core.map, &partitions, other)?);
                    shares.iter().for_each(|(node, _)| core.metrics.retried(*node));
                    waiting.extend(shares);
                }
            }
        }
    }

    /// Asks one node for the page of some partitions.
    async fn ask(
        self,
        node: NodeIndex,
        partitions: &[PartitionIndex],
        query: &ListQuery,
        id: &RequestId,
    ) -> Result<Page, String> {
        let mut head = HeadWriter::new("GET", &format!("/?{}", query.to_query()), None, id);
        head.field(PARTITIONS_HEADER.as_str(), format_partitions(partitions).as_bytes());
        let mut outgoing = Outgoing::read(head.finish(), false);
        let stall = self.core.limits.stall_timeout;
        let timeouts = Timeouts { response: READ_TIMEOUT, stall };
        match self.core.upstream.send(self.thread, node, &mut outgoing, timeouts).await {
            Ok(answer) if answer.head.status == StatusCode::OK => read_page(answer).await,
            Ok(answer) => {
                self.core.metrics.refused(node);
                Err(format!("it answers {}", answer.head.status))
            }
            Err(failure) => {
                // A listing that takes long is no sign of a node that keeps other requests
                // waiting; one that is silent altogether is found by its checks.
                if failure.kind != FailureKind::TimedOut {
                    self.core.states.failed(node, &failure);
                }
                Err(failure.to_string())
            }
        }
    }
}

async fn read_page(mut answer: UpstreamResponse) -> Result<Page, String> {
    if answer.head.body_bytes > PAGE_BYTES_MAX {
        return Err(format!("a page of {} bytes is too long", answer.head.body_bytes));
    }
    let mut json = Vec::new();
    while let Some(piece) = poll_fn(|context| answer.body.poll_piece(context)).await {
        json.extend_from_slice(&piece.map_err(|failure| failure.to_string())?);
    }
    serde_json::from_slice(&json).map_err(|error| format!("its page is malformed: {error}"))
}

/// Splits shares that are too large for one request.
fn split(shares: Vec<Share>) -> Vec<Share> {
    let pieces = |(node, share): Share| -> Vec<Share> {
        share.chunks(PARTITIONS_MAX).map(|piece| (node, piece.to_vec())).collect()
    };
    shares.into_iter().flat_map(pieces).collect()
}
