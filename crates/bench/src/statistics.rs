//! What is quoted of a handful of rounds: the median, and the two extremes beside it.

use serde::{Deserialize, Serialize};

/// Median, least and greatest of the values of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Summary {
    /// The middle value; the mean of the two middle ones if their number is even.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// How many rounds the values come from.
    pub rounds: usize,
}

impl Summary {
    /// Summarises `values`, one a round; `None` without a round or with a value that is not finite
    /// (a ratio over zero): no figure is better than a wrong one.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min: sorted[0], max: sorted[sorted.len() - 1], rounds: sorted.len() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_odd_number_of_rounds_has_a_middle_one() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { median: 2.0, min: 1.0, max: 3.0, rounds: 3 });
    }

    #[test]
    fn an_even_number_of_rounds_takes_the_mean_of_the_middle_two() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 100.0]).unwrap();
        assert_eq!(summary.median, 3.5);
        assert_eq!((summary.min, summary.max, summary.rounds), (1.0, 100.0, 4));
    }

    #[test]
    fn one_round_is_its_own_summary() {
        let summary = Summary::of(&[0.5]).unwrap();
        assert_eq!((summary.median, summary.min, summary.max), (0.5, 0.5, 0.5));
    }

    #[test]
    fn nothing_and_infinities_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::INFINITY]), None);
        assert_eq!(Summary::of(&[f64::NAN]), None);
    }
}
