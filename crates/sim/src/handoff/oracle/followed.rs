//! Steering delivers to whoever goes on with a connection.
//!
//! Unless it has lost the connection's entry meanwhile: by a restart, because a node was taken for dead, or because the client has
//! begun anew. Whoever goes on then is not heard, and the client resets.

/// The oracle's name.
pub(crate) const NAME: &str = "followed";

/// Somebody goes on at that epoch; the entry is the flow's, owner and epoch.
pub(crate) fn check(node: usize, epoch: u64, entry: Option<(usize, u64)>) -> Result<(), String> {
    match entry {
        Some((owner, at)) if (owner, at) == (node, epoch) => Ok(()),
        // A later connection of the same client.
        Some((_, at)) if at > epoch => Ok(()),
        Some((owner, at)) => {
            Err(format!("n{node} goes on at epoch {epoch}, steering follows n{owner} at {at}"))
        }
        None => Err(format!("n{node} goes on at epoch {epoch}, steering follows nobody")),
    }
}
