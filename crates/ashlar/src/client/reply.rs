//! What the store answered.

use super::{Lease, STALL_TIMEOUT};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// The most bytes of an error's explanation that are read.
const EXPLANATION_BYTES_MAX: usize = 4096;

/// An answer whose body has not been read.
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    /// None once the body has been read to its end.
    lease: Option<Lease>,
}

impl Reply {
    pub(super) fn new(response: Response<Incoming>, lease: Lease) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body, lease: Some(lease) }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// All header fields.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A field's value, if it is there and printable.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Errors
    /// When the body breaks off or stalls.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let Ok(frame) = timeout(STALL_TIMEOUT, self.body.frame()).await else {
                bail!("the answer stalled for {STALL_TIMEOUT:?}");
            };
            match frame {
                Some(frame) => {
                    if let Ok(bytes) = frame.context("the answer broke off")?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.end();
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it breaks off, stalls or has more than `bytes_max` bytes.
    pub(crate) async fn bytes(mut self, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > bytes_max {
                bail!("the answer has more than {bytes_max} bytes");
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// An error that says what the store said.
    pub(crate) async fn into_error(self) -> anyhow::Error {
        let status = self.status;
        let explanation = self.bytes(EXPLANATION_BYTES_MAX).await.unwrap_or_default();
        let explanation = String::from_utf8_lossy(&explanation);
        match explanation.lines().next().filter(|line| !line.is_empty()) {
            Some(line) => anyhow!("{line} ({})", status.as_u16()),
            None => anyhow!("the store answered {status}"),
        }
    }
}
