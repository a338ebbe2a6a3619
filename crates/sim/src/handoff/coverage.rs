//! What a run exercised, so that nobody takes an idle simulation for a clean one.

use crate::coverage::counts;

counts! {
    /// Events in virtual time.
    events,
    /// Connections that clients began.
    client_connections,
    /// Of these, those with all answers.
    client_connections_done,
    /// Answers that came whole.
    answers,
    /// Connections that clients broke off.
    client_aborts,
    /// Connections that ended in a reset for their client, or in an end that came too soon.
    client_resets,
    /// Connections that clients lost their patience with.
    client_timeouts,
    /// Connections that the front end took.
    connections_accepted,
    /// Connections that an owner closed because nothing came.
    connections_closed_for_idleness,
    /// Requests that their owner answered.
    requests_at_their_owner,
    /// Of these, those on connections that had moved more than once.
    requests_after_moves,
    /// Requests answered by another node because the connection could not move.
    requests_relayed,
    /// Segments, control frames, and steered ones a second time.
    segments_sent,
    /// Of these, lost ones.
    segments_lost,
    /// Of these, those that arrived twice.
    segments_duplicated,
    /// Of these, those that were let out of order.
    segments_reordered,
    /// Segments dropped by the filter of a frozen or imported socket.
    segments_at_deaf_sockets,
    /// Segments that were past the filter when it came.
    segments_past_the_filter,
    /// Resets by hosts without a socket.
    resets_without_socket,
    /// Sockets whose peer did not answer.
    sockets_abandoned,
    /// Segments that steering sent elsewhere.
    frames_steered,
    /// Entries that a new connection of the client removed.
    entries_forgotten_by_syn,
    /// Entries removed when their connection had ended.
    entries_forgotten,
    /// Entries removed because nothing came.
    entries_expired,
    /// Entries removed because their owner was dead.
    entries_of_dead_owners,
    /// Control frames sent, repetitions included.
    control_requests,
    /// Control frames dropped as replayed.
    control_replayed,
    /// Control frames of an earlier life of the table.
    control_of_another_life,
    /// Control frames answered with Busy.
    control_busy,
    /// Control frames for which there was no room.
    control_table_full,
    /// Control frames that a newer epoch had overtaken.
    control_stale,
    /// Replies that nobody waited for.
    control_replies_unexpected,
    /// Moves begun.
    moves_begun,
    /// Flows that steering was told of.
    introductions,
    /// Claims of importers, repetitions of the protocol included.
    claims_of_importers,
    /// The same of exporters.
    claims_of_exporters,
    /// Moves done, as the exporter saw them.
    moves_done,
    /// Connections that came back to the front end.
    moves_home,
    /// Moves within the linger of the one before in the other direction.
    returns_within_the_linger,
    /// Requests whose owner could not be reached.
    moves_without_channel,
    /// Connections kept because they could not be frozen or exported.
    kept_not_exported,
    /// Connections kept because the importer refused before it claimed.
    kept_refused,
    /// Connections kept because the exporter was first to claim.
    kept_contested,
    /// Connections taken back from an importer that had claimed, or might have.
    kept_taken_back,
    /// Connections kept because the channel broke.
    kept_channel_lost,
    /// Connections kept because bytes had arrived behind the export.
    kept_bytes_arrived,
    /// Connections kept because steering had no room.
    kept_steering_full,
    /// Connections kept because steering did not answer their introduction.
    kept_steering_silent,
    /// Connections kept for other reasons.
    kept_other,
    /// Connections given up because somebody had pointed the flow elsewhere.
    ended_superseded,
    /// Connections given up because steering knew nobody any more.
    ended_steering_forgot,
    /// Connections given up because steering did not say who has them.
    ended_steering_silent,
    /// Frozen sockets that came back to life.
    thaws,
    /// Frozen sockets that were reset.
    frozen_sockets_reset,
    /// Images with bytes that nobody had read.
    images_with_unread_bytes,
    /// Images with bytes that the client had not acknowledged.
    images_with_unacknowledged_bytes,
    /// Images of connections whose client had finished.
    images_behind_a_fin,
    /// Imports of a flow that the host had a socket of.
    imports_of_a_flow_in_use,
    /// Arrivals that were dropped before they were served.
    arrivals_dropped,
    /// Messages on channels.
    messages,
    /// Messages that were gone with their channel.
    messages_lost_with_channel,
    /// Messages for a move that was forgotten.
    messages_of_forgotten_moves,
    /// Times that an importer was told of bytes that had arrived behind its image.
    late_bytes_sent,
    /// Of these, those that were not seen at the first look.
    late_bytes_seen_late,
    /// Times that they were put into its socket.
    late_bytes_received,
    /// Moves whose importer was told that something had arrived that cannot be passed on.
    cuts,
    /// Connections reset because of that.
    connections_cut,
    /// Channels opened.
    channels_opened,
    /// Channels broken.
    channels_broken,
    /// Processes killed.
    kills,
    /// Hosts that lost power.
    power_losses,
    /// Processes started again.
    starts,
    /// Pauses.
    pauses,
    /// Drains.
    drains,
    /// New lives of steering's table.
    steering_restarts,
    /// Answers after the faults had ended.
    answers_after_healing,
}
