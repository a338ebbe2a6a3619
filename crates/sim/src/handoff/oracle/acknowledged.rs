//! What was acknowledged to a client is at its connection's owner: the client never sends it again.

use crate::handoff::tcp::{Segment, after};

/// The oracle's name.
pub(crate) const NAME: &str = "acknowledged";

/// The client has been told that everything before `acknowledged` arrived; the owner has everything
/// before `received`.
pub(crate) fn check(acknowledged: u32, received: u32) -> Result<(), String> {
    if after(acknowledged, received) {
        let missing = acknowledged.wrapping_sub(received);
        return Err(format!("{missing} bytes are missing that the client will not send again"));
    }
    Ok(())
}

/// A frozen socket is closed that has received so many bytes since its connection's export: whoever has the connection
/// now must have heard of them.
pub(crate) fn told(late_bytes: usize, told_bytes: usize) -> Result<(), String> {
    if late_bytes > told_bytes {
        return Err("nobody is told of bytes behind the image".to_owned());
    }
    Ok(())
}

/// What an imported socket sends before it may speak: it acknowledges nothing that the old owner, which may
/// take the connection back, does not have.
pub(crate) fn while_mute(imported_at: Option<u32>, segments: &[Segment]) -> Result<(), String> {
    let Some(received) = imported_at else { return Ok(()) };
    let mut acknowledgements = segments.iter().filter_map(|segment| segment.acknowledgement);
    match acknowledgements.find(|acknowledged| after(*acknowledged, received)) {
        Some(_) => Err("a mute socket acknowledges what the old owner does not have".to_owned()),
        None => Ok(()),
    }
}
