//! From which object size on one subject is ahead of another.

use super::{Outcome, Scheme};
use crate::experiment;
use crate::units::ByteSize;
use serde::{Deserialize, Serialize};

/// From which size on a subject is ahead of another over one scheme.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BreakEvenEntry {
    /// Who is ahead of it.
    pub subject: String,
    /// Who is behind from there on.
    pub over: String,
    /// How the generator connected.
    pub scheme: Scheme,
    /// Where it lies.
    pub at: BreakEven,
}

/// Where a break-even lies among the sizes that were measured.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakEven {
    /// The subject is ahead from the smallest size on, given here.
    BelowBytes(ByteSize),
    /// It is ahead from about here on: between two sizes, interpolated.
    Bytes(ByteSize),
    /// It is not ahead at the largest size, given here.
    AboveBytes(ByteSize),
}

impl BreakEven {
    /// Finds it from the ratios of rates at growing sizes: where the ratio passes 1 for the last
    /// time. Between two sizes, the logarithm of the ratio is taken to grow evenly with the
    /// logarithm of the size. `None` without ratios.
    fn of(ratios: &[(ByteSize, f64)]) -> Option<Self> {
        let (smallest, (largest, last)) = (ratios.first()?.0, *ratios.last()?);
        if last < 1.0 {
            return Some(Self::AboveBytes(largest));
        }
        let Some(behind) = ratios.iter().rposition(|(_, ratio)| *ratio < 1.0) else {
            return Some(Self::BelowBytes(smallest));
        };
        let ((below, low), (above, high)) = (ratios[behind], ratios[behind + 1]);
        let share = -low.ln() / (high.ln() - low.ln());
        let growth = above.bytes() as f64 / below.bytes().max(1) as f64;
        let bytes = below.bytes().max(1) as f64 * growth.powf(share);
        Some(Self::Bytes(ByteSize(bytes.round() as u64)))
    }

    /// In words.
    pub(crate) fn text(self) -> String {
        match self {
            Self::BelowBytes(size) => format!("below {size}"),
            Self::Bytes(size) => format!("{} bytes", size.bytes()),
            Self::AboveBytes(size) => format!("above {size}"),
        }
    }
}

/// From which size on `subject` answers more requests each second than `over`, by scheme. Needs at
/// least one size; nothing where one of the two was not measured.
pub(crate) fn break_even(outcome: &Outcome, subject: &str, over: &str) -> Vec<BreakEvenEntry> {
    let place = |wanted: &str| outcome.subjects.iter().position(|name| *name == wanted);
    let (Some(above), Some(below)) = (place(subject), place(over)) else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    for scheme in [Scheme::Http, Scheme::Https] {
        let cases = outcome.cases.iter().enumerate().filter(|(_, case)| case.scheme == scheme);
        let mut ratios: Vec<(ByteSize, f64)> = cases
            .filter_map(|(index, case)| {
                let rate = |measured: &super::Measurement| Some(measured.load.bytes_per_second);
                let ratio = experiment::ratio(&outcome.samples, (above, below), index, rate)?;
                Some((case.size, ratio.median))
            })
            .collect();
        ratios.sort_by_key(|(size, _)| *size);
        if let Some(at) = BreakEven::of(&ratios) {
            let (subject, over) = (subject.to_owned(), over.to_owned());
            entries.push(BreakEvenEntry { subject, over, scheme, at });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ratios: &[(u64, f64)]) -> Option<BreakEven> {
        let ratios: Vec<_> = ratios.iter().map(|(size, ratio)| (ByteSize(*size), *ratio)).collect();
        BreakEven::of(&ratios)
    }

    #[test]
    fn it_lies_between_the_sizes_where_the_ratio_passes_one() {
        // Half way on both logarithmic scales.
        assert_eq!(at(&[(100, 0.5), (10_000, 2.0)]), Some(BreakEven::Bytes(ByteSize(1_000))));
        let late = at(&[(1, 0.1), (100, 0.25), (10_000, 4.0), (20_000, 8.0)]);
        assert_eq!(late, Some(BreakEven::Bytes(ByteSize(1_000))));
    }

    #[test]
    fn an_early_lead_that_is_lost_again_does_not_count() {
        let at = at(&[(1, 2.0), (100, 0.5), (10_000, 2.0)]);
        assert_eq!(at, Some(BreakEven::Bytes(ByteSize(1_000))));
    }

    #[test]
    fn it_may_lie_outside_of_what_was_measured() {
        assert_eq!(at(&[(64, 1.5), (128, 2.0)]), Some(BreakEven::BelowBytes(ByteSize(64))));
        assert_eq!(at(&[(64, 0.1), (128, 0.9)]), Some(BreakEven::AboveBytes(ByteSize(128))));
        assert_eq!(at(&[]), None);
    }
}
