//! The compiled kernel programs, as `build.rs` embedded them.

use crate::Error;
use ashlar_fastpath::{chaos, replication, steering};
use object::{Object as _, ObjectSection as _};

/// Where the object states the layout of the maps that its chaos programs share with user space.
const CHAOS_SCHEMA_SECTION: &str = "chaos_schema";

/// The same for its steering programs.
const STEERING_SCHEMA_SECTION: &str = "steering_schema";

/// The same for its replication programs.
const REPLICATION_SCHEMA_SECTION: &str = "replication_schema";

/// Empty when the programs were left out. Aligned, because the ELF reader looks at it in place.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ashlar.bpf.o"));

/// The object that holds the chaos programs, of the layout that this code was compiled with.
pub(crate) fn chaos() -> Result<&'static [u8], Error> {
    embedded(CHAOS_SCHEMA_SECTION, chaos::SCHEMA_VERSION)
}

/// The object that holds the steering programs, of the layout that this code was compiled with.
pub(crate) fn steering() -> Result<&'static [u8], Error> {
    embedded(STEERING_SCHEMA_SECTION, steering::SCHEMA_VERSION)
}

/// The object that holds the replication programs, of the layout that this code was compiled with.
pub(crate) fn replication() -> Result<&'static [u8], Error> {
    embedded(REPLICATION_SCHEMA_SECTION, replication::SCHEMA_VERSION)
}

fn embedded(schema_section: &str, version: u32) -> Result<&'static [u8], Error> {
    if EMBEDDED.is_empty() {
        return Err(Error::NotBuiltIn);
    }
    check_schema(EMBEDDED, schema_section, version)?;
    Ok(EMBEDDED)
}

fn check_schema(object: &[u8], schema_section: &str, version: u32) -> Result<(), Error> {
    let unusable = |reason: String| Error::UnusableObject { reason };
    let file = object::File::parse(object).map_err(|error| unusable(error.to_string()))?;
    let section = file
        .section_by_name(schema_section)
        .and_then(|section| section.data().ok())
        .ok_or_else(|| unusable(format!("no section {schema_section}")))?;
    if section == version.to_le_bytes() {
        return Ok(());
    }
    Err(unusable(format!("{schema_section}: expected {version}, found {section:?}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::probe::Feature;
    use crate::testing::ledger;

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        let error = check_schema(b"no object", CHAOS_SCHEMA_SECTION, 1).unwrap_err();
        assert!(matches!(error, Error::UnusableObject { .. }));
        assert!(error.to_string().contains("scripts/build-kernel-programs.sh"), "{error}");
    }

    #[test]
    fn an_object_of_another_schema_is_refused() {
        if !ledger("an_object_of_another_schema_is_refused", &[Feature::KernelPrograms]) {
            return;
        }
        for (section, version) in [
            (CHAOS_SCHEMA_SECTION, chaos::SCHEMA_VERSION),
            (STEERING_SCHEMA_SECTION, steering::SCHEMA_VERSION),
            (REPLICATION_SCHEMA_SECTION, replication::SCHEMA_VERSION),
        ] {
            check_schema(EMBEDDED, section, version).unwrap();
            let mut other = EMBEDDED.to_vec();
            let (offset, length) = {
                let file = object::File::parse(EMBEDDED).unwrap();
                file.section_by_name(section).unwrap().file_range().unwrap()
            };
            assert_eq!(length, 4);
            other[offset as usize] ^= 0x80;
            let error = check_schema(&other, section, version).unwrap_err();
            let expected = format!("{section}: expected {version}, found");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}
