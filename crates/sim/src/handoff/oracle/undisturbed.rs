//! Without faults every move succeeds, every request is answered by its owner, and no client notices
//! anything: no reset, no early end, no silence.

use ashlar_handoff::protocol::Outcome;

/// The oracle's name.
pub(crate) const NAME: &str = "undisturbed";

/// Which clients' moves had a reason not to succeed.
#[derive(Debug)]
pub(crate) struct Undisturbed {
    excused: Vec<bool>,
    /// Of these, those whose connection had to be reset.
    cut: Vec<bool>,
}

impl Undisturbed {
    pub(crate) fn new(clients: usize) -> Self {
        Self { excused: vec![false; clients], cut: vec![false; clients] }
    }

    /// A segment has passed the filter of the client's socket: a move may have to wait.
    pub(crate) fn excuse(&mut self, client: usize) {
        self.excused[client] = true;
    }

    /// A segment has passed the filter and was seen too late: the client meets a reset.
    pub(crate) fn cut(&mut self, client: usize) {
        (self.excused[client], self.cut[client]) = (true, true);
    }

    pub(crate) fn is_cut(&self, client: usize) -> bool {
        self.cut[client]
    }

    pub(crate) fn is_excused(&self, client: usize) -> bool {
        self.excused[client]
    }
}

/// A move has ended; segments that passed the filter are the only excuse.
pub(crate) fn moved(client: usize, outcome: &Outcome, is_excused: bool) -> Result<(), String> {
    match outcome {
        Outcome::Moved { .. } => Ok(()),
        _ if is_excused => Ok(()),
        outcome => Err(format!("the connection of c{client} does not move: {outcome:?}")),
    }
}
