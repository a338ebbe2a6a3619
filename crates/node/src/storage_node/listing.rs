//! One node's share of a listing.

use super::{
    Shared,
    lookup::{LookupError, numbers, tail_committed},
};
use crate::{body::Body, listing::ListQuery, peer::stage::blocking, response};
use ashlar_object::{
    Key, PartitionIndex, Version,
    list::{Bound, ListRequest, Listed, Page, PageBuilder, Step},
    read::{ReadDecision, decide_at},
};
use ashlar_storage::{Snapshot, Stored, StoredChange};
use futures_util::future::join_all;
use http::{HeaderValue, Response, StatusCode, header};
use std::{collections::HashMap, sync::Arc};

/// Keys that one page may look at; a longer search goes on with the next page.
const SCAN_KEYS_MAX: usize = 50_000;

/// Answers with a page of the objects of `partitions`, or why not.
pub(super) async fn list(
    shared: &Arc<Shared>,
    query: ListQuery,
    partitions: Vec<PartitionIndex>,
) -> Response<Body> {
    match page(shared, query.request, partitions).await {
        Ok(page) => match serde_json::to_vec(&page) {
            Ok(json) => {
                let mut response = Response::new(Body::full(json));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => response::text(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
        Err(error) => response::unavailable(error),
    }
}

async fn page(
    shared: &Arc<Shared>,
    request: ListRequest,
    partitions: Vec<PartitionIndex>,
) -> Result<Page, LookupError> {
    if !partitions.iter().all(|partition| shared.views.serves_reads(*partition)) {
        return Err(LookupError::NotServed);
    }
    let engine = shared.engine.clone();
    let snapshot = blocking(move || engine.snapshot()).await?;
    // After the snapshot, as for a single read. All tails are asked at once: together they take no
    // longer than one.
    let words = partitions.into_iter().map(|partition| async move {
        // A clean partition needs no tail.
        let committed = if shared.views.is_dirty(partition) {
            tail_committed(shared, partition).await
        } else {
            Some(shared.views.committed(partition))
        };
        (partition, committed)
    });
    let settled = join_all(words).await.into_iter().collect();
    blocking(move || {
        let mut scan =
            Scan { builder: PageBuilder::new(&request), settled, seen: 0, undecided: false };
        snapshot_scan(&*snapshot, &request.start(), &mut scan)?;
        Ok(if scan.undecided { None } else { Some(scan.builder.finish()) })
    })
    .await?
    .ok_or(LookupError::Undecided)
}

fn snapshot_scan(
    snapshot: &dyn Snapshot,
    start: &Bound,
    scan: &mut Scan<'_>,
) -> Result<(), ashlar_storage::StorageError> {
    snapshot.scan(start, &mut |key, versions| scan.visit(key, versions))
}

struct Scan<'a> {
    builder: PageBuilder<'a>,
    /// How far each wanted partition is committed; none where its tail does not answer.
    settled: HashMap<PartitionIndex, Option<Version>>,
    /// Keys looked at.
    seen: usize,
    /// A key's newest version depends on a tail that does not answer.
    undecided: bool,
}

impl Scan<'_> {
    fn visit(&mut self, key: &Key, versions: &[Stored]) -> Step {
        self.seen += 1;
        if self.seen > SCAN_KEYS_MAX {
            self.builder.cut(Bound::at(key.as_str()));
            return Step::Stop;
        }
        let Some(newest) = versions.last() else { return Step::Next };
        let committed = match self.settled.get(&newest.partition) {
            None => return Step::Next,
            Some(Some(committed)) => *committed,
            Some(None) => {
                self.undecided = true;
                return Step::Stop;
            }
        };
        let ReadDecision::Serve(version) = decide_at(&numbers(versions), committed) else {
            return Step::Next;
        };
        let visible = versions.iter().find(|stored| stored.version == version);
        match visible.map(|stored| &stored.change) {
            Some(StoredChange::Put { meta, .. }) => self.builder.offer(Listed {
                key: key.clone(),
                size_bytes: meta.size_bytes,
                etag: meta.etag,
                modified_ms: meta.modified_ms,
                version,
            }),
            _ => Step::Next,
        }
    }
}
