//! What the programs should do, from the shared decision alone.

use ashlar_fastpath::chaos::{Outcome, Verdict};
use ashlar_fastpath::frame::Headers;
use ashlar_kernel::chaos::{Config, Counters, Frame, Hook, decide};

/// A hook's program, run in user space over frames in order.
pub(crate) struct Prediction {
    pub(crate) hook: Hook,
    next_number: u64,
    /// Where the program would have counted the frames so far.
    pub(crate) counters: Counters,
}

/// What becomes of one frame.
pub(crate) struct Fate {
    /// How many times it goes on: not at all, once, twice.
    pub(crate) copies: usize,
    /// Its bytes afterwards.
    pub(crate) frame: Vec<u8>,
}

impl Prediction {
    pub(crate) fn new(hook: Hook) -> Self {
        Self { hook, next_number: 0, counters: Counters::default() }
    }

    pub(crate) fn judge(&mut self, config: &Config, frame: &[u8]) -> Fate {
        let described = Frame {
            hook: self.hook,
            length_bytes: u32::try_from(frame.len()).unwrap(),
            headers: Headers::parse(frame),
        };
        let verdict = decide(config, &described, || {
            self.next_number += 1;
            self.next_number - 1
        });
        let mut frame = frame.to_vec();
        let (outcome, copies) = match verdict {
            Verdict::Drop => (Outcome::Done(verdict), 0),
            Verdict::Duplicate if self.hook == Hook::Xdp => (Outcome::DuplicateDeclined, 1),
            Verdict::Duplicate => (Outcome::Done(verdict), 2),
            Verdict::Corrupt(corruption) => {
                frame[corruption.offset_bytes as usize] ^= corruption.mask;
                (Outcome::Done(verdict), 1)
            }
            Verdict::Pass(_) => (Outcome::Done(verdict), 1),
        };
        self.counters.count(outcome);
        Fate { copies, frame }
    }
}
