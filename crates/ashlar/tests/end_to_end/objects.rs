//! PUT, GET, HEAD and DELETE by curl.

use crate::harness::{Store, content, tag};

#[test]
fn an_object_lives_from_its_creation_to_its_deletion() {
    let store = Store::start();
    assert_eq!(store.curl("/a").run().status, 404);

    let created = store.curl("/a").put("first").run();
    assert_eq!((created.status, created.field("etag")), (201, &*tag(b"first")));
    assert_eq!(store.curl("/a").run().text(), "first");

    let replaced = store.curl("/a").put("second").run();
    assert_eq!((replaced.status, replaced.field("etag")), (200, &*tag(b"second")));
    let version = |field: &str| field.parse::<u64>().unwrap();
    let versions = [created.field("x-ashlar-version"), replaced.field("x-ashlar-version")];
    assert!(version(versions[0]) < version(versions[1]), "{versions:?}");

    let got = store.curl("/a").run();
    assert_eq!((got.status, &*got.text()), (200, "second"));
    assert_eq!(got.field("x-ashlar-version"), versions[1]);

    assert_eq!(store.curl("/a").method("DELETE").run().status, 204);
    assert_eq!(store.curl("/a").run().status, 404);
    assert_eq!(store.curl("/a").method("DELETE").run().status, 404);
}

#[test]
fn objects_of_every_size_come_back_as_they_were() {
    let store = Store::start();
    // Around the size from which bodies are kept in files.
    for size in [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 1 << 20, 5_000_001] {
        let bytes = content(size as u64, size);
        let path = format!("/size/{size}");
        assert_eq!(store.curl(&path).put(bytes.clone()).run().status, 201);
        let got = store.curl(&path).run();
        assert_eq!(got.field("etag"), tag(&bytes), "{size}");
        assert_eq!(got.field("content-length"), size.to_string());
        assert!(got.body == bytes, "{size}");
    }
}

#[test]
fn a_head_is_the_get_without_its_body() {
    let store = Store::start();
    let put = store.curl("/a").put("abc").header("Content-Type: text/plain");
    assert_eq!(put.header("x-amz-meta-author: me").run().status, 201);
    let (get, head) = (store.curl("/a").run(), store.curl("/a").head().run());
    assert_eq!((head.status, head.body.len(), get.body.len()), (200, 0, 3));
    for name in [
        "content-length",
        "content-type",
        "etag",
        "last-modified",
        "accept-ranges",
        "x-ashlar-version",
        "x-amz-meta-author",
    ] {
        assert_ne!(get.field(name), "", "{name}");
        assert_eq!(get.field(name), head.field(name), "{name}");
    }
    assert_eq!(store.curl("/b").head().run().status, 404);
}

#[test]
fn what_the_writer_says_of_an_object_is_what_readers_are_told() {
    let store = Store::start();
    let put = store.curl("/a").put("{}").header("Content-Type: application/json");
    let put = put.header("X-Amz-Meta-Author: me").header("x-amz-meta-empty;");
    assert_eq!(put.run().status, 201);
    let got = store.curl("/a").run();
    assert_eq!(got.field("content-type"), "application/json");
    assert_eq!(got.field("x-amz-meta-author"), "me");
    assert!(got.fields.contains(&("x-amz-meta-empty".into(), String::new())));

    assert_eq!(store.curl("/a").put("{}").run().status, 200);
    let got = store.curl("/a").run();
    assert_eq!(got.field("content-type"), "application/octet-stream");
    assert_eq!(got.field("x-amz-meta-author"), "", "it belonged to the former object");
}

#[test]
fn the_whole_path_is_the_key() {
    let store = Store::start();
    let longest = format!("/{}", "k".repeat(1024));
    let paths = ["/a", "/a/", "/a/b", "//a", "/a//b", "/a/../b", "/%C3%A9%20%2F?", "/A", &longest];
    for path in paths {
        let put = store.curl(path).put(path).run();
        assert_eq!(put.status, 201, "{path}: {}", put.text());
    }
    for path in paths {
        assert_eq!(store.curl(path).run().text(), path);
    }
    // An encoded slash is a slash, and a query is no part of the key.
    assert_eq!(store.curl("/%61%2fb?x=y").run().text(), "/a/b");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_line_that_says_why() {
    let store = Store::start();
    let too_long = format!("/{}", "k".repeat(1025));
    for (path, word) in [("/%00", "NUL"), ("/%ff", "UTF-8"), (&*too_long, "1024"), ("/", "empty")] {
        let refused = store.curl(path).put("x").run();
        assert_eq!(refused.status, 400, "{path}");
        let text = refused.text();
        assert!(text.contains(word) && text.lines().count() == 1, "{path}: {text:?}");
    }
    for method in ["POST", "PATCH", "TRACE", "BREW"] {
        let refused = store.curl("/a").method(method).run();
        assert_eq!(refused.status, 405, "{method}");
        assert!(refused.field("allow").contains("GET, HEAD, PUT, DELETE"), "{method}");
    }
    for (field, word) in [
        (format!("x-amz-meta-a: {}", "v".repeat(2048)), "2048"),
        (format!("Content-Type: text/{}", "x".repeat(256)), "Content-Type"),
        ("Content-MD5: nonsense".into(), "Content-MD5"),
        ("If-Match: nonsense".into(), "If-Match"),
    ] {
        let refused = store.curl("/a").put("x").header(&field).run();
        assert_eq!(refused.status, 400, "{field}");
        assert!(refused.text().contains(word), "{field}: {}", refused.text());
    }
    assert_eq!(store.curl("/a").run().status, 404, "nothing was written");
}

#[test]
fn a_body_that_does_not_fit_its_md5_is_not_stored() {
    let store = Store::start();
    let large = content(1, 100_000);
    for body in [b"foo".to_vec(), large] {
        // `printf bar | openssl md5 -binary | base64`
        let wrong = store.curl("/a").put(body).header("Content-MD5: N7UdGUp1E+RbVvZSTy1R8g==");
        assert_eq!(wrong.run().status, 400);
        assert_eq!(store.curl("/a").run().status, 404);
    }
    let right = store.curl("/a").put("bar").header("Content-MD5: N7UdGUp1E+RbVvZSTy1R8g==");
    assert_eq!(right.run().status, 201);
}
