//! What tests of all simulated worlds share.

use ashlar_sim::coverage::Exercised;
use std::time::{Duration, Instant};

/// How long the runs without a defect go on here; `ashlar sim` has more patience.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Seeds for as long as there is time: `at_least` so many, however long they take.
pub(crate) fn seeds_in_time(at_least: u64) -> impl Iterator<Item = u64> {
    let started = Instant::now();
    (0..).take_while(move |seed| *seed < at_least || started.elapsed() <= TIME_MAX)
}

/// What never happened.
pub(crate) fn idle(exercised: &impl Exercised) -> Vec<&'static str> {
    let rows = exercised.rows().into_iter();
    rows.filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
}

/// The seeds of a file: a line each, with what it showed.
pub(crate) fn seeds_of(file: &str) -> Vec<u64> {
    let lines = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let seeds: Vec<_> = lines
        .map(|line| {
            let (seed, why) = line.split_once(' ').expect("a seed and what it showed");
            assert!(!why.trim().is_empty(), "{line}");
            seed.parse().unwrap()
        })
        .collect();
    assert!(!seeds.is_empty());
    seeds
}

/// Tests that every world passes; the module that uses it names the world's `run`, `Options` and the like, and `assert_clean`.
macro_rules! world {
    (seeds: $file:literal, the_same_twice: $runs:literal, made_smaller: $shrunk:expr) => {
        /// Each line of the file is a seed that once broke a property, and why.
        #[test]
        fn seeds_that_failed_once_stay_clean() {
            for seed in support::seeds_of(include_str!($file)) {
                assert_clean(&run(seed, Options::default()));
            }
        }

        #[test]
        fn a_seed_stands_for_one_run() {
            let options = Options { keep: Keep::All, ..Options::default() };
            let mut hashes = std::collections::BTreeSet::new();
            for seed in 0..$runs {
                let (one, other) = (run(seed, options), run(seed, options));
                assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
                assert_eq!(one.trace, other.trace);
                assert_eq!((one.coverage, one.virtual_us), (other.coverage, other.virtual_us));
                hashes.insert(one.trace_hash);
            }
            assert_eq!(hashes.len(), $runs);
        }

        #[test]
        fn what_is_kept_of_the_trace_does_not_change_the_run() {
            for seed in 0..$runs {
                let silent = run(seed, Options::default());
                let told = run(seed, Options { keep: Keep::All, ..Options::default() });
                assert_eq!(silent.coverage, told.coverage, "seed {seed}");
                assert!(silent.trace.is_empty() && !told.trace.is_empty());
            }
        }

        /// The plan gets smaller and the same oracle objects; the same seed is made smaller in the same way.
        #[test]
        fn a_failing_run_is_made_smaller() {
            const RUNS_MAX: u64 = 150;
            let options = Options { sabotage: Some($shrunk), ..Options::default() };
            let failing = (0..).map(|seed| run(seed, options));
            let mut failing = failing.filter(|report| report.violation.is_some());
            let report = failing.next().unwrap();
            let shrunk = shrink(report.seed, options, RUNS_MAX).unwrap();
            let oracle = |report: &Report| report.violation.as_ref().unwrap().oracle;
            assert_eq!(oracle(&shrunk.report), oracle(&report));
            assert_ne!(shrunk.report.plan, report.plan);
            assert!(shrunk.runs <= RUNS_MAX);
            let again = shrink(report.seed, options, RUNS_MAX).unwrap();
            assert_eq!(shrunk.report.trace, again.report.trace);
        }

        #[test]
        fn a_run_that_does_not_fail_is_not_made_smaller() {
            assert!(shrink(0, Options::default(), 1).is_none());
        }

        /// The oracle that finds a defect, in the first seed from `from` on that does.
        fn found(sabotage: Sabotage, judge: Judge, from: u64) -> Option<&'static str> {
            /// More than any defect takes (docs/simulator.md has the figures).
            const SEEDS_MAX: u64 = 400;
            let options = Options { sabotage: Some(sabotage), judge, keep: Keep::Nothing };
            (from..from + SEEDS_MAX).map(|seed| run(seed, options)).find_map(|report| {
                // The reader of a report can see how it came about.
                assert!(report.violation.is_none() || !report.trace.is_empty());
                report.violation.map(|violation| violation.oracle)
            })
        }
    };
}

/// A test for each defect that a world can have: it is found, by one of these oracles. For some it would take long to try all seeds
/// from the first one on.
macro_rules! sabotages {
    ($($name:ident: $sabotage:ident, $oracles:expr $(, from $seed:literal)?;)+) => {
        $(#[test]
        fn $name() {
            let from = [$($seed,)? 0][0];
            let oracle = found(Sabotage::$sabotage, Judge::All, from).expect("it is found");
            assert!($oracles.contains(&oracle), "{oracle}");
        })+

        #[test]
        fn every_sabotage_is_tried() {
            assert_eq!([$(Sabotage::$sabotage),+], Sabotage::ALL);
        }
    };
}
