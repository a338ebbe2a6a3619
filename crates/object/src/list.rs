//! Listings: by prefix, folded at a delimiter, in pages, in the order of the keys' bytes.
//!
//! Keys are spread over all partitions by hash, so a page is merged from the pages of several
//! nodes. A page's memory is bounded by [`LIST_KEYS_MAX`] whatever the store holds.

use crate::{ETag, Key, Version};
use serde::{Deserialize, Serialize};

/// The most objects and common prefixes in one page, as in S3.
pub const LIST_KEYS_MAX: usize = 1000;

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that contain this after the prefix are folded into one common prefix that ends with it.
    pub delimiter: Option<String>,
    /// Where to go on.
    pub from: Bound,
    /// The most objects and common prefixes to return, 1 to [`LIST_KEYS_MAX`].
    pub keys_max: usize,
}

/// An inclusive lower bound in the order of the keys' bytes; opaque to clients as a token.
///
/// NUL sorts before and 0xff after every byte of a key, which makes the bounds after a key and
/// after all keys of a prefix expressible.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound(Vec<u8>);

/// A continuation token that no page gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the continuation token is malformed")]
pub struct TokenError;

/// One object of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// The object's length in bytes.
    pub size_bytes: u64,
    /// Its entity tag, with quotes.
    #[serde(with = "etag_text")]
    pub etag: ETag,
    /// When it was written, in milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// Its version within its partition.
    pub version: Version,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Objects, in order.
    pub objects: Vec<Listed>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<String>,
    /// Where the next page starts; none after the last.
    #[serde(rename = "next_continuation_token", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Bound>,
}

/// What a scan does after it offered a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on with the next key.
    Next,
    /// Go on with the first key at or after this bound.
    Seek(Bound),
    /// The page is full.
    Stop,
}

/// Builds a page from keys offered in order.
#[derive(Debug)]
pub struct PageBuilder<'a> {
    request: &'a ListRequest,
    page: Page,
}

impl Bound {
    /// Just after `key`.
    pub fn after_key(key: &str) -> Self {
        Self([key.as_bytes(), &[0]].concat())
    }

    /// After all keys that start with `prefix`.
    pub fn after_prefix(prefix: &str) -> Self {
        Self([prefix.as_bytes(), &[0xff]].concat())
    }

    /// At `name`.
    pub fn at(name: &str) -> Self {
        Self(name.as_bytes().to_vec())
    }

    /// The bound's bytes, to be compared with the keys' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bound as an opaque token.
    pub fn to_token(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn from_token(token: &str) -> Result<Self, TokenError> {
        let digits = token.as_bytes();
        // A bound is at most a key and one byte.
        if !digits.len().is_multiple_of(2) || digits.len() > 2 * (crate::key::KEY_BYTES_MAX + 1) {
            return Err(TokenError);
        }
        let nibble = |digit: u8| (digit as char).to_digit(16).ok_or(TokenError);
        let byte = |pair: &[u8]| Ok((nibble(pair[0])? * 16 + nibble(pair[1])?) as u8);
        digits.chunks(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Bound {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_token())
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = String::deserialize(deserializer)?;
        Self::from_token(&token).map_err(serde::de::Error::custom)
    }
}

impl ListRequest {
    /// Where a scan starts: at the prefix or where the last page ended.
    pub fn start(&self) -> Bound {
        Bound::at(&self.prefix).max(self.from.clone())
    }

    /// The common prefix that `key` is folded into, if any.
    fn fold<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let at = key[self.prefix.len()..].find(delimiter)?;
        Some(&key[..self.prefix.len() + at + delimiter.len()])
    }
}

impl<'a> PageBuilder<'a> {
    /// An empty page for `request`.
    pub fn new(request: &'a ListRequest) -> Self {
        assert!((1..=LIST_KEYS_MAX).contains(&request.keys_max));
        Self { request, page: Page::default() }
    }

    /// Offers an object that exists, at or after the last step's bound, in key order.
    pub fn offer(&mut self, object: Listed) -> Step {
        let name = object.key.as_str();
        if !name.starts_with(&self.request.prefix) {
            return Step::Stop;
        }
        if self.page.len() >= self.request.keys_max {
            self.page.next = Some(Bound::at(name));
            return Step::Stop;
        }
        match self.request.fold(name) {
            Some(prefix) => {
                let prefix = prefix.to_string();
                let seek = Bound::after_prefix(&prefix);
                self.page.common_prefixes.push(prefix);
                Step::Seek(seek)
            }
            None => {
                self.page.objects.push(object);
                Step::Next
            }
        }
    }

    /// Ends the page at `bound` because the scan has done enough work.
    pub fn cut(&mut self, bound: Bound) {
        self.page.next = Some(bound);
    }

    /// The page.
    pub fn finish(self) -> Page {
        self.page
    }
}

impl Page {
    /// How many objects and common prefixes the page holds.
    pub fn len(&self) -> usize {
        self.objects.len() + self.common_prefixes.len()
    }

    /// Whether the page holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Merges pages of disjoint sets of partitions, all made for `request`, into one.
///
/// Nothing at or behind the first page's end is taken: that page may have more before it.
pub fn merge(request: &ListRequest, pages: Vec<Page>) -> Page {
    let end = pages.iter().filter_map(|page| page.next.clone()).min();
    let mut items: Vec<Item> = Vec::new();
    for page in pages {
        items.extend(page.objects.into_iter().map(Item::Object));
        items.extend(page.common_prefixes.into_iter().map(Item::Prefix));
    }
    items.sort_by(|a, b| a.name().cmp(b.name()));
    items.dedup_by(|a, b| a.name() == b.name());
    let mut merged = Page::default();
    for item in items {
        if end.as_ref().is_some_and(|end| item.name().as_bytes() >= end.as_bytes()) {
            break;
        }
        if merged.len() == request.keys_max {
            merged.next = Some(Bound::at(item.name()));
            return merged;
        }
        match item {
            Item::Object(object) => merged.objects.push(object),
            Item::Prefix(prefix) => merged.common_prefixes.push(prefix),
        }
    }
    merged.next = end;
    merged
}

enum Item {
    Object(Listed),
    Prefix(String),
}

impl Item {
    fn name(&self) -> &str {
        match self {
            Self::Object(object) => object.key.as_str(),
            Self::Prefix(prefix) => prefix,
        }
    }
}

mod etag_text {
    use crate::ETag;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(etag: &ETag, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(etag)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ETag, D::Error> {
        String::deserialize(from)?.parse().map_err(|()| Error::custom("not an entity tag"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn listed(name: &str) -> Listed {
        let key = Key::new(name).unwrap();
        Listed { key, size_bytes: 1, etag: ETag([0; 16]), modified_ms: 0, version: Version(1) }
    }

    /// Lists a sorted set as a storage would.
    fn scan(keys: &BTreeSet<String>, request: &ListRequest) -> Page {
        let mut builder = PageBuilder::new(request);
        let mut at = request.start();
        while let Some(key) = keys.iter().find(|key| key.as_bytes() >= at.as_bytes()) {
            match builder.offer(listed(key)) {
                Step::Next => at = Bound::after_key(key),
                Step::Seek(bound) => at = bound,
                Step::Stop => break,
            }
        }
        builder.finish()
    }

    /// All pages of a listing over several nodes, one name after the other.
    fn all(nodes: &[BTreeSet<String>], mut request: ListRequest) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let pages = nodes.iter().map(|keys| scan(keys, &request)).collect();
            let page = merge(&request, pages);
            let mut part: Vec<_> = page.objects.iter().map(|o| o.key.to_string()).collect();
            part.extend(page.common_prefixes);
            part.sort();
            names.extend(part);
            match page.next {
                Some(next) => {
                    assert!(next > request.from, "no progress");
                    request.from = Bound::from_token(&next.to_token()).unwrap();
                }
                None => return names,
            }
        }
    }

    fn request(prefix: &str, delimiter: Option<&str>, keys_max: usize) -> ListRequest {
        let delimiter = delimiter.map(String::from);
        ListRequest { prefix: prefix.into(), delimiter, from: Bound::default(), keys_max }
    }

    #[test]
    fn a_delimiter_folds_directories() {
        let keys = ["a", "d/x", "d/y/z", "d/y/w", "e"].map(String::from);
        let nodes = [BTreeSet::from(keys)];
        assert_eq!(all(&nodes, request("", Some("/"), 10)), ["a", "d/", "e"]);
        assert_eq!(all(&nodes, request("d/", Some("/"), 1)), ["d/x", "d/y/"]);
        assert_eq!(all(&nodes, request("d", None, 2)), ["d/x", "d/y/w", "d/y/z"]);
    }

    #[test]
    fn a_page_survives_json() {
        let page = Page {
            objects: vec![listed("é")],
            common_prefixes: vec!["d/".into()],
            next: Some(Bound::after_prefix("d/")),
        };
        let text = serde_json::to_string(&page).unwrap();
        assert_eq!(serde_json::from_str::<Page>(&text).unwrap(), page);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for bad in ["6", "zz", "+1", "é"] {
            assert_eq!(Bound::from_token(bad), Err(TokenError), "{bad}");
        }
        assert_eq!(Bound::from_token(&"61".repeat(1026)), Err(TokenError));
    }

    proptest! {
        /// Whatever the pages and the nodes, a listing names what a listing in one piece names.
        #[test]
        fn pages_join_to_the_whole(
            keys in proptest::collection::btree_set("[ab/]{1,5}", 0..40),
            nodes in 1usize..4,
            prefix in "[ab/]{0,2}",
            folded in any::<bool>(),
            keys_max in 1usize..5,
        ) {
            let delimiter = folded.then_some("/");
            let mut parts = vec![BTreeSet::new(); nodes];
            for (index, key) in keys.iter().enumerate() {
                parts[index * 7 % nodes].insert(key.clone());
            }
            let expected: BTreeSet<String> = keys
                .iter()
                .filter(|key| key.starts_with(&prefix))
                .map(|key| match key[prefix.len()..].find('/').filter(|_| folded) {
                    Some(at) => key[..=prefix.len() + at].to_string(),
                    None => key.clone(),
                })
                .collect();
            let names = all(&parts, request(&prefix, delimiter, keys_max));
            prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
