//! Listings, merged from several storage nodes.

use super::*;
use crate::listing::{ListQuery, parse_partitions};
use ashlar_object::{
    ClusterMap, ETag, Version,
    list::{Bound, Listed, Page, PageBuilder, Step},
    map::Member,
};
use std::collections::BTreeSet;

const KEYS: usize = 300;

fn key(number: usize) -> Key {
    Key::new(&format!("dir{}/key {number:03}", number % 7)).unwrap()
}

/// Lists the keys of the wanted partitions as a storage node does.
fn list(nodes: usize, replicas: usize, seen: &Seen) -> Reply {
    let member = |number| Member { name: format!("s{number}"), weight: 1 };
    let map = ClusterMap::new("test", (0..nodes).map(member).collect(), replicas, 16).unwrap();
    let wanted = parse_partitions(seen.field("x-ashlar-partitions").unwrap(), 16).unwrap();
    let query = ListQuery::parse(seen.target.strip_prefix("/?").unwrap()).unwrap();
    let keys: BTreeSet<_> =
        (0..KEYS).map(key).filter(|key| wanted.contains(&map.partition_of(key))).collect();
    let mut builder = PageBuilder::new(&query.request);
    let mut at = query.request.start();
    while let Some(key) = keys.iter().find(|key| key.as_bytes() >= at.as_bytes()) {
        let listed = Listed {
            key: key.clone(),
            size_bytes: 1,
            etag: ETag([1; 16]),
            modified_ms: 0,
            version: Version(1),
        };
        match builder.offer(listed) {
            Step::Next => at = Bound::after_key(key.as_str()),
            Step::Seek(bound) => at = bound,
            Step::Stop => break,
        }
    }
    let json = serde_json::to_vec(&builder.finish()).unwrap();
    Reply::Whole(response(200, &[("content-type", "application/json")], &json))
}

/// Seven nodes, three replicas of everything.
fn stack() -> Stack {
    let nodes = (0..7).map(|_| FakeNode::start(|seen| list(7, 3, seen))).collect::<Vec<_>>();
    let config = config(&nodes, 3, "http = \"127.0.0.1:0\"", "");
    Stack::start(config, nodes)
}

/// All names of a listing, over all of its pages.
fn names(stack: &Stack, query: &str) -> Vec<String> {
    let mut client = stack.client();
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let response = client.get(&format!("/?{query}{token}"));
        assert_eq!(
            (response.status, response.field("content-type")),
            (200, Some("application/json"))
        );
        let page: Page = serde_json::from_slice(&response.body).unwrap();
        names.extend(page.objects.iter().map(|object| object.key.to_string()));
        names.extend(page.common_prefixes);
        match page.next {
            Some(next) => token = format!("&continuation-token={}", next.to_token()),
            None => return names,
        }
    }
}

fn all_names() -> Vec<String> {
    let mut names: Vec<_> = (0..KEYS).map(|number| key(number).to_string()).collect();
    names.sort();
    names
}

#[test]
fn pages_of_all_nodes_make_one_listing() {
    let stack = stack();
    assert_eq!(names(&stack, ""), all_names());
    assert_eq!(names(&stack, "max-keys=7"), all_names());
    let in_dir3: Vec<_> = all_names().into_iter().filter(|n| n.starts_with("dir3/")).collect();
    assert_eq!(names(&stack, "prefix=dir3%2F&max-keys=5"), in_dir3);
    let prefixes: Vec<_> = (0..7).map(|dir| format!("dir{dir}/")).collect();
    assert_eq!(names(&stack, "delimiter=/&max-keys=2"), prefixes);
}

#[test]
fn every_partition_is_asked_for_once() {
    let stack = stack();
    let response = stack.client().get("/");
    assert_eq!(response.status, 200);
    let mut asked: Vec<_> = stack
        .nodes
        .iter()
        .flat_map(FakeNode::seen)
        .flat_map(|seen| parse_partitions(seen.field("x-ashlar-partitions").unwrap(), 16).unwrap())
        .map(|partition| partition.0)
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, (0..16).collect::<Vec<_>>());
}

#[test]
fn another_replica_lists_what_a_failing_node_does_not() {
    let stack = stack();
    stack.nodes[0].play(|_| Reply::Whole(response(503, &[], b"")));
    stack.nodes[1].play(|_| Reply::Cut(Vec::new()));
    stack.nodes[2].play(|_| Reply::Whole(response(200, &[], b"no page")));
    // Three replicas, three bad nodes: a partition may be lost, but nothing is ever left out.
    let response = stack.client().get("/");
    if response.status == 200 {
        assert_eq!(names(&stack, ""), all_names());
    } else {
        assert_eq!(response.status, 503);
    }
    stack.nodes[2].play(|seen| list(7, 3, seen));
    assert_eq!(names(&stack, ""), all_names());
}

#[test]
fn a_node_that_is_slow_with_a_listing_stays_in_use() {
    // The second node lists what the first one does not in time.
    let stack = Stack::new(2, |node, seen| match node {
        _ if !seen.target.starts_with("/?") => answer_with_name(node, seen),
        0 => Reply::Silence,
        _ => list(2, 2, seen),
    });
    stack.wait_until_up();
    assert_eq!(stack.client().get("/").status, 200);
    assert_eq!(stack.count("storage_nodes_up"), 2);
    // Only the first one takes the writes that it heads.
    let key = (0..).map(|number| format!("key-{number}")).find(|key| stack.head_of(key) == 0);
    let response = stack.client().request("DELETE", &format!("/{}", key.unwrap()));
    assert_eq!((response.status, response.field("x-node")), (200, Some("0")));
}

#[test]
fn a_listing_without_all_partitions_is_refused() {
    let stack = Stack::new(2, |_, _| Reply::Whole(response(503, &[], b"")));
    let response = stack.client().get("/?prefix=a");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
}

#[test]
fn wrong_parameters_are_named() {
    let stack = stack();
    for (query, message) in [
        ("prefx=a", "unknown parameter \"prefx\" of a listing\n"),
        ("max-keys=1001", "max-keys must be 1 to 1000\n"),
        ("continuation-token=x", "the continuation token is malformed\n"),
    ] {
        let response = stack.client().get(&format!("/?{query}"));
        assert_eq!((response.status, response.text()), (400, message));
    }
    assert!(stack.nodes.iter().all(|node| node.seen().is_empty()));
}

#[test]
fn a_head_of_the_root_has_the_page_s_length() {
    let stack = stack();
    let mut client = stack.client();
    let length = client.get("/?max-keys=3").body.len();
    let head = client.request("HEAD", "/?max-keys=3");
    assert_eq!(head.field("content-length"), Some(&*length.to_string()));
    assert_eq!(client.get("/?max-keys=3").body.len(), length);
}
