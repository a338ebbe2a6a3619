//! One socket of a connection may speak, at most.

/// The oracle's name.
pub(crate) const NAME: &str = "owners";

/// The nodes with a socket of the connection that is not in repair mode.
pub(crate) fn check(connection: usize, owners: &[usize]) -> Result<(), String> {
    match owners {
        [] | [_] => Ok(()),
        owners => Err(format!("connection {connection} has sockets that speak at {owners:?}")),
    }
}
