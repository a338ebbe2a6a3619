//! A staged body is there as long as a version names it.

use crate::object::node::Node;
use ashlar_object::{StageId, Version};

/// The oracle's name.
pub(crate) const NAME: &str = "stored-bodies";

/// Checks that the node has the body of that version.
pub(crate) fn check(node: &Node, version: Version, stage: StageId) -> Result<(), String> {
    if node.bodies.current().contains(stage) {
        return Ok(());
    }
    Err(format!("the body {} of version {version} is not there", stage.0))
}
