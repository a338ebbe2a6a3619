//! Header fields that concern one connection and are never relayed, and those that are ours.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// Names a request in logs on every host, and tells the client how.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ashlar-request-id");
/// What front ends tell storage nodes starts with this; a client must not.
const OURS: &str = "x-ashlar-";

/// Whether a field concerns only the connection that it came by (RFC 9110, section 7.6.1).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// What the Connection fields of a message say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    /// The connection ends with this message.
    pub(super) close: bool,
    /// The connection goes on, which HTTP/1.0 does not imply.
    keep_alive: bool,
    /// Other fields that concern only the connection.
    pub(super) named: Vec<HeaderName>,
}

impl ConnectionOptions {
    /// Reads all Connection fields of a message.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut options = Self::default();
        for value in headers.get_all(header::CONNECTION) {
            options.add(value);
        }
        options
    }

    /// Reads one Connection field.
    pub(super) fn add(&mut self, value: &HeaderValue) {
        for option in value.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = HeaderName::from_bytes(option) {
                self.named.push(name);
            }
        }
    }

    /// Whether the connection of a message of that version can carry another one.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version >= Version::HTTP_11 || self.keep_alive)
    }
}

/// Writes the fields of a client's request that a storage node gets, one line each. What frames
/// the message, and the fields that are ours, are left out.
pub(super) fn write_relayed(headers: &HeaderMap, head: &mut Vec<u8>) {
    let options = ConnectionOptions::of(headers);
    for (name, value) in headers {
        let framing = matches!(*name, header::CONTENT_LENGTH | header::HOST | header::EXPECT);
        if framing || is_hop_by_hop(name) || options.named.contains(name) || is_ours(name) {
            continue;
        }
        write(head, name.as_str(), value.as_bytes());
    }
}

/// Writes one field.
pub(super) fn write(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with(OURS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn headers(lines: &str) -> HeaderMap {
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.lines().map(field).collect()
    }

    fn relayed(lines: &str) -> String {
        let mut head = Vec::new();
        write_relayed(&headers(lines), &mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn fields_of_the_object_are_relayed() {
        let lines = "range: bytes=0-1\nif-match: \"a\"\nx-amz-meta-a: b\ncookie: c\ncookie: d";
        assert_eq!(relayed(lines), lines.replace('\n', "\r\n") + "\r\n");
    }

    #[test]
    fn fields_of_the_connection_are_not_relayed() {
        let lines = "connection: close, X-Secret\nx-secret: 1\nkeep-alive: 1\nproxy-connection: a\n\
                     te: trailers\ntrailer: a\nupgrade: h2c\ntransfer-encoding: chunked\n\
                     proxy-authorization: a\nproxy-authenticate: a";
        assert_eq!(relayed(lines), "");
    }

    #[test]
    fn framing_and_our_own_fields_are_not_relayed() {
        let lines = "host: a\ncontent-length: 3\nexpect: 100-continue\nx-ashlar-partitions: 1\n\
                     x-ashlar-ping: 1\nx-ashlar-request-id: a";
        assert_eq!(relayed(lines), "");
    }

    #[test]
    fn a_connection_persists_as_version_and_options_say() {
        for (lines, version, persists) in [
            ("a: b", Version::HTTP_11, true),
            ("a: b", Version::HTTP_10, false),
            ("connection: Keep-Alive", Version::HTTP_10, true),
            ("connection: x , CLOSE", Version::HTTP_11, false),
            ("connection: keep-alive\nconnection: close", Version::HTTP_10, false),
        ] {
            let options = ConnectionOptions::of(&headers(lines));
            assert_eq!(options.persists(version), persists, "{lines}");
        }
    }
}
