//! Making a failing run smaller, so that a person can read it: plans are tried that ask for less.

use crate::report::Report;
use std::fmt;

/// What fails with one course of chance may need another one when less is asked for: so many are tried.
const CHANCES: u64 = 8;

/// A plan, of which there are smaller ones.
pub(crate) trait Shrink: Clone + fmt::Display {
    /// Plans that ask for a little less in one respect, the boldest first.
    fn smaller(&self) -> Vec<Self>;
}

/// A run that is as small as it could be made.
#[derive(Clone, Debug)]
pub struct Shrunk<C> {
    /// How it went, with its whole trace.
    pub report: Report<C>,
    /// How many runs that took.
    pub runs: u64,
}

/// The smallest plan that was found to fail, and its course of chance; also how many runs that took.
pub(crate) fn least<P: Shrink>(
    mut plan: P,
    runs_max: u64,
    fails: impl Fn(&P, u64) -> bool,
) -> (P, u64, u64) {
    let (mut chance, mut runs) = (0, 0);
    'smaller: loop {
        for candidate in plan.smaller() {
            for offset in 0..CHANCES {
                let other = (chance + offset) % CHANCES;
                if runs == runs_max {
                    return (plan, chance, runs);
                }
                runs += 1;
                if fails(&candidate, other) {
                    (plan, chance) = (candidate, other);
                    continue 'smaller;
                }
            }
        }
        return (plan, chance, runs);
    }
}

/// Numbers below `value` down to `least`: the least one first, then ever closer to `value`.
pub(crate) fn towards(value: u64, least: u64) -> impl Iterator<Item = u64> {
    let distance = value.saturating_sub(least);
    let steps = std::iter::successors(Some(distance), |step| Some(step / 2));
    steps.take_while(|step| *step > 0).map(move |step| value - step)
}

/// Plans in which one number is smaller.
pub(crate) fn with_less<P: Clone>(
    plan: &P,
    value: u64,
    least: u64,
    set: impl Fn(&mut P, u64),
) -> Vec<P> {
    let with = |value| {
        let mut plan = plan.clone();
        set(&mut plan, value);
        plan
    };
    towards(value, least).map(with).collect()
}

/// Plans in which some weights are zero: all of them, or one.
pub(crate) fn with_fewer_weights<P: Clone>(
    plan: &P,
    weights: &[u64],
    set: impl Fn(&mut P, usize),
) -> Vec<P> {
    let present: Vec<usize> = (0..weights.len()).filter(|place| weights[*place] > 0).collect();
    let without = |places: &[usize]| {
        let mut plan = plan.clone();
        places.iter().for_each(|place| set(&mut plan, *place));
        plan
    };
    let all = (present.len() > 1).then(|| without(&present));
    all.into_iter().chain(present.iter().map(|place| without(&[*place]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u64, u64);

    impl fmt::Display for Pair {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Debug::fmt(self, formatter)
        }
    }

    impl Shrink for Pair {
        fn smaller(&self) -> Vec<Self> {
            let first = with_less(self, self.0, 0, |pair, value| pair.0 = value);
            let second = with_less(self, self.1, 1, |pair, value| pair.1 = value);
            first.into_iter().chain(second).collect()
        }
    }

    #[test]
    fn numbers_are_bisected_from_their_least() {
        assert_eq!(towards(20, 4).collect::<Vec<_>>(), [4, 12, 16, 18, 19]);
        assert_eq!(towards(4, 4).count() + towards(3, 4).count(), 0);
    }

    #[test]
    fn the_smallest_plan_that_fails_is_found_whatever_chance_it_needs() {
        let (plan, chance, _) = least(Pair(900, 70), 1_000, |plan, chance| {
            plan.0 >= 37 && (plan.1 >= 50 || chance == 3)
        });
        assert_eq!((plan, chance), (Pair(37, 1), 3));
    }

    #[test]
    fn it_ends_when_its_runs_are_used_up() {
        let (plan, _, runs) = least(Pair(900, 70), 5, |_, _| false);
        assert_eq!((plan, runs), (Pair(900, 70), 5));
    }
}
