//! What is replicated: numbered entries, chained by digests.

use crate::View;
use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Names a client; drawn at random by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// The most bytes of one operation.
pub const OPERATION_BYTES_MAX: usize = 1 << 20;

/// Bytes of an entry besides its operation, as it is sent and as bounds count it.
pub const ENTRY_HEADER_BYTES: usize = 64;

/// What an entry does when it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The service executes it.
    Operation,
    /// A client's session begins.
    Register,
    /// The next epoch begins with the members that the body names.
    Reconfigure,
}

impl Kind {
    /// As it is stored and sent.
    pub fn code(self) -> u8 {
        match self {
            Self::Operation => 1,
            Self::Register => 2,
            Self::Reconfigure => 3,
        }
    }

    /// The kind of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Operation, Self::Register, Self::Reconfigure]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// The place of the entry that began the client's session; 0 to begin one. Without it, a late copy of a
    /// registration would begin a session in which late copies of requests are executed again.
    pub session: u64,
    /// Counts the session's requests from 1 on; 0 registers.
    pub number: u64,
    /// The client has the results of all requests up to this one.
    pub acknowledged: u64,
    /// What is asked for.
    pub kind: Kind,
    /// The operation, at most [`OPERATION_BYTES_MAX`].
    pub body: Bytes,
}

/// A request at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1 on.
    pub op: u64,
    /// The view whose leader gave it its place.
    pub view: View,
    /// The leader's clock then, in milliseconds since 1970; never less than that of the entry before.
    pub time_ms: u64,
    /// What it does.
    pub request: Request,
    /// Of this entry and all before it.
    pub digest: u64,
}

impl Entry {
    /// Appends a request behind an entry with the digest `previous`.
    pub fn new(op: u64, view: View, time_ms: u64, request: Request, previous: u64) -> Self {
        let mut entry = Self { op, view, time_ms, request, digest: 0 };
        entry.digest = entry.digest_behind(previous);
        entry
    }

    /// The digest that this entry has behind one with the digest `previous`.
    pub fn digest_behind(&self, previous: u64) -> u64 {
        let Request { client, session, number, acknowledged, kind, body } = &self.request;
        let kind = u64::from(kind.code());
        let (view, time_ms) = (self.view.bits(), self.time_ms);
        let words =
            [previous, self.op, view, time_ms, client.0, *session, *number, *acknowledged, kind];
        let mut header = [0; 72];
        for (bytes, word) in header.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        xxh3_64_with_seed(body, xxh3_64(&header))
    }

    /// Whether this entry comes behind one with the digest `previous`.
    pub fn follows(&self, previous: u64) -> bool {
        self.digest == self.digest_behind(previous)
    }

    /// How much room it takes.
    pub fn bytes(&self) -> usize {
        entry_bytes(&self.request)
    }
}

/// How much room a request's entry takes.
pub(crate) fn entry_bytes(request: &Request) -> usize {
    ENTRY_HEADER_BYTES + request.body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64, body: &'static [u8]) -> Request {
        let (client, body) = (ClientId(9), Bytes::from_static(body));
        Request { client, session: 1, number, acknowledged: 0, kind: Kind::Operation, body }
    }

    #[test]
    fn one_digest_stands_for_the_whole_log_before_it() {
        let first = Entry::new(1, View::new(0, 0), 5, request(1, b"a"), 0);
        let second = Entry::new(2, View::new(0, 0), 5, request(2, b"b"), first.digest);
        assert!(second.follows(first.digest) && !second.follows(0));
        let other = Entry::new(1, View::new(0, 1), 5, request(1, b"a"), 0);
        assert_ne!(other.digest, first.digest, "the same request of another view");
        assert_ne!(second.digest, second.digest_behind(other.digest));
    }

    #[test]
    fn kinds_keep_their_codes() {
        for code in 0..=255 {
            assert!(Kind::from_code(code).is_none_or(|kind| kind.code() == code));
        }
        assert_eq!(Kind::from_code(1), Some(Kind::Operation));
        assert_eq!(Kind::from_code(0), None);
    }
}
