//! Rounds that alternate between subjects, and the ratios between them.
//!
//! A shared machine is faster at one moment than at another. So subjects are measured one right
//! after the other, case by case, the order turns round in every round, and a ratio is taken
//! within a round: what slows the machine for longer than a round slows both sides of it.

use crate::statistics::Summary;

/// The most rounds of an experiment.
pub const ROUNDS_MAX: usize = 100;

/// One measurement to make. Subjects and cases are given by their places in the caller's lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trial {
    /// The round, from 0.
    pub round: usize,
    /// What is measured.
    pub subject: usize,
    /// Under which load.
    pub case: usize,
}

/// All trials of an experiment, in their order: round by round and case by case, the subjects
/// forwards in even rounds and backwards in odd ones.
pub fn schedule(subjects: usize, cases: usize, rounds: usize) -> Vec<Trial> {
    let mut trials = Vec::with_capacity(subjects * cases * rounds);
    for round in 0..rounds {
        for case in 0..cases {
            for place in 0..subjects {
                let subject = if round % 2 == 0 { place } else { subjects - 1 - place };
                trials.push(Trial { round, subject, case });
            }
        }
    }
    trials
}

/// What a trial measured.
#[derive(Clone, Debug)]
pub struct Sample<M> {
    /// Which trial it was.
    pub trial: Trial,
    /// What came out.
    pub measured: M,
}

/// The summary of one metric of one subject under one case, over the rounds. `None` if the metric
/// is missing in a round.
pub fn summary<M>(
    samples: &[Sample<M>],
    subject: usize,
    case: usize,
    metric: impl Fn(&M) -> Option<f64>,
) -> Option<Summary> {
    Summary::of(&by_round(samples, subject, case, metric)?)
}

/// The summary of the ratios, round by round, of one subject's metric to another's. `None` if the
/// metric is missing, or not a positive number in the denominator, in a round.
pub fn ratio<M>(
    samples: &[Sample<M>],
    (numerator, denominator): (usize, usize),
    case: usize,
    metric: impl Fn(&M) -> Option<f64>,
) -> Option<Summary> {
    let above = by_round(samples, numerator, case, &metric)?;
    let below = by_round(samples, denominator, case, &metric)?;
    if above.len() != below.len() || below.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let ratios: Vec<f64> = above.iter().zip(&below).map(|(a, b)| a / b).collect();
    Summary::of(&ratios)
}

/// The metric's values in the order of the rounds; `None` if one is missing.
fn by_round<M>(
    samples: &[Sample<M>],
    subject: usize,
    case: usize,
    metric: impl Fn(&M) -> Option<f64>,
) -> Option<Vec<f64>> {
    let mut values: Vec<(usize, f64)> = samples
        .iter()
        .filter(|sample| (sample.trial.subject, sample.trial.case) == (subject, case))
        .map(|sample| Some((sample.trial.round, metric(&sample.measured)?)))
        .collect::<Option<_>>()?;
    values.sort_by_key(|(round, _)| *round);
    Some(values.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// The subjects in the order in which a round measures them under a case.
    fn order(trials: &[Trial], round: usize, case: usize) -> Vec<usize> {
        let mine = trials.iter().filter(|trial| (trial.round, trial.case) == (round, case));
        mine.map(|trial| trial.subject).collect()
    }

    /// Two subjects and one case; subject 0 measures the first number of each round.
    fn samples(rounds: &[(f64, f64)]) -> Vec<Sample<f64>> {
        let take = |trial: Trial| Sample {
            trial,
            measured: match trial.subject {
                0 => rounds[trial.round].0,
                _ => rounds[trial.round].1,
            },
        };
        schedule(2, 1, rounds.len()).into_iter().map(take).collect()
    }

    #[test]
    fn the_order_of_subjects_turns_round_in_every_round() {
        let trials = schedule(3, 2, 3);
        assert_eq!(trials.len(), 18);
        for case in 0..2 {
            assert_eq!(order(&trials, 0, case), [0, 1, 2]);
            assert_eq!(order(&trials, 1, case), [2, 1, 0]);
            assert_eq!(order(&trials, 2, case), [0, 1, 2]);
        }
    }

    #[test]
    fn the_subjects_of_a_case_are_measured_one_right_after_the_other() {
        for pair in schedule(2, 5, 4).chunks(2) {
            assert_eq!((pair[0].round, pair[0].case), (pair[1].round, pair[1].case));
            assert_ne!(pair[0].subject, pair[1].subject);
        }
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        // The machine is ten times slower in the second round: the ratios do not show it.
        let samples = samples(&[(200.0, 100.0), (20.0, 10.0), (300.0, 100.0)]);
        let ratio = ratio(&samples, (0, 1), 0, |value| Some(*value)).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max, ratio.rounds), (2.0, 2.0, 3.0, 3));
    }

    #[test]
    fn a_ratio_over_nothing_is_no_ratio() {
        let zero = samples(&[(1.0, 0.0)]);
        assert_eq!(ratio(&zero, (0, 1), 0, |value| Some(*value)), None);
        assert_eq!(ratio(&samples(&[]), (0, 1), 0, |value| Some(*value)), None);
        let missing = samples(&[(1.0, 1.0), (1.0, 2.0)]);
        let metric = |value: &f64| (*value < 2.0).then_some(*value);
        assert_eq!(ratio(&missing, (0, 1), 0, metric), None);
    }

    #[test]
    fn a_summary_is_over_the_rounds_of_one_subject() {
        let samples = samples(&[(1.0, 7.0), (2.0, 8.0), (3.0, 9.0)]);
        let of = |subject| summary(&samples, subject, 0, |value| Some(*value)).unwrap().median;
        assert_eq!((of(0), of(1)), (2.0, 8.0));
    }
}
