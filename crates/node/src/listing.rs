//! How a listing is asked for: the query of `GET /`, and between front end and storage node the
//! partitions that are wanted.

use ashlar_object::{
    PartitionIndex,
    key::KEY_BYTES_MAX,
    list::{Bound, LIST_KEYS_MAX, ListRequest},
};
use http::HeaderName;

/// Tells a storage node which partitions to list: numbers and ranges such as `0-5,7`.
pub(crate) const PARTITIONS_HEADER: HeaderName = HeaderName::from_static("x-ashlar-partitions");

/// A listing as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// What to list.
    pub(crate) request: ListRequest,
}

impl ListQuery {
    /// Reads the query of a request for the root path.
    ///
    /// # Errors
    /// One line that names the parameter, when one is unknown or malformed.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut request = ListRequest {
            prefix: String::new(),
            delimiter: None,
            from: Bound::default(),
            keys_max: LIST_KEYS_MAX,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| format!("{name} is not UTF-8"))?;
            match name {
                "prefix" => request.prefix = value,
                "delimiter" => request.delimiter = Some(value).filter(|value| !value.is_empty()),
                "max-keys" => {
                    let parsed = value.parse().ok().filter(|n| (1..=LIST_KEYS_MAX).contains(n));
                    request.keys_max =
                        parsed.ok_or_else(|| format!("max-keys must be 1 to {LIST_KEYS_MAX}"))?;
                }
                "start-after" if value.len() > KEY_BYTES_MAX => {
                    return Err(format!("start-after exceeds {KEY_BYTES_MAX} bytes"));
                }
                "start-after" => request.from = request.from.max(Bound::after_key(&value)),
                "continuation-token" => {
                    let token = Bound::from_token(&value).map_err(|error| error.to_string())?;
                    request.from = request.from.max(token);
                }
                _ => return Err(format!("unknown parameter {name:?} of a listing")),
            }
        }
        Ok(Self { request })
    }

    /// The query that [`ListQuery::parse`] reads as this.
    pub(crate) fn to_query(&self) -> String {
        let request = &self.request;
        let mut query = format!("prefix={}&max-keys={}", encode(&request.prefix), request.keys_max);
        if let Some(delimiter) = &request.delimiter {
            query += &format!("&delimiter={}", encode(delimiter));
        }
        query + "&continuation-token=" + &request.from.to_token()
    }
}

/// Reads the value of [`PARTITIONS_HEADER`] for a cluster of that many partitions.
pub(crate) fn parse_partitions(value: &str, partitions: usize) -> Option<Vec<PartitionIndex>> {
    let mut wanted = Vec::new();
    for item in value.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || usize::from(last) >= partitions || wanted.len() > partitions {
            return None;
        }
        wanted.extend((first..=last).map(PartitionIndex));
    }
    Some(wanted)
}

/// The value of [`PARTITIONS_HEADER`] for partitions in ascending order.
pub(crate) fn format_partitions(partitions: &[PartitionIndex]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for partition in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == partition.0 => *last = partition.0,
            _ => ranges.push((partition.0, partition.0)),
        }
    }
    let text = |(first, last): (u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn encode(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// Form encoding: a plus is a space.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_query_survives_its_text_form() {
        let query =
            ListQuery::parse("prefix=a%2Fb+c&delimiter=%2F&max-keys=7&start-after=x").unwrap();
        assert_eq!(query.request.prefix, "a/b c");
        assert_eq!(query.request.from, Bound::after_key("x"));
        assert_eq!(ListQuery::parse(&query.to_query()).unwrap(), query);
        let default = ListQuery::parse("").unwrap();
        assert_eq!(default.request.keys_max, LIST_KEYS_MAX);
        assert_eq!(ListQuery::parse(&default.to_query()).unwrap(), default);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, error) in [
            ("prefx=a", "unknown parameter \"prefx\" of a listing"),
            ("max-keys=0", "max-keys must be 1 to 1000"),
            ("max-keys=x", "max-keys must be 1 to 1000"),
            ("prefix=%ff", "prefix is not UTF-8"),
            ("continuation-token=xyz", "the continuation token is malformed"),
        ] {
            assert_eq!(ListQuery::parse(query).unwrap_err(), error);
        }
        let long = "x".repeat(KEY_BYTES_MAX);
        let query = ListQuery::parse(&format!("start-after={long}")).unwrap();
        assert_eq!(ListQuery::parse(&query.to_query()).unwrap(), query);
        let error = ListQuery::parse(&format!("start-after={long}x")).unwrap_err();
        assert_eq!(error, "start-after exceeds 1024 bytes");
    }

    #[test]
    fn partitions_survive_their_text_form() {
        let partitions = [0, 1, 2, 5, 7, 8].map(PartitionIndex);
        assert_eq!(format_partitions(&partitions), "0-2,5,7-8");
        assert_eq!(parse_partitions("0-2,5,7-8", 9).unwrap(), partitions);
        for bad in ["", "9", "2-1", "a", "0-8,0-8,0-8", "-"] {
            assert_eq!(parse_partitions(bad, 9), None, "{bad}");
        }
    }
}
