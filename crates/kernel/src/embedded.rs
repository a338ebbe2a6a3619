//! The compiled kernel programs, as `build.rs` embedded them.

use crate::Error;
use ashlar_fastpath::chaos::SCHEMA_VERSION;
use object::{Object as _, ObjectSection as _};

/// Where the chaos programs' object states the layout of the maps that it shares with user space.
const CHAOS_SCHEMA_SECTION: &str = "chaos_schema";

/// Empty when the programs were left out. Aligned, because the ELF reader looks at it in place.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ashlar.bpf.o"));

/// The object that holds the chaos programs, of the layout that this code was compiled with.
pub(crate) fn chaos() -> Result<&'static [u8], Error> {
    if EMBEDDED.is_empty() {
        return Err(Error::NotBuiltIn);
    }
    check_chaos_schema(EMBEDDED)?;
    Ok(EMBEDDED)
}

fn check_chaos_schema(object: &[u8]) -> Result<(), Error> {
    let unusable = |reason: String| Error::UnusableObject { reason };
    let file = object::File::parse(object).map_err(|error| unusable(error.to_string()))?;
    let section = file
        .section_by_name(CHAOS_SCHEMA_SECTION)
        .and_then(|section| section.data().ok())
        .ok_or_else(|| unusable(format!("no section {CHAOS_SCHEMA_SECTION}")))?;
    let version = <[u8; 4]>::try_from(section).map(u32::from_le_bytes);
    match version {
        Ok(SCHEMA_VERSION) => Ok(()),
        _ => Err(unusable(format!(
            "{CHAOS_SCHEMA_SECTION}: expected {SCHEMA_VERSION}, found {section:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::probe::Feature;
    use crate::testing::ledger;

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        let error = check_chaos_schema(b"no object").unwrap_err();
        assert!(matches!(error, Error::UnusableObject { .. }));
        assert!(error.to_string().contains("scripts/build-kernel-programs.sh"), "{error}");
    }

    #[test]
    fn an_object_of_another_schema_is_refused() {
        if !ledger("an_object_of_another_schema_is_refused", &[Feature::KernelPrograms]) {
            return;
        }
        check_chaos_schema(EMBEDDED).unwrap();
        let mut other = EMBEDDED.to_vec();
        let (offset, length) = {
            let file = object::File::parse(EMBEDDED).unwrap();
            file.section_by_name(CHAOS_SCHEMA_SECTION).unwrap().file_range().unwrap()
        };
        assert_eq!(length, 4);
        other[offset as usize] ^= 0x80;
        let error = check_chaos_schema(&other).unwrap_err();
        assert!(error.to_string().contains("chaos_schema: expected 1, found"), "{error}");
    }
}
