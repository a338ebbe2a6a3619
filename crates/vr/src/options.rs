//! How a group runs.

/// Messages that answer one question for a part of a log or of a snapshot, about.
pub(crate) const BURST_MESSAGES: usize = 16;

/// With more, three times the drift would not cover a slow leader's clock beside a fast one's.
const DRIFT_PPM_BOUND: u64 = 333_333;

/// What a group promises of entries that were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are in the memories of a quorum. When a quorum's machines lose their memory at once, they are
    /// lost.
    Volatile,
    /// They are on the disks of a quorum.
    Durable,
}

/// How a group runs; the same for all of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where entries are kept.
    pub mode: Mode,
    /// How often a leader speaks, in microseconds.
    pub heartbeat_us: u64,
    /// How long a backup hears nothing before it suspects its leader, in microseconds; up to half as long again
    /// is added by chance.
    pub suspect_us: u64,
    /// How long after a heartbeat was sent its leader may answer reads alone, in microseconds by its own clock;
    /// 0 asks a quorum for every batch of reads.
    pub lease_us: u64,
    /// The most that a clock's speed may differ from true time, in parts of a million; at most a third.
    pub drift_ppm_max: u64,
    /// How long an unanswered message waits before it is sent again, in microseconds; later copies wait longer.
    pub resend_us: u64,
    /// Entries that a leader appends before the first of them is committed.
    pub window_entries: u64,
    /// Their bytes; also what may be under way to one backup.
    pub window_bytes: usize,
    /// Entries in a message.
    pub batch_entries_max: usize,
    /// Bytes of entries in a message, if it has more than one.
    pub batch_bytes_max: usize,
    /// Messages with new entries that a leader has under way before requests wait to share one, until they fill it.
    pub pipeline_max: u64,
    /// Requests that wait at a leader; beyond, they are dropped and clients repeat them.
    pub queue_max: usize,
    /// Bytes of requests that wait at a leader, if there is more than one; and likewise of reads.
    pub queue_bytes_max: usize,
    /// Bytes of entries that a replica keeps for those that lag behind. In durable mode it keeps more while a
    /// checkpoint is on its way to its disk; one that has twice as many takes no more entries until it is there.
    pub log_bytes_max: usize,
    /// Clients that may have a session.
    pub sessions_max: usize,
    /// Bytes in a part of a snapshot.
    pub part_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Volatile,
            heartbeat_us: 25_000,
            suspect_us: 150_000,
            lease_us: 100_000,
            drift_ppm_max: 1_000,
            resend_us: 5_000,
            window_entries: 4_096,
            window_bytes: 4 << 20,
            batch_entries_max: 512,
            batch_bytes_max: 32 << 10,
            pipeline_max: 4,
            queue_max: 8_192,
            queue_bytes_max: 16 << 20,
            log_bytes_max: 64 << 20,
            sessions_max: 10_000,
            part_bytes: 32 << 10,
        }
    }
}

impl Options {
    /// Whether the times and bounds go together: a lease must end before anybody suspects, and a window must
    /// hold a batch.
    pub fn is_consistent(&self) -> bool {
        let promise_us = self.promise_us();
        2 * self.heartbeat_us <= self.suspect_us
            && promise_us <= self.suspect_us
            && self.heartbeat_us > 0
            && self.resend_us > 0
            && self.batch_entries_max > 0
            && self.window_entries >= self.batch_entries_max as u64
            && self.window_bytes >= self.batch_bytes_max
            && self.log_bytes_max >= 2 * self.window_bytes
            && self.pipeline_max > 0
            && self.part_bytes > 0
            && self.sessions_max > 0
            && self.drift_ppm_max <= DRIFT_PPM_BOUND
    }

    /// Bytes of entries that come for one question, about.
    pub(crate) fn burst_bytes(&self) -> usize {
        self.batch_bytes_max.saturating_mul(BURST_MESSAGES)
    }

    /// How long a backup that has heard its leader joins no view change: longer than the lease by any clock
    /// that is no faster than allowed.
    pub fn promise_us(&self) -> u64 {
        self.lease_us
            + self.lease_us * 3 * self.drift_ppm_max / 1_000_000
            + u64::from(self.lease_us > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_go_together_and_a_lease_that_outlives_suspicion_does_not() {
        assert!(Options::default().is_consistent());
        assert!(!Options { lease_us: 160_000, ..Options::default() }.is_consistent());
        assert!(!Options { heartbeat_us: 80_000, ..Options::default() }.is_consistent());
    }
}
