//! Parts of objects (RFC 9110, section 14).

use crate::harness::{Store, content};
use std::ops::Range;

/// One size below and one above that from which bodies are kept in files.
const SIZES: [usize; 2] = [1000, 1_000_000];

#[test]
fn a_range_is_that_part_of_the_object() {
    let store = Store::start();
    for size in SIZES {
        let bytes = content(2, size);
        store.curl("/a").put(bytes.clone()).run();
        let parts: [(&str, Range<usize>); 6] = [
            ("0-0", 0..1),
            ("10-99", 10..100),
            ("990-", 990..size),
            ("-10", size - 10..size),
            ("-99999999", 0..size),
            ("5-99999999999999999999", 5..size),
        ];
        for (range, part) in parts {
            let got = store.curl("/a").header(&format!("Range: bytes={range}")).run();
            assert_eq!(got.status, 206, "{range}");
            let field = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            assert_eq!(got.field("content-range"), field);
            assert_eq!(got.field("content-length"), part.len().to_string());
            assert!(got.body == bytes[part], "{range} of {size}");
        }
    }
}

#[test]
fn a_range_behind_the_end_says_where_that_is() {
    let store = Store::start();
    store.curl("/a").put("0123456789").run();
    store.curl("/empty").put("").run();
    for (path, range, size) in [("/a", "10-", 10), ("/a", "-0", 10), ("/empty", "0-", 0)] {
        let got = store.curl(path).header(&format!("Range: bytes={range}")).run();
        assert_eq!(got.status, 416, "{range}");
        assert_eq!(got.field("content-range"), format!("bytes */{size}"));
    }
}

#[test]
fn what_is_not_one_range_of_bytes_gives_the_whole_object() {
    let store = Store::start();
    store.curl("/a").put("0123456789").run();
    for range in ["bytes=5-4", "bytes=0-1,3-4", "bytes=x-", "lines=0-1", "bytes"] {
        let got = store.curl("/a").header(&format!("Range: {range}")).run();
        assert_eq!((got.status, &*got.text()), (200, "0123456789"), "{range}");
    }
    let head = store.curl("/a").head().header("Range: bytes=0-1").run();
    assert_eq!((head.status, head.field("content-length")), (200, "10"));
}

#[test]
fn a_part_is_only_sent_of_the_object_that_the_client_knows() {
    let store = Store::start();
    let etag = store.curl("/a").put("0123456789").run().field("etag").to_string();
    let modified = store.curl("/a").run().field("last-modified").to_string();
    let part = |validator: &str| {
        let get = store.curl("/a").header("Range: bytes=0-1");
        get.header(&format!("If-Range: {validator}")).run()
    };
    // Another object may have been written within the same second.
    assert_eq!((part(&etag).status, part(&modified).status), (206, 200));
    store.curl("/a").put("abcdefghij").run();
    assert_eq!((part(&etag).status, &*part(&etag).text()), (200, "abcdefghij"));
}
