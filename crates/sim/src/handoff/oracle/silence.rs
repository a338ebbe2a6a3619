//! Hosts are silent when they must be, and only then: only a socket in repair mode is closed without a
//! word, because somebody else has its connection; and nothing that was steered to a former owner before the
//! connection left is answered with a reset.

/// The oracle's name.
pub(crate) const NAME: &str = "silence";

/// A socket was closed silently.
pub(crate) fn check(node: usize, flow: usize, was_mute: bool) -> Result<(), String> {
    match was_mute {
        true => Ok(()),
        false => Err(format!("n{node} lets its living connection of c{flow} vanish")),
    }
}

/// A host without a socket of the flow resets its client; one should have been there until then.
pub(crate) fn reset(
    node: usize,
    flow: usize,
    now_us: u64,
    until_us: Option<u64>,
) -> Result<(), String> {
    match until_us {
        Some(until_us) if now_us < until_us => {
            Err(format!("n{node} resets c{flow}, whose connection has just left"))
        }
        _ => Ok(()),
    }
}
