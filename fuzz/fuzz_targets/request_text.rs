//! What a client writes into paths and header fields: parsed or refused, never a panic, and what
//! was parsed means the same when it is written again.
#![no_main]

use ashlar_object::{
    ETag, Key,
    condition::TagList,
    list::Bound,
    range::{RangeVerdict, select},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u64)| {
    let (text, size_bytes) = input;
    if let Ok(key) = Key::from_path(text) {
        assert_eq!(Key::from_path(&key.to_path()), Ok(key));
    }
    if let RangeVerdict::Part(part) = select(Some(text), size_bytes) {
        assert!(part.start < part.end && part.end <= size_bytes);
    }
    if let Ok(bound) = Bound::from_token(text) {
        assert_eq!(Bound::from_token(&bound.to_token()), Ok(bound));
    }
    if let Ok(etag) = text.parse::<ETag>() {
        assert!(etag.to_string().eq_ignore_ascii_case(text));
    }
    let _ = TagList::parse(text);
});
