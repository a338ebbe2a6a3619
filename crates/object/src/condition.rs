//! Conditional requests (RFC 9110, section 13).

use crate::model::{ETag, ObjectMeta};
use std::time::{Duration, SystemTime};

/// The preconditions of a request. Absent fields hold; all that are present must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// If-Match.
    pub if_match: Option<TagList>,
    /// If-None-Match.
    pub if_none_match: Option<TagList>,
    /// If-Modified-Since, in seconds since the Unix epoch; only reads heed it.
    pub if_modified_since_s: Option<u64>,
    /// If-Unmodified-Since, in seconds since the Unix epoch.
    pub if_unmodified_since_s: Option<u64>,
}

/// The tags of an If-Match or If-None-Match field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagList {
    /// `*`: any object.
    Any,
    /// One of these.
    Tags(Vec<Tag>),
}

/// One tag of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Written with `W/`.
    pub weak: bool,
    /// The tag, or none for one that cannot be ours and therefore matches nothing.
    pub etag: Option<ETag>,
}

/// How a request's conditions come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Perform the request.
    Proceed,
    /// 304: the reader has this object already.
    NotModified,
    /// 412.
    Failed,
}

/// A conditional field that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not a list of entity tags or *")]
pub struct ConditionError {
    /// The header field.
    pub field: &'static str,
}

impl Conditions {
    /// Reads the four fields as a request carries them. A date that cannot be read is ignored, as
    /// the RFC demands.
    ///
    /// # Errors
    /// When a tag list is malformed.
    pub fn parse(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
        if_modified_since: Option<&str>,
        if_unmodified_since: Option<&str>,
    ) -> Result<Self, ConditionError> {
        let tags = |field, text: Option<&str>| {
            text.map(|text| TagList::parse(text).ok_or(ConditionError { field })).transpose()
        };
        Ok(Self {
            if_match: tags("If-Match", if_match)?,
            if_none_match: tags("If-None-Match", if_none_match)?,
            if_modified_since_s: if_modified_since.and_then(date_s),
            if_unmodified_since_s: if_unmodified_since.and_then(date_s),
        })
    }

    /// Whether there is no condition at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The verdict for a GET or HEAD of `current` (RFC 9110, section 13.2.2).
    pub fn for_read(&self, current: Option<&ObjectMeta>) -> Verdict {
        if self.state_changing_verdict(current) == Verdict::Failed {
            return Verdict::Failed;
        }
        let Some(meta) = current else {
            return Verdict::Proceed;
        };
        let unchanged = match (&self.if_none_match, self.if_modified_since_s) {
            (Some(list), _) => list.matches(meta, Comparison::Weak),
            (None, Some(since_s)) => meta.modified_ms / 1000 <= since_s,
            (None, None) => false,
        };
        if unchanged { Verdict::NotModified } else { Verdict::Proceed }
    }

    /// The verdict for a PUT or DELETE over `current`: never [`Verdict::NotModified`].
    pub fn for_write(&self, current: Option<&ObjectMeta>) -> Verdict {
        if self.state_changing_verdict(current) == Verdict::Failed {
            return Verdict::Failed;
        }
        match (&self.if_none_match, current) {
            (Some(list), Some(meta)) if list.matches(meta, Comparison::Weak) => Verdict::Failed,
            _ => Verdict::Proceed,
        }
    }

    /// If-Match, or else If-Unmodified-Since: what protects from a lost update.
    fn state_changing_verdict(&self, current: Option<&ObjectMeta>) -> Verdict {
        let holds = match (&self.if_match, self.if_unmodified_since_s, current) {
            (Some(list), _, Some(meta)) => list.matches(meta, Comparison::Strong),
            (Some(_), _, None) => false,
            (None, Some(since_s), Some(meta)) => meta.modified_ms / 1000 <= since_s,
            (None, _, _) => true,
        };
        if holds { Verdict::Proceed } else { Verdict::Failed }
    }
}

/// RFC 9110, section 8.8.3.2: a strong comparison refuses weak tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl TagList {
    /// Reads a field's value; none if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let inner = quoted.strip_prefix('"')?;
            let end = inner.find('"')?;
            tags.push(Tag { weak, etag: quoted[..end + 2].parse().ok() });
            rest = inner[end + 1..].trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.is_empty() => {}
                None => return None,
            }
        }
        (!tags.is_empty()).then_some(Self::Tags(tags))
    }

    fn matches(&self, meta: &ObjectMeta, comparison: Comparison) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| {
                tag.etag == Some(meta.etag) && (comparison == Comparison::Weak || !tag.weak)
            }),
        }
    }
}

/// An HTTP date as seconds since the epoch; none if it cannot be read.
fn date_s(text: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(text).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The value of a Last-Modified field.
pub fn http_date(modified_ms: u64) -> String {
    // httpdate panics after the year 9999.
    const LAST_MS: u64 = 253_402_300_799_000;
    httpdate::fmt_http_date(
        SystemTime::UNIX_EPOCH + Duration::from_millis(modified_ms.min(LAST_MS)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const OURS: &str = "\"0101010101010101 0101010101010101\"";

    fn object() -> ObjectMeta {
        ObjectMeta {
            size_bytes: 1,
            etag: ETag([1; 16]),
            modified_ms: 784_111_777_500,
            content_type: None,
            user: vec![],
        }
    }

    fn ours() -> String {
        OURS.replace(' ', "")
    }

    fn conditions(match_: Option<&str>, none: Option<&str>) -> Conditions {
        Conditions::parse(match_, none, None, None).unwrap()
    }

    #[test]
    fn a_write_if_match_protects_from_lost_updates() {
        let object = object();
        assert_eq!(conditions(Some(&ours()), None).for_write(Some(&object)), Verdict::Proceed);
        assert_eq!(conditions(Some("\"x\""), None).for_write(Some(&object)), Verdict::Failed);
        assert_eq!(conditions(Some("*"), None).for_write(None), Verdict::Failed);
        let weak = format!("W/{}", ours());
        assert_eq!(conditions(Some(&weak), None).for_write(Some(&object)), Verdict::Failed);
    }

    #[test]
    fn a_write_if_none_match_creates_once() {
        assert_eq!(conditions(None, Some("*")).for_write(None), Verdict::Proceed);
        assert_eq!(conditions(None, Some("*")).for_write(Some(&object())), Verdict::Failed);
    }

    #[test]
    fn a_read_if_none_match_saves_the_transfer() {
        let list = format!("\"x\", W/{}", ours());
        assert_eq!(conditions(None, Some(&list)).for_read(Some(&object())), Verdict::NotModified);
        assert_eq!(conditions(None, Some("\"x\"")).for_read(Some(&object())), Verdict::Proceed);
        assert_eq!(conditions(None, Some("*")).for_read(None), Verdict::Proceed);
    }

    #[test]
    fn dates_count_whole_seconds_and_tags_outrank_them() {
        let (exact, before) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT");
        let object = object();
        let since = |m, u| Conditions::parse(None, None, m, u).unwrap();
        assert_eq!(since(Some(exact), None).for_read(Some(&object)), Verdict::NotModified);
        assert_eq!(since(Some(before), None).for_read(Some(&object)), Verdict::Proceed);
        assert_eq!(since(None, Some(exact)).for_write(Some(&object)), Verdict::Proceed);
        assert_eq!(since(None, Some(before)).for_write(Some(&object)), Verdict::Failed);
        assert_eq!(since(Some("no date"), None), Conditions::default());
        let both = Conditions::parse(None, Some("\"x\""), Some(exact), None).unwrap();
        assert_eq!(both.for_read(Some(&object)), Verdict::Proceed);
    }

    #[test]
    fn malformed_tag_lists_are_refused() {
        for bad in ["", "x", "\"", "\"a\" \"b\"", "W/x", "*, \"a\""] {
            assert_eq!(TagList::parse(bad), None, "{bad}");
        }
        assert!(TagList::parse("\"a\",\"b\" , W/\"c\"").is_some());
    }

    #[test]
    fn dates_are_written_as_the_rfc_wants_them() {
        assert_eq!(http_date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
