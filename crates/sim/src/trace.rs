//! What happened, for people, and its hash, to compare two runs.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher},
};

/// How much a trace keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing, and no time is spent on it: a run that fails is repeated with another choice.
    Nothing,
    /// The last so many lines.
    Last(usize),
    /// Everything.
    All,
}

/// A run's trace.
#[derive(Debug)]
pub struct Trace {
    keep: Keep,
    lines: VecDeque<String>,
    /// Over all lines, whether kept or not.
    hasher: DefaultHasher,
    recorded: u64,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            lines: VecDeque::new(),
            // Its keys are fixed, unlike those of a `RandomState`.
            hasher: DefaultHasher::new(),
            recorded: 0,
        }
    }

    /// Adds a line. `line` is only called if the trace is kept.
    pub fn record(&mut self, now_us: u64, line: impl FnOnce() -> String) {
        let lines_max = match self.keep {
            Keep::Nothing => return,
            Keep::Last(count) => count,
            Keep::All => usize::MAX,
        };
        let line = format!("{:>6}.{:03} ms  {}", now_us / 1000, now_us % 1000, line());
        self.hasher.write(line.as_bytes());
        self.recorded += 1;
        if self.lines.len() >= lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The hash of all lines so far.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many lines there were.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The lines kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_all_are_hashed() {
        let (mut ring, mut full) = (Trace::new(Keep::Last(2)), Trace::new(Keep::All));
        for now_us in 1..=3 {
            ring.record(now_us * 1001, || format!("line {now_us}"));
            full.record(now_us * 1001, || format!("line {now_us}"));
        }
        assert_eq!(ring.hash(), full.hash());
        assert_eq!((ring.recorded(), full.recorded()), (3, 3));
        assert_eq!(ring.into_lines()[0], "     2.002 ms  line 2");
        assert_eq!(full.into_lines().len(), 3);
    }

    #[test]
    fn a_trace_that_keeps_nothing_formats_nothing() {
        let mut trace = Trace::new(Keep::Nothing);
        trace.record(1, || unreachable!("nobody reads it"));
        assert!(trace.into_lines().is_empty());
    }
}
