//! The kinds of load under which subjects are compared.

use crate::units::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How clients speak to the front end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// A text that names no scheme.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scheme: http or https")]
pub struct NotAScheme(String);

impl FromStr for Scheme {
    type Err = NotAScheme;

    fn from_str(text: &str) -> Result<Self, NotAScheme> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(NotAScheme(text.to_owned())),
        }
    }
}

/// One kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Case {
    /// How clients connect.
    pub scheme: Scheme,
    /// What they ask for.
    pub size: ByteSize,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.scheme, self.size)
    }
}

/// Every size over every scheme.
pub(crate) fn cases(schemes: &[Scheme], sizes: &[ByteSize]) -> Vec<Case> {
    let pairs = schemes.iter().flat_map(|scheme| sizes.iter().map(|size| (*scheme, *size)));
    pairs.map(|(scheme, size)| Case { scheme, size }).collect()
}
