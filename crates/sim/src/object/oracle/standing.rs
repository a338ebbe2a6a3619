//! Only a replica whose disk was lost takes itself for lost.

use ashlar_object::chain::Standing;

/// The oracle's name.
pub(crate) const NAME: &str = "standing";

/// Checks a replica's new standing.
pub(crate) fn check(standing: Standing, was_wiped: bool) -> Result<(), String> {
    match standing {
        Standing::Lost if !was_wiped => Err("takes itself for lost, its disk was kept".to_owned()),
        _ => Ok(()),
    }
}
