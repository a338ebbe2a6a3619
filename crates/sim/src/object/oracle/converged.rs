//! Without faults all replicas come to hold the same, and nothing superseded.

use crate::object::{node::Node, storage::Partition};

/// The oracle's name.
pub(crate) const NAME: &str = "converged";

/// Compares the replicas of a chain, head first.
pub(crate) fn check<'a>(
    partition: usize,
    mut nodes: impl Iterator<Item = (usize, &'a Node)>,
) -> Result<(), String> {
    let (first, head) = nodes.next().expect("a chain has a head");
    let expected = head.database.current().partition(partition);
    clean(head, expected).map_err(|text| format!("p{partition} at n{first}: {text}"))?;
    for (name, node) in nodes {
        let held = node.database.current().partition(partition);
        let place = |text: &str| format!("p{partition} at n{name}: {text}");
        clean(node, held).map_err(|text| place(&text))?;
        if held.applied != expected.applied || held.keys != expected.keys {
            return Err(place("holds something else than the head"));
        }
    }
    Ok(())
}

/// Every key has one version, an object, whose body is there; nothing waits.
fn clean(node: &Node, held: &Partition) -> Result<(), String> {
    if held.released != held.applied || !held.window.is_empty() {
        let (released, applied) = (held.released, held.applied);
        return Err(format!("released {released} of {applied}"));
    }
    for (key, versions) in &held.keys {
        let [stored] = versions.as_slice() else {
            return Err(format!("{key} has {} versions", versions.len()));
        };
        if stored.operation.change.meta().is_none() {
            return Err(format!("{key} is deleted and still stored"));
        }
        if let Some(stage) = stored.stage() {
            super::stored_bodies::check(node, stored.version, stage)?;
        }
    }
    Ok(())
}
