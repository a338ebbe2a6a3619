//! What a run exercised, so that nobody takes an idle simulation for a clean one.

use crate::coverage::counts;

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
}
