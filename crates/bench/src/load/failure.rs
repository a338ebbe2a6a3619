//! Why a request failed: kinds that are counted, with the first text of each kept.

use super::response::Malformed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// A failed request or connection.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// No TLS session, or one that broke.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The connection broke in the middle of a request.
    #[error("connection: {0}")]
    Io(#[source] io::Error),
    /// The server closed the connection instead of answering.
    #[error("the server closed the connection without an answer")]
    Closed,
    /// The answer is not HTTP/1.1.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The answer's status does not say success.
    #[error("status {0}")]
    Status(u16),
    /// The body has another length than the object.
    #[error("the body has {received} bytes instead of {expected}")]
    Length {
        /// The object's length in bytes.
        expected: u64,
        /// The length of the body that came.
        received: u64,
    },
    /// The body has other bytes than the object.
    #[error("the body's bytes are not the object's")]
    Content,
    /// No whole answer within the time-out.
    #[error("no answer within the time-out")]
    Timeout,
}

impl Failure {
    /// The kind, under which failures are counted.
    pub fn kind(&self) -> String {
        match self {
            Self::Connect(_) => "connect".to_owned(),
            Self::Tls(_) => "tls".to_owned(),
            Self::Io(_) => "connection".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Malformed(_) => "malformed".to_owned(),
            Self::Status(code) => format!("status_{code}"),
            Self::Length { .. } => "length".to_owned(),
            Self::Content => "content".to_owned(),
            Self::Timeout => "timeout".to_owned(),
        }
    }
}

/// Failures by kind; at most one entry for each kind and status code.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Failures {
    kinds: BTreeMap<String, FailuresOfKind>,
}

/// The failures of one kind.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct FailuresOfKind {
    /// How many there were.
    pub count: u64,
    /// What the first one said.
    pub first: String,
}

impl Failures {
    /// Counts a failure.
    pub fn add(&mut self, failure: &Failure) {
        let entry = self
            .kinds
            .entry(failure.kind())
            .or_insert_with(|| FailuresOfKind { count: 0, first: failure.to_string() });
        entry.count += 1;
    }

    /// Adds the failures of another thread.
    pub fn merge(&mut self, other: &Self) {
        for (kind, failures) in &other.kinds {
            self.kinds
                .entry(kind.clone())
                .and_modify(|mine| mine.count += failures.count)
                .or_insert_with(|| failures.clone());
        }
    }

    /// How many failures there were.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|failures| failures.count).sum()
    }

    /// Every kind with its failures.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &FailuresOfKind)> {
        self.kinds.iter().map(|(kind, failures)| (kind.as_str(), failures))
    }

    /// One line for people: `3 timeout (no answer within the time-out), 1 status_503 (…)`.
    pub fn summary(&self) -> String {
        let parts: Vec<String> = self
            .kinds()
            .map(|(kind, failures)| format!("{} {kind} ({})", failures.count, failures.first))
            .collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_over_threads() {
        let mut mine = Failures::default();
        mine.add(&Failure::Timeout);
        mine.add(&Failure::Status(503));
        let mut other = Failures::default();
        other.add(&Failure::Status(503));
        other.add(&Failure::Status(404));
        mine.merge(&other);
        assert_eq!(mine.total(), 4);
        assert_eq!(
            mine.summary(),
            "1 status_404 (status 404), 2 status_503 (status 503), \
             1 timeout (no answer within the time-out)"
        );
    }
}
