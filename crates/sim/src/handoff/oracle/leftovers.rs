//! In the end no socket, move or entry is left.

use crate::handoff::host::Node;

/// The oracle's name.
pub(crate) const NAME: &str = "leftovers";

/// What a node still has, if anything.
pub(crate) fn at_node(place: usize, node: &Node) -> Option<String> {
    let counts = [
        ("sockets", node.sockets.len()),
        ("connections", node.served.len()),
        ("departures", node.departures.len()),
        ("arrivals", node.arrivals.len()),
        ("lingering sockets", node.lingering.len()),
        ("questions to steering", node.asks.len()),
    ];
    let (what, count) = counts.into_iter().find(|(_, count)| *count > 0)?;
    Some(format!("n{place} has {count} {what}"))
}
