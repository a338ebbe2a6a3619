//! An entry at steering is made by the owner that unknown flows' frames come to, for a connection that is alive
//! there, and by one datagram: claims make none.

/// The oracle's name.
pub(crate) const NAME: &str = "introduced";

/// An introduction was sent once more; the lives of steering's table that it was ever sent to, or 0 where that
/// was not known. A request of another life is never followed.
pub(crate) fn once(incarnations: &[u64]) -> Result<(), String> {
    let (last, before) = incarnations.split_last().expect("it was sent");
    match *last != 0 && before.contains(last) {
        true => Err("introduces a connection twice".to_owned()),
        false => Ok(()),
    }
}

/// A node has made an entry; its socket of the flow may be frozen.
pub(crate) fn entry(node: usize, flow: usize, is_frozen: bool) -> Result<(), String> {
    match (node, is_frozen) {
        (0, false) => Ok(()),
        (0, true) => Err(format!("an entry of c{flow} is made while its connection moves")),
        (node, _) => Err(format!("n{node} makes an entry of c{flow}, whose frames come to n0")),
    }
}
