//! What a run exercised, so that nobody takes an idle simulation for a clean one.

use crate::coverage::counts;
use ashlar_fastpath::replication::{Counter, Counters};

counts! {
    /// Events in virtual time.
    events,
    /// Entries that were committed.
    entries_committed,
    /// Changes that clients were told to be done.
    changes_done,
    /// Changes whose outcome no client learned.
    changes_unknown,
    /// Puts of clients that write all the time that were answered.
    puts_done,
    /// Reads that were answered.
    reads_done,
    /// Reads that nobody answered, or that a replica could not answer.
    reads_refused,
    /// Reads answered by a backup.
    reads_stale,
    /// Sessions that a group forgot.
    sessions_lost,
    /// Messages between hosts.
    messages_sent,
    /// Messages lost by chance or at a cut.
    messages_lost,
    /// Messages delivered twice.
    messages_duplicated,
    /// Messages let out of order.
    messages_reordered,
    /// Leaders of views.
    views_begun,
    /// Votes.
    votes_sent,
    /// Votes that named lost entries.
    votes_with_holes,
    /// Backups that asked for what they missed.
    gaps_noticed,
    /// Parts of logs sent to who asked.
    states_sent,
    /// Parts of snapshots sent.
    snapshot_parts_sent,
    /// Recoveries without memory that came to their end.
    recoveries_ended,
    /// Epochs that began.
    epochs_begun,
    /// Faults that struck.
    faults_struck,
    /// Processes killed.
    kills,
    /// Hosts that lost power.
    power_losses,
    /// Writes that a power loss took back.
    writes_lost,
    /// Entries that a disk lost.
    entries_damaged,
    /// Restarts from a real journal.
    journals_opened,
    /// Real journals that a disk damaged.
    journals_damaged,
    /// Checkpoints written.
    checkpoints_written,
    /// Hosts that stood still.
    pauses,
    /// Cuts in the network.
    cuts,
    /// Leaders cut off that clients still reached.
    leaders_stranded,
    /// Histories judged linearizable.
    histories_linearizable,
    /// Histories that were too hard to judge.
    histories_undecided,
    /// Frames that programs have taken and acknowledged.
    frames_accepted,
    /// Frames that they have acknowledged again.
    frames_known,
    /// Frames passed because programs accepted nothing.
    frames_off,
    /// … of another view.
    frames_other_view,
    /// … because the process was not seen for too long.
    frames_late,
    /// … too long for a slot.
    frames_long,
    /// … behind something that is missing.
    frames_ahead,
    /// … because no slot was free.
    frames_full,
    /// Packets passed because somebody else decided at that moment.
    packets_busy,
    /// Acknowledgements that programs noted and kept to themselves.
    acknowledgements_noted,
    /// … that said nothing new.
    acknowledgements_known,
    /// … that made a quorum.
    quorums_signalled,
    /// … passed because programs counted nothing.
    acknowledgements_off,
    /// … of another view.
    acknowledgements_other_view,
    /// Processes that programs have woken.
    processes_woken,
    /// Fences that found frames to take.
    fences_with_slots,
    /// Processes that found programs armed by a former one.
    programs_adopted,
    /// Processes killed in the middle of their work.
    killed_at_work,
    /// Changes of what programs may do.
    programs_switched,
}

impl Coverage {
    /// Adds what the program of a host has counted.
    pub(super) fn add_program(&mut self, counters: &Counters) {
        let rows = [
            (&mut self.frames_accepted, Counter::PrepareAccepted),
            (&mut self.frames_known, Counter::PrepareKnown),
            (&mut self.frames_off, Counter::PrepareOff),
            (&mut self.frames_other_view, Counter::PrepareOtherView),
            (&mut self.frames_late, Counter::PrepareLeaseOver),
            (&mut self.frames_long, Counter::PrepareLength),
            (&mut self.frames_ahead, Counter::PrepareGap),
            (&mut self.frames_full, Counter::PrepareFull),
            (&mut self.packets_busy, Counter::Busy),
            (&mut self.acknowledgements_noted, Counter::OkNoted),
            (&mut self.acknowledgements_known, Counter::OkKnown),
            (&mut self.quorums_signalled, Counter::OkSignalled),
            (&mut self.acknowledgements_off, Counter::OkOff),
            (&mut self.acknowledgements_other_view, Counter::OkOtherView),
            (&mut self.processes_woken, Counter::Woken),
        ];
        for (sum, counter) in rows {
            *sum += counters.get(counter);
        }
    }
}
