//! Header fields that concern one connection and are never relayed, and those that are ours.
//!
//! They are handled as text: what is relayed is copied from one head into the other.

use http::{HeaderMap, Version};

/// Names a request in logs on every host, and tells the client how.
pub(crate) const REQUEST_ID: &str = "x-ashlar-request-id";
/// What front ends tell storage nodes starts with this; a client must not.
const OURS: &str = "x-ashlar-";

/// Whether a field concerns only the connection that it came by (RFC 9110, section 7.6.1).
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    let names: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["trailer", "upgrade"],
        10 => &["connection", "keep-alive"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        19 => &["proxy-authorization"],
        _ => return false,
    };
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a field of a client's request goes on to the storage node. What frames the message is
/// written anew, and the fields that are ours are not a client's to send.
fn is_relayed(name: &str) -> bool {
    let framing = match name.len() {
        4 => "host",
        6 => "expect",
        14 => "content-length",
        _ => "",
    };
    let is_ours = name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS));
    !(framing.eq_ignore_ascii_case(name) || is_ours || is_hop_by_hop(name))
}

/// What the Connection fields of a message say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    /// The connection ends with this message.
    close: bool,
    /// The connection goes on, which HTTP/1.0 does not imply.
    keep_alive: bool,
    /// Other fields that concern only the connection.
    named: Vec<String>,
}

impl ConnectionOptions {
    /// Reads all Connection fields of a message.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut options = Self::default();
        for value in headers.get_all(http::header::CONNECTION) {
            options.add(value.as_bytes());
        }
        options
    }

    /// Reads one Connection field.
    pub(super) fn add(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = std::str::from_utf8(option) {
                self.named.push(name.into());
            }
        }
    }

    /// Whether they name a field.
    pub(super) fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name))
    }

    /// Whether the connection of a message of that version can carry another one.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version >= Version::HTTP_11 || self.keep_alive)
    }
}

/// Writes the fields of a client's request that a storage node gets, one line each.
pub(super) fn write_relayed<'f>(
    fields: impl Iterator<Item = (&'f str, &'f [u8])>,
    options: &ConnectionOptions,
    head: &mut Vec<u8>,
) {
    for (name, value) in fields {
        if is_relayed(name) && !options.names(name) {
            write(head, name, value);
        }
    }
}

/// Writes one field.
pub(super) fn write(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    use http::{HeaderName, HeaderValue};

    fn headers(lines: &str) -> HeaderMap {
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.lines().map(field).collect()
    }

    fn relayed(lines: &str) -> String {
        let headers = headers(lines);
        let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let mut head = Vec::new();
        write_relayed(fields, &ConnectionOptions::of(&headers), &mut head);
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
    fn case_makes_no_difference() {
        for name in ["HOST", "Te", "Keep-Alive", "X-Ashlar-Ping", "Content-length"] {
            let mut head = Vec::new();
            let fields = [(name, &b"x"[..])].into_iter();
            write_relayed(fields, &ConnectionOptions::default(), &mut head);
            assert_eq!(head, b"", "{name}");
        }
        let mut options = ConnectionOptions::default();
        options.add(b"X-Hop");
        assert!(options.names("x-hOp"));
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
