//! Doors for the fuzzer into parsers that nothing outside of the crate calls.

use crate::{front_end, listing::ListQuery, serve};

/// A storage node's response, in two pieces: whatever the cut, the whole gives the same head.
///
/// # Panics
/// When it does not.
pub fn response_head(bytes: &[u8], cut: usize, to_head: bool) {
    front_end::fuzz_response_head(bytes, cut, to_head);
}

/// A client's simple request, in two pieces: whatever the cut, the whole gives the same request.
///
/// # Panics
/// When it does not.
pub fn simple_request(bytes: &[u8], cut: usize, limit_bytes: usize) {
    serve::fuzz_request(bytes, cut, limit_bytes);
}

/// The query of a listing and a Content-Range: refused, or the same when written again.
///
/// # Panics
/// When it is not.
pub fn text(text: &str) {
    if let Ok(query) = ListQuery::parse(text) {
        assert_eq!(ListQuery::parse(&query.to_query()), Ok(query));
    }
    if let Some((start, end)) = front_end::parse_content_range(text) {
        let last = end - 1;
        assert_eq!(
            front_end::parse_content_range(&format!("bytes {start}-{last}/*")),
            Some((start, end))
        );
    }
}
