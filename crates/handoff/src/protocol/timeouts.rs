//! How long each step may take.

/// The deadline of every step, in milliseconds. All nodes of a cluster use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Exporter: for steering to hear of the flow.
    pub introduce_ms: u64,
    /// Exporter: from there until the socket is frozen, which waits for unsent bytes.
    pub freeze_ms: u64,
    /// Exporter: from there until the image is there.
    pub export_ms: u64,
    /// Exporter: from the offer to its answer. Less than the importer may take means that moves are
    /// contested that would have succeeded.
    pub offer_ms: u64,
    /// Exporter: to look what the frozen socket has received.
    pub check_ms: u64,
    /// Exporter: from its first claim to steering's answer.
    pub take_back_ms: u64,
    /// Exporter: how long the frozen socket outlives the move, so that frames that were steered here
    /// before meet a mute socket and not a reset.
    pub linger_ms: u64,
    /// Importer: from the offer until the socket exists.
    pub import_ms: u64,
    /// Importer: from its first claim to steering's answer.
    pub claim_ms: u64,
    /// Both: the pause before a claim, or a look at a socket that lingers, is repeated for the first
    /// time; it doubles each time.
    pub claim_pause_ms: u64,
    /// Both: the longest such pause.
    pub claim_pause_max_ms: u64,
    /// Importer: for the socket to leave repair mode.
    pub leave_ms: u64,
    /// Importer: how long a move is remembered, in case that the exporter has more to say.
    pub remember_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            introduce_ms: 100,
            freeze_ms: 100,
            export_ms: 100,
            offer_ms: 1_000,
            check_ms: 100,
            take_back_ms: 2_000,
            linger_ms: 200,
            import_ms: 300,
            claim_ms: 500,
            claim_pause_ms: 5,
            claim_pause_max_ms: 80,
            leave_ms: 200,
            remember_ms: 1_500,
        }
    }
}

impl Timeouts {
    /// Whether the steps fit together: no step is without time, and the exporter waits for the importer
    /// at least as long as that may take.
    pub fn is_consistent(&self) -> bool {
        let all = [
            self.introduce_ms,
            self.freeze_ms,
            self.export_ms,
            self.offer_ms,
            self.check_ms,
            self.take_back_ms,
            self.linger_ms,
            self.import_ms,
            self.claim_ms,
            self.claim_pause_ms,
            self.leave_ms,
            self.remember_ms,
        ];
        all.iter().all(|step_ms| *step_ms > 0)
            && self.claim_pause_ms <= self.claim_pause_max_ms
            && self.offer_ms >= self.import_ms + self.claim_ms + self.leave_ms
    }
}
