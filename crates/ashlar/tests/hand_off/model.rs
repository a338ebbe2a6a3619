//! What a client knows about its objects, and so what the store must answer.

use crate::http_client::Head;
use ashlar_object::synthetic::byte_at;
use std::ops::Range;

/// What an object holds: each byte is known without those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) size: u64,
}

/// The bytes of objects, of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// They look random, and a number tells them apart.
    Numbered(u64),
    /// Those of every synthetic object.
    Synthetic,
}

impl Content {
    /// Fills `bytes` with those from `offset` on.
    pub(crate) fn fill(&self, offset: u64, bytes: &mut [u8]) {
        let number = match self.bytes {
            Bytes::Numbered(number) => number,
            Bytes::Synthetic => {
                bytes.iter_mut().zip(offset..).for_each(|(byte, place)| *byte = byte_at(place));
                return;
            }
        };
        let mut place = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = mix(number ^ (place / 8)).to_le_bytes();
            let within = (place % 8) as usize;
            let count = (8 - within).min(rest.len());
            rest[..count].copy_from_slice(&word[within..within + count]);
            rest = &mut rest[count..];
            place += count as u64;
        }
    }
}

/// The finalizer of SplitMix64: neighbours differ in half of their bits.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Put(Content),
    Delete,
    Options,
    /// One that no server knows.
    Unknown,
    /// Not well-formed.
    Malformed,
}

/// A request as the model sees it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The number of the client's object.
    pub(crate) slot: usize,
    /// The object's generation when it was asked for.
    pub(crate) generation: u64,
    /// `If-None-Match: *`.
    pub(crate) only_if_absent: bool,
    pub(crate) range: Option<String>,
    /// The head as it is sent.
    pub(crate) head: String,
    /// How a body is sent.
    pub(crate) framing: Framing,
}

/// How a request's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    /// With its length, after the server has asked for it.
    Expect,
}

/// The body that a response must have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A part of an object.
    Part(Content, Range<u64>),
    /// Words for people.
    Words,
}

/// One object of a client. Nobody else writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// A new name for the object, because nobody can tell any more what became of the old one.
    pub(crate) generation: u64,
    pub(crate) object: Option<Content>,
}

impl Slot {
    /// Looks at the head of a final response, takes note of what was done, and says which body follows.
    ///
    /// # Panics
    /// If it is not what the store must answer.
    pub(crate) fn answered(&mut self, asked: &Asked, head: &Head) -> Body {
        let expected = self.statuses(asked);
        assert!(expected.contains(&head.status), "{asked:?}\n{head:?}\nnot one of {expected:?}");
        let body = match (asked.method, head.status, self.object) {
            (Method::Get, 200, Some(object)) => Body::Part(object, 0..object.size),
            (Method::Get, 206, Some(object)) => {
                let part = asked.range.as_deref().and_then(|range| part(range, object.size));
                let part = part.unwrap_or_else(|| panic!("{asked:?} has no part"));
                let shown = format!("bytes {}-{}/{}", part.start, part.end - 1, object.size);
                assert_eq!(head.field("content-range"), Some(&*shown), "{asked:?}");
                Body::Part(object, part)
            }
            (Method::Head, 200, Some(object)) => {
                let length = head.field("content-length").and_then(|length| length.parse().ok());
                assert_eq!(length, Some(object.size), "{asked:?}");
                Body::Words
            }
            (Method::Put(content), 200 | 201, _) => {
                self.object = Some(content);
                Body::Words
            }
            (Method::Delete, 204, _) => {
                self.object = None;
                Body::Words
            }
            _ => Body::Words,
        };
        if let Body::Part(_, part) = &body {
            assert_eq!(head.body_bytes(false), part.end - part.start, "{asked:?}\n{head:?}");
        }
        body
    }

    /// What the server may answer.
    fn statuses(&self, asked: &Asked) -> &'static [u16] {
        match (asked.method, self.object) {
            (Method::Malformed, _) => &[400],
            (Method::Options, _) => &[204],
            (Method::Unknown, _) => &[405],
            (Method::Put(_), Some(_)) if asked.only_if_absent => &[412],
            (Method::Put(_), Some(_)) => &[200],
            (Method::Put(_), None) => &[201],
            (Method::Delete, Some(_)) => &[204],
            (Method::Get | Method::Head | Method::Delete, None) => &[404],
            (Method::Get | Method::Head, Some(_)) if asked.only_if_absent => &[304],
            (Method::Head, Some(_)) => &[200],
            (Method::Get, Some(object)) => match asked.range.as_deref() {
                None => &[200],
                Some(range) if part(range, object.size).is_some() => &[206],
                // Which of these ranges cannot be satisfied and which mean nothing, another server tells.
                Some(_) => &[200, 416],
            },
        }
    }

    /// Nobody knows what became of a write: another object takes its place.
    pub(crate) fn abandon(&mut self) {
        *self = Self { generation: self.generation + 1, object: None };
    }
}

/// The part of `size` bytes that a well-formed single range names; none if it names nothing.
fn part(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<u64>().ok();
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..(last + 1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(length)) if first.is_empty() => size - length.min(size)..size,
        _ => return None,
    };
    (part.start < part.end).then_some(part)
}

#[test]
fn contents_are_the_same_from_any_place() {
    let content = Content { bytes: Bytes::Numbered(7), size: 100 };
    let mut whole = [0; 100];
    content.fill(0, &mut whole);
    for offset in 0..100 {
        let mut rest = vec![0; 100 - offset];
        content.fill(offset as u64, &mut rest);
        assert_eq!(rest, whole[offset..]);
    }
    let mut other = [0; 100];
    Content { bytes: Bytes::Numbered(8), ..content }.fill(0, &mut other);
    assert_ne!(whole, other);
}

#[test]
fn only_well_formed_ranges_name_a_part() {
    assert_eq!(part("bytes=2-4", 10), Some(2..5));
    assert_eq!(part("bytes=2-", 10), Some(2..10));
    assert_eq!(part("bytes=-3", 10), Some(7..10));
    assert_eq!(part("bytes=2-99", 10), Some(2..10));
    for nothing in ["bytes=4-2", "bytes=10-", "bytes=-0", "bytes=-", "bytes=1-2,4-5", "lines=1-2"] {
        assert_eq!(part(nothing, 10), None, "{nothing}");
    }
}
