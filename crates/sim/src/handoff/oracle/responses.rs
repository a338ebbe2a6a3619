//! Every byte that a client gets is the right one of the right answer: none wrong, missing or repeated.

use crate::handoff::request::Request;

/// The oracle's name.
pub(crate) const NAME: &str = "responses";

/// The byte at that place of the answer that the client waits for.
pub(crate) fn check(waits_for: Option<&Request>, offset: u32, byte: u8) -> Result<(), String> {
    let Some(request) = waits_for else {
        return Err(format!("gets {byte:#04x}, which it has not asked for"));
    };
    let expected = request.response_byte(offset);
    if byte != expected {
        let number = request.number;
        return Err(format!(
            "byte {offset} of answer {number} is {byte:#04x}, not {expected:#04x}"
        ));
    }
    Ok(())
}
