//! What a run exercised, so that nobody takes an idle simulation for a clean one.

use crate::coverage::counts;

counts! {
    /// Events in virtual time.
    events,
    /// Writes that clients were told to be done.
    writes_committed,
    /// Writes whose condition failed, deletions that found nothing.
    writes_failed,
    /// Such failures that rested on an uncommitted version and waited for it.
    failures_deferred,
    /// Writes sent to a node that is not the head.
    writes_astray,
    /// Writes refused because a replica was out of reach.
    writes_refused_chain_broken,
    /// Writes refused because too many waited.
    writes_refused_window_full,
    /// Writes refused because a disk was full.
    writes_refused_no_space,
    /// Writes refused at a head that lost its data.
    writes_refused_data_lost,
    /// Writes whose client never learned their outcome.
    writes_unknown,
    /// Reads answered by a replica alone.
    reads_clean,
    /// Reads of a key with an uncommitted version.
    reads_dirty,
    /// Of these, those answered with an older version than the newest.
    reads_of_older_version,
    /// Reads refused by a replica that does not serve.
    reads_refused,
    /// Reads never answered.
    reads_unanswered,
    /// Questions to tails.
    tail_queries,
    /// Questions to tails that were answered.
    tail_answers,
    /// Messages between hosts.
    messages_sent,
    /// Messages lost by chance or at a cut.
    messages_lost,
    /// Messages delivered twice.
    messages_duplicated,
    /// Messages let out of order.
    messages_reordered,
    /// Messages gone with their connection.
    messages_gone_with_link,
    /// Entries passed on.
    prepares,
    /// Entries that arrived at a replica that had them already.
    prepares_repeated,
    /// Entries that arrived before their predecessors.
    prepares_ahead,
    /// Probes.
    probes,
    /// Answers to probes and gaps.
    resumes,
    /// Bodies stored beside the metadata.
    bodies_staged,
    /// Entries that arrived before their body.
    bodies_missing,
    /// Bodies shipped again.
    bodies_shipped_again,
    /// Bodies removed with the versions that named them.
    bodies_released,
    /// Bodies without an entry, removed at a start.
    bodies_orphaned,
    /// Syncs of the metadata.
    syncs,
    /// Syncs shared by several entries.
    syncs_shared,
    /// Unsynced batches that a power loss spared.
    batches_kept,
    /// Unsynced batches lost with the power.
    batches_lost,
    /// Processes killed.
    kills,
    /// Hosts that lost power.
    power_losses,
    /// Of these, together with all others.
    blackouts,
    /// Disks replaced by empty ones.
    wipes,
    /// Replicas that found out that they lack what they once acknowledged.
    replicas_lost,
    /// Processes started.
    starts,
    /// Entries above the committed mark found at a start.
    entries_recovered,
    /// Pauses.
    pauses,
    /// Cuts through the network.
    cuts,
    /// Connections that broke.
    links_broken,
    /// Connections made.
    links_made,
    /// Slow episodes of disks.
    slow_disks,
    /// Disks that were full for a while.
    full_disks,
    /// Objects that a full disk took because they had been numbered before.
    objects_into_reserve,
    /// Deletions done while disks were full, after the other faults had ended.
    deletions_on_full_disks,
    /// Histories of a key found linearizable.
    histories_linearizable,
    /// Histories of a key given up at the bound of the search.
    histories_undecided,
    /// Writes done after the faults had ended.
    writes_after_healing,
}
