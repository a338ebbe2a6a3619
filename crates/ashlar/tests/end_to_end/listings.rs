//! Listings by curl.

use crate::harness::Store;
use serde_json::Value;

fn keys(page: &Value) -> Vec<&str> {
    let objects = page["objects"].as_array().expect("objects");
    objects.iter().map(|object| object["key"].as_str().unwrap()).collect()
}

fn prefixes(page: &Value) -> Vec<&str> {
    let prefixes = page["common_prefixes"].as_array().expect("common prefixes");
    prefixes.iter().map(|prefix| prefix.as_str().unwrap()).collect()
}

fn store_with(paths: &[&str]) -> Store {
    let store = Store::start();
    for path in paths {
        assert_eq!(store.curl(path).put(*path).run().status, 201);
    }
    store
}

#[test]
fn a_listing_names_what_is_there_in_order() {
    let store = store_with(&["/b", "/a/2", "/a/1", "/c", "/%C3%A9", "/a%20b"]);
    store.curl("/c").method("DELETE").run();
    let reply = store.curl("/").run();
    assert_eq!((reply.status, reply.field("content-type")), (200, "application/json"));
    assert_eq!(keys(&reply.json()), ["a b", "a/1", "a/2", "b", "é"]);
    let head = store.curl("/b").head().run();
    let listed = &reply.json()["objects"][3];
    assert_eq!(listed["size_bytes"].to_string(), head.field("content-length"));
    assert_eq!(listed["etag"], head.field("etag"));
    assert_eq!(listed["version"].to_string(), head.field("x-ashlar-version"));
    assert!(listed["modified_ms"].as_u64().unwrap() > 0);
}

#[test]
fn a_delimiter_folds_keys_like_directories() {
    let store = store_with(&["/a/1", "/a/b/2", "/a/b/3", "/a/c/4", "/d"]);
    let page = store.curl("/?delimiter=/").run().json();
    assert_eq!((keys(&page), prefixes(&page)), (vec!["d"], vec!["a/"]));
    let page = store.curl("/?prefix=a/&delimiter=/").run().json();
    assert_eq!((keys(&page), prefixes(&page)), (vec!["a/1"], vec!["a/b/", "a/c/"]));
    let page = store.curl("/?prefix=a%2Fb").run().json();
    assert_eq!((keys(&page), prefixes(&page)), (vec!["a/b/2", "a/b/3"], vec![]));
    let page = store.curl("/?prefix=nothing").run().json();
    assert_eq!((keys(&page), prefixes(&page)), (vec![], vec![]));
}

#[test]
fn pages_continue_one_another() {
    let names: Vec<String> = (0..25).map(|number| format!("/page/{number:02}")).collect();
    let store = store_with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut all: Vec<String> = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/?prefix=page/&max-keys=10&continuation-token={token}");
        let page = store.curl(&path).run().json();
        assert!(keys(&page).len() <= 10);
        all.extend(keys(&page).iter().map(|key| format!("/{key}")));
        match page["next_continuation_token"].as_str() {
            Some(next) => token = next.to_string(),
            None => break,
        }
    }
    assert_eq!(all, names);
    let page = store.curl("/?start-after=page/22").run().json();
    assert_eq!(keys(&page), ["page/23", "page/24"]);
}

#[test]
fn a_wrong_parameter_is_named() {
    let store = Store::start();
    for (query, word) in [
        ("max-keys=0", "max-keys"),
        ("max-keys=1001", "max-keys"),
        ("prefix=%ff", "prefix"),
        ("continuation-token=x", "continuation token"),
        ("prefx=a", "prefx"),
    ] {
        let refused = store.curl(&format!("/?{query}")).run();
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().contains(word), "{query}: {}", refused.text());
    }
}
