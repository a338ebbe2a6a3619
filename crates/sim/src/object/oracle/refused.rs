//! A write that was refused or failed is never persisted nor seen.

use crate::{linearizability::register::Value, object::write::value_of};
use ashlar_object::Entry;
use std::collections::BTreeMap;

/// The oracle's name.
pub(crate) const NAME: &str = "refused";

/// What has become of values.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    fates: BTreeMap<Value, Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Persisted,
    Refused,
}

impl Refused {
    /// A replica persists an entry.
    pub(crate) fn persisted(&mut self, entry: &Entry) -> Result<(), String> {
        let Some(value) = value_of(&entry.operation.change) else {
            return Ok(());
        };
        match self.fates.insert(value, Fate::Persisted) {
            Some(Fate::Refused) => Err(format!("{value} was refused and is persisted")),
            _ => Ok(()),
        }
    }

    /// A client is told that its write has no effect.
    pub(crate) fn refused(&mut self, value: Value) -> Result<(), String> {
        match self.fates.insert(value, Fate::Refused) {
            Some(Fate::Persisted) => Err(format!("{value} was persisted and is refused")),
            _ => Ok(()),
        }
    }

    /// A client sees a value.
    pub(crate) fn seen(&self, value: Option<Value>) -> Result<(), String> {
        match value {
            Some(value) if self.fates.get(&value) == Some(&Fate::Refused) => {
                Err(format!("{value} was refused and is seen"))
            }
            _ => Ok(()),
        }
    }
}
