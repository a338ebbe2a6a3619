//! How long each step may take.

/// The deadline of every step, in milliseconds. All nodes of a cluster use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Exporter: from the decision until the socket is frozen, which waits for unsent bytes.
    pub freeze_ms: u64,
    /// Exporter: from there until the image is there.
    pub export_ms: u64,
    /// Exporter: from the offer to its answer.
    pub offer_ms: u64,
    /// Exporter: to look up the frozen socket's receive sequence.
    pub check_ms: u64,
    /// Exporter: from the first `Point` at the importer to its acknowledgement.
    pub point_ms: u64,
    /// Exporter: the pause before a `Point` is repeated for the first time; it doubles each time.
    pub point_pause_ms: u64,
    /// Exporter: the longest such pause.
    pub point_pause_max_ms: u64,
    /// Exporter: from the first `Point` at itself to its acknowledgement.
    pub take_back_ms: u64,
    /// Exporter: from `Go` to `Taken`.
    pub taken_ms: u64,
    /// Exporter: how long the frozen socket outlives the move, so that frames that were steered
    /// before `Point` meet a mute socket and not a reset.
    pub linger_ms: u64,
    /// Importer: from the offer until the socket exists.
    pub import_ms: u64,
    /// Importer: from `Imported` to `Go`. At least what the exporter may take in between.
    pub go_ms: u64,
    /// Importer: for the socket to leave repair mode.
    pub leave_ms: u64,
    /// Importer: how long a dropped move is remembered, to refuse a late `Go`.
    pub remember_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            freeze_ms: 100,
            export_ms: 100,
            offer_ms: 1_000,
            check_ms: 100,
            point_ms: 500,
            point_pause_ms: 5,
            point_pause_max_ms: 80,
            take_back_ms: 2_000,
            taken_ms: 1_000,
            linger_ms: 200,
            import_ms: 800,
            go_ms: 1_500,
            leave_ms: 500,
            remember_ms: 1_500,
        }
    }
}

impl Timeouts {
    /// Whether the steps fit together: no step is without time, and the importer waits for `Go` at
    /// least as long as the exporter may take to send it.
    pub fn is_consistent(&self) -> bool {
        let all = [
            self.freeze_ms,
            self.export_ms,
            self.offer_ms,
            self.check_ms,
            self.point_ms,
            self.point_pause_ms,
            self.take_back_ms,
            self.taken_ms,
            self.linger_ms,
            self.import_ms,
            self.go_ms,
            self.leave_ms,
            self.remember_ms,
        ];
        all.iter().all(|step_ms| *step_ms > 0)
            && self.point_pause_ms <= self.point_pause_max_ms
            && self.go_ms >= self.check_ms + self.point_ms
    }
}
