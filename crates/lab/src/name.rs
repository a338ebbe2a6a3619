//! The name of a lab, checked once.

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name: `ashlar-NAME-HOST` stays readable in `ip netns list` and in a prompt.
const NAME_BYTES_MAX: usize = 12;

/// The prefix of every network namespace that a lab makes.
const NAMESPACE_PREFIX: &str = "ashlar-";

/// The name of a lab: 1 to 12 characters out of `a-z`, `0-9` and `-`, not beginning with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The network namespace of one host of this lab.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{NAMESPACE_PREFIX}{}-{host}", self.0)
    }

    /// The lab that a network namespace belongs to, if it is one of a lab.
    ///
    /// A host's name has no `-`, so the last one ends the lab's name.
    pub(crate) fn of_namespace(namespace: &str) -> Option<Self> {
        let (name, host) = namespace.strip_prefix(NAMESPACE_PREFIX)?.rsplit_once('-')?;
        let known_host = matches!(host, "client" | "fe" | "switch")
            || host.strip_prefix('s').is_some_and(|number| number.parse::<u8>().is_ok());
        known_host.then(|| name.parse().ok()).flatten()
    }
}

impl FromStr for LabName {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let characters_fit = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if text.is_empty()
            || text.len() > NAME_BYTES_MAX
            || !characters_fit
            || text.starts_with('-')
        {
            return Err(LabError::BadValue {
                field: "name",
                reason: format!(
                    "{text:?} is not 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and -, beginning with a letter or a digit"
                ),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LabName {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn names_that_fit_into_a_namespace_are_accepted() {
        for name in ["lab", "a", "bench-1", "0", "twelve-chars"] {
            assert_eq!(name.parse::<LabName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_escape_a_path_or_look_like_an_option_are_refused() {
        for name in ["", "Lab", "a/b", "..", "-x", "thirteen-char", "a b", "é"] {
            let error = name.parse::<LabName>().unwrap_err().to_string();
            assert!(error.starts_with("name: "), "{error}");
        }
    }

    #[test]
    fn a_namespace_names_its_lab_even_when_the_name_has_hyphens() {
        let name: LabName = "a-b-c".parse().unwrap();
        for host in ["client", "fe", "s1", "s12", "switch"] {
            assert_eq!(LabName::of_namespace(&name.namespace(host)), Some(name.clone()));
        }
        for foreign in ["ashlar-x", "ashlar-x-sun", "other-x-fe", "ashlar--fe", "ashlar-x-s999"] {
            assert_eq!(LabName::of_namespace(foreign), None, "{foreign}");
        }
    }
}
