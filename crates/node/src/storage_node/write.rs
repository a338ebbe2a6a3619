//! PUT and DELETE, at the head of a chain.
//!
//! A small body is kept in memory and travels with its write. A large one is written to this
//! node's disk and streamed down the chain while it arrives ([`super::upload`]), in pieces of
//! bounded size; only when every replica has synced it is the write numbered.

use super::{
    Shared,
    chain_thread::Input,
    read::{USER_PREFIX, VERSION_HEADER, failed_precondition, put},
    upload::{StagedBody, Upload, Uploaded},
};
use crate::{body::Body as ResponseBody, peer::stage::StageError, response};
use ashlar_object::{
    Body, Change, ETag, Key, ObjectMeta, Operation, PartitionIndex,
    chain::{Outcome, Refusal, Write},
    condition::Conditions,
    model::{CONTENT_TYPE_BYTES_MAX, USER_METADATA_BYTES_MAX},
};
use ashlar_storage::StorageError;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::{Digest, Md5};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::oneshot, time::timeout};

/// Bytes of a large body that are gathered before they are written and passed on.
const PIECE_BYTES: usize = 512 * 1024;

/// What a PUT says besides its body.
struct PutFields {
    conditions: Conditions,
    content_type: Option<String>,
    user: Vec<(String, String)>,
    /// Content-MD5: the body must have this hash.
    expected: Option<ETag>,
}

/// A body that has been taken in.
struct Received {
    body: ReceivedBody,
    size_bytes: u64,
    etag: ETag,
}

/// Where it is.
enum ReceivedBody {
    /// In memory.
    Inline(Bytes),
    /// On the disks of all replicas.
    Staged(StagedBody),
}

/// Why a body could not be taken in.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    /// The client broke off, or sent nothing for too long.
    #[error("the request's body broke off")]
    Client,
    /// This node or one behind it could not store the body.
    #[error("{0}")]
    Stage(#[from] StageError),
    /// Too many large bodies are under way.
    #[error("too many large bodies are under way")]
    Busy,
}

/// Answers a PUT of `key`.
pub(super) async fn put_object(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    key: Key,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    // Before the body is asked for: an `Expect: 100-continue` client then never sends it.
    if let Some(refusal) = refuse_early(shared, partition) {
        return refusal;
    }
    if !shared.views.has_space(partition) {
        return failure(Outcome::Refused(Refusal::NoSpace));
    }
    let fields = match PutFields::parse(request.headers()) {
        Ok(fields) => fields,
        Err(message) => return response::text(StatusCode::BAD_REQUEST, message),
    };
    let received = match receive(shared, partition, request.into_body()).await {
        Ok(received) => received,
        Err(error @ ReceiveError::Client) => {
            return response::text(StatusCode::BAD_REQUEST, error);
        }
        Err(ReceiveError::Stage(StageError::Storage(error @ StorageError::NoSpace { .. }))) => {
            return response::text(StatusCode::INSUFFICIENT_STORAGE, error);
        }
        Err(error) => return response::unavailable(error),
    };
    if fields.expected.is_some_and(|expected| expected != received.etag) {
        return response::text(StatusCode::BAD_REQUEST, "Content-MD5 does not fit the body");
    }
    let etag = received.etag;
    let meta = ObjectMeta {
        size_bytes: received.size_bytes,
        etag,
        modified_ms: now_ms(),
        content_type: fields.content_type,
        user: fields.user,
    };
    let (body, staged) = match received.body {
        ReceivedBody::Inline(bytes) => (Body::Inline(bytes), None),
        ReceivedBody::Staged(staged) => (Body::Staged(staged.id()), Some(staged)),
    };
    let operation = Operation { key, change: Change::Put { meta, body } };
    let write = Write { operation, conditions: fields.conditions };
    match submit(shared, partition, write, staged).await {
        Ok(Outcome::Committed { version, replaced }) => {
            let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
            let mut response = response::empty(status);
            response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(version.0));
            with_etag(response, etag)
        }
        Ok(outcome) => failure(outcome),
        Err(NoOutcome::Nothing(response) | NoOutcome::Unknown(response)) => response,
    }
}

/// Answers a DELETE of `key`.
pub(super) async fn delete_object(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    key: Key,
    headers: &HeaderMap,
) -> Response<ResponseBody> {
    if let Some(refusal) = refuse_early(shared, partition) {
        return refusal;
    }
    let conditions = match super::conditions(headers) {
        Ok(conditions) => conditions,
        Err(error) => return response::text(StatusCode::BAD_REQUEST, error),
    };
    let operation = Operation { key, change: Change::Delete };
    match submit(shared, partition, Write { operation, conditions }, None).await {
        Ok(Outcome::Committed { version, .. }) => {
            let mut response = response::empty(StatusCode::NO_CONTENT);
            response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(version.0));
            response
        }
        Ok(outcome) => failure(outcome),
        Err(NoOutcome::Nothing(response) | NoOutcome::Unknown(response)) => response,
    }
}

/// Refuses what the chain would refuse anyway, while nothing has been read.
fn refuse_early(shared: &Shared, partition: PartitionIndex) -> Option<Response<ResponseBody>> {
    let place = shared.identity.place_in(partition);
    if place.is_none_or(|place| place.predecessor.is_some()) {
        return Some(failure(Outcome::Refused(Refusal::NotHead)));
    }
    let takes = shared.views.takes_writes(partition);
    (!takes).then(|| failure(Outcome::Refused(Refusal::ChainBroken)))
}

fn failure(outcome: Outcome) -> Response<ResponseBody> {
    match outcome {
        Outcome::PreconditionFailed => failed_precondition(),
        Outcome::NotFound => response::text(StatusCode::NOT_FOUND, "no such object"),
        Outcome::Refused(refusal @ Refusal::NotHead) => {
            response::text(StatusCode::MISDIRECTED_REQUEST, refusal)
        }
        Outcome::Refused(refusal @ Refusal::NoSpace) => {
            response::text(StatusCode::INSUFFICIENT_STORAGE, refusal)
        }
        Outcome::Refused(refusal) => response::unavailable(refusal),
        Outcome::Committed { .. } => unreachable!("the caller answers success"),
    }
}

fn with_etag(mut response: Response<ResponseBody>, etag: ETag) -> Response<ResponseBody> {
    put(response.headers_mut(), header::ETAG, &etag.to_string());
    response
}

/// Why a write has no outcome, and what its client is told.
enum NoOutcome {
    /// The chain did not take it: nothing has been done and nothing will be.
    Nothing(Response<ResponseBody>),
    /// It may or may not take effect; what it names must stay.
    Unknown(Response<ResponseBody>),
}

/// Hands a write to the chain and waits for its outcome. The body that it names goes again if the
/// write certainly does not come to be.
async fn submit(
    shared: &Shared,
    partition: PartitionIndex,
    write: Write,
    mut body: Option<StagedBody>,
) -> Result<Outcome, NoOutcome> {
    let Some(room) = shared.chain.reserve().await else {
        return Err(NoOutcome::Nothing(response::unavailable("this node's disk has failed")));
    };
    // Nothing is awaited between these two: a client that goes away leaves no doubt whose it is.
    body.iter_mut().for_each(StagedBody::give_to_chain);
    let (reply, outcome) = oneshot::channel();
    room.send(Input::Write { partition, write, reply });
    let result = outcome_of(shared, outcome).await;
    let is_refused = match &result {
        Ok(outcome) => !matches!(outcome, Outcome::Committed { .. }),
        Err(NoOutcome::Nothing(_)) => true,
        Err(NoOutcome::Unknown(_)) => false,
    };
    if is_refused {
        body.iter_mut().for_each(StagedBody::take_back);
    }
    result
}

async fn outcome_of(
    shared: &Shared,
    outcome: oneshot::Receiver<Result<Outcome, StorageError>>,
) -> Result<Outcome, NoOutcome> {
    match timeout(shared.config.commit_timeout, outcome).await {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(StorageError::Gone))) => {
            Err(NoOutcome::Nothing(response::unavailable("the body has waited for too long")))
        }
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, "cannot decide on a write");
            Err(NoOutcome::Nothing(response::unavailable("this node cannot read its disk")))
        }
        // The write waits in the chain: it may still come to be.
        Ok(Err(_)) | Err(_) => Err(NoOutcome::Unknown(response::text(
            StatusCode::GATEWAY_TIMEOUT,
            "the write was not confirmed in time; it may or may not take effect",
        ))),
    }
}

/// Takes in a body of any length at constant memory.
async fn receive(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    mut body: Incoming,
) -> Result<Received, ReceiveError> {
    let mut head = BytesMut::new();
    loop {
        match next(shared, &mut body).await? {
            Some(bytes) if head.len() + bytes.len() <= shared.config.inline_bytes_max => {
                head.extend_from_slice(&bytes);
            }
            Some(bytes) => {
                let pieces = vec![head.freeze(), bytes];
                return receive_staged(shared, partition, pieces, body).await;
            }
            None => break,
        }
    }
    let bytes = head.freeze();
    let etag = ETag(Md5::digest(&bytes).into());
    Ok(Received { size_bytes: bytes.len() as u64, etag, body: ReceivedBody::Inline(bytes) })
}

async fn receive_staged(
    shared: &Arc<Shared>,
    partition: PartitionIndex,
    mut pieces: Vec<Bytes>,
    mut body: Incoming,
) -> Result<Received, ReceiveError> {
    let permit = shared.uploads.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ReceiveError::Busy)?;
    let mut upload = Upload::open(shared, partition, permit).await?;
    loop {
        let mut gathered_bytes: usize = pieces.iter().map(Bytes::len).sum();
        let mut ended = false;
        while gathered_bytes < PIECE_BYTES && !ended {
            match next(shared, &mut body).await? {
                Some(bytes) => {
                    gathered_bytes += bytes.len();
                    pieces.push(bytes);
                }
                None => ended = true,
            }
        }
        upload.write(std::mem::take(&mut pieces)).await?;
        if ended {
            break;
        }
    }
    let Uploaded { body, size_bytes, etag } = upload.finish().await?;
    Ok(Received { body: ReceivedBody::Staged(body), size_bytes, etag })
}

/// The body's next bytes; none at its end.
async fn next(shared: &Shared, body: &mut Incoming) -> Result<Option<Bytes>, ReceiveError> {
    loop {
        match timeout(shared.config.limits.stall_timeout, body.frame()).await {
            // Trailers carry nothing that we keep.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_trailers) => {}
            },
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) | Err(_) => return Err(ReceiveError::Client),
        }
    }
}

impl PutFields {
    fn parse(headers: &HeaderMap) -> Result<Self, String> {
        let content_type = match headers.get(header::CONTENT_TYPE) {
            Some(value) if value.len() > CONTENT_TYPE_BYTES_MAX => {
                return Err(format!("Content-Type has more than {CONTENT_TYPE_BYTES_MAX} bytes"));
            }
            Some(value) => Some(printable("Content-Type", value)?),
            None => None,
        };
        Ok(Self {
            conditions: super::conditions(headers).map_err(|error| error.to_string())?,
            content_type,
            user: user_metadata(headers)?,
            expected: headers.get("content-md5").map(content_md5).transpose()?,
        })
    }
}

fn user_metadata(headers: &HeaderMap) -> Result<Vec<(String, String)>, String> {
    let mut user = Vec::new();
    let mut total_bytes = 0;
    for (name, value) in headers {
        let Some(short) = name.as_str().strip_prefix(USER_PREFIX) else { continue };
        total_bytes += short.len() + value.len();
        if total_bytes > USER_METADATA_BYTES_MAX {
            return Err(format!("user metadata has more than {USER_METADATA_BYTES_MAX} bytes"));
        }
        user.push((short.to_string(), printable(name.as_str(), value)?));
    }
    Ok(user)
}

fn printable(name: &str, value: &HeaderValue) -> Result<String, String> {
    let text = value.to_str().map_err(|_| format!("{name} is not printable ASCII"))?;
    Ok(text.to_string())
}

/// RFC 1864: the base64 of an MD5.
fn content_md5(value: &HeaderValue) -> Result<ETag, String> {
    let wrong = || "Content-MD5 is not the base64 of 16 bytes".to_string();
    let text = value.as_bytes();
    let digits = text.strip_suffix(b"==").filter(|digits| digits.len() == 22).ok_or_else(wrong)?;
    let mut bits = 0u128;
    for (index, digit) in digits.iter().enumerate() {
        let place = BASE64.iter().position(|known| known == digit).ok_or_else(wrong)? as u128;
        // 21 digits hold 126 bits, the last one 2 more.
        bits = if index < 21 { bits << 6 | place } else { bits << 2 | place >> 4 };
    }
    Ok(ETag(bits.to_be_bytes()))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_md5_is_read() {
        let parse = |text| content_md5(&HeaderValue::from_static(text));
        // `printf foo | openssl md5 -binary | base64`
        let foo = ETag(Md5::digest(b"foo").into());
        assert_eq!(parse("rL0Y20zC+Fzt72VPzMSk2A=="), Ok(foo));
        for bad in ["", "rL0Y20zC+Fzt72VPzMSk2A", "====", "rL0Y20zC+Fzt72VPzMSk2!=="] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
