//! Defects put in on purpose, to prove that the oracles see them.

use super::{kernel::Leaves, world::World};
use ashlar_vr::{Entry, EpochStart, Kind, Message, Mode, Status, View, Write};
use std::{fmt, net::SocketAddr, str::FromStr};

/// A defect of a replica or its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A replica starts again with its first promises.
    ForgetPromise,
    /// A replica starts again as one of a new group.
    RestartEmpty,
    /// What was written counts as persistent at once.
    SpeakBeforeSync,
    /// Everything that comes is acknowledged, whether it can be appended or not.
    AcknowledgeAnything,
    /// A vote names no lost entries: its log ends before the first one.
    HideHoles,
    /// Votes name logs that are shorter than they are.
    ForgetTail,
    /// Backups answer as leaders do.
    ReadAnywhere,
    /// A client whose session was forgotten repeats its requests in a new one.
    RepeatInNewSession,
    /// A client repeats a request under a new number.
    RenumberRequests,
    /// A vote names the view of its last entry for the last normal one.
    ViewOfLastEntry,
    /// Who has left a view acknowledges what comes in it.
    AcknowledgeAfterLeaving,
    /// An acknowledgement counts for another member, too.
    CountTwice,
    /// A leader says that all it has is committed.
    CommitEarly,
    /// A log is let go of before the other one is here.
    TruncateThenFetch,
    /// A log is replaced in two writes.
    TearInstall,
    /// A replica that starts again takes a lost entry for one that it never had.
    GiveUpHoles,
    /// A replica without memory answers others.
    SpeakWhileRecovering,
    /// A leader takes its lease for longer than its members have promised.
    LongLeases,
    /// Members keep different numbers of sessions.
    DifferentBounds,
    /// A replica that starts again takes the first members for the present ones.
    ForgetMembers,
    /// The next members are told before they are agreed on.
    EarlyEpoch,
    /// A journal's writes count as persistent without a sync.
    SkipSync,
    /// A process does not shut programs out before it does anything else.
    SkipFence,
    /// A process takes what programs have taken before it shuts them out.
    DrainBeforeFence,
    /// Who is about to lead leaves what programs have taken where it is.
    DropSlotsToLead,
    /// What programs took in one view is put in in the next.
    ApplyOldSlots,
    /// Programs go on for a process that is gone, or stands still, for ever.
    OutliveProcess,
    /// Programs acknowledge what finds no slot.
    AcknowledgeUnstored,
    /// Programs acknowledge every place that they have, whatever a frame has there.
    AcknowledgeOtherContent,
    /// A repeat is acknowledged with the place that programs saw last, not with the one that they have.
    AcknowledgeLastSeen,
    /// A leader waits for programs to tell it of a quorum.
    SkipOwnLook,
    /// A leader takes any acknowledgement that programs pass for a quorum.
    BelieveSignals,
    /// An acknowledgement is noted for another member, too.
    NoteTwice,
    /// Programs do not learn what the process has appended.
    KeepTail,
    /// A process starts beside programs that still acknowledge for a former one.
    SkipAdoption,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::ForgetPromise,
        Self::RestartEmpty,
        Self::SpeakBeforeSync,
        Self::AcknowledgeAnything,
        Self::HideHoles,
        Self::ForgetTail,
        Self::ReadAnywhere,
        Self::RepeatInNewSession,
        Self::RenumberRequests,
        Self::ViewOfLastEntry,
        Self::AcknowledgeAfterLeaving,
        Self::CountTwice,
        Self::CommitEarly,
        Self::TruncateThenFetch,
        Self::TearInstall,
        Self::GiveUpHoles,
        Self::SpeakWhileRecovering,
        Self::LongLeases,
        Self::DifferentBounds,
        Self::ForgetMembers,
        Self::EarlyEpoch,
        Self::SkipSync,
        Self::SkipFence,
        Self::DrainBeforeFence,
        Self::DropSlotsToLead,
        Self::ApplyOldSlots,
        Self::OutliveProcess,
        Self::AcknowledgeUnstored,
        Self::AcknowledgeOtherContent,
        Self::AcknowledgeLastSeen,
        Self::SkipOwnLook,
        Self::BelieveSignals,
        Self::NoteTwice,
        Self::KeepTail,
        Self::SkipAdoption,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForgetPromise => "forget-promise",
            Self::RestartEmpty => "restart-empty",
            Self::SpeakBeforeSync => "speak-before-sync",
            Self::AcknowledgeAnything => "acknowledge-anything",
            Self::HideHoles => "hide-holes",
            Self::ForgetTail => "forget-tail",
            Self::ReadAnywhere => "read-anywhere",
            Self::RepeatInNewSession => "repeat-in-new-session",
            Self::RenumberRequests => "renumber-requests",
            Self::ViewOfLastEntry => "view-of-last-entry",
            Self::AcknowledgeAfterLeaving => "acknowledge-after-leaving",
            Self::CountTwice => "count-twice",
            Self::CommitEarly => "commit-early",
            Self::TruncateThenFetch => "truncate-then-fetch",
            Self::TearInstall => "tear-install",
            Self::GiveUpHoles => "give-up-holes",
            Self::SpeakWhileRecovering => "speak-while-recovering",
            Self::LongLeases => "long-leases",
            Self::DifferentBounds => "different-bounds",
            Self::ForgetMembers => "forget-members",
            Self::EarlyEpoch => "early-epoch",
            Self::SkipSync => "skip-sync",
            Self::SkipFence => "skip-fence",
            Self::DrainBeforeFence => "drain-before-fence",
            Self::DropSlotsToLead => "drop-slots-to-lead",
            Self::ApplyOldSlots => "apply-old-slots",
            Self::OutliveProcess => "outlive-process",
            Self::AcknowledgeUnstored => "acknowledge-unstored",
            Self::AcknowledgeOtherContent => "acknowledge-other-content",
            Self::AcknowledgeLastSeen => "acknowledge-last-seen",
            Self::SkipOwnLook => "skip-own-look",
            Self::BelieveSignals => "believe-signals",
            Self::NoteTwice => "note-twice",
            Self::KeepTail => "keep-tail",
            Self::SkipAdoption => "skip-adoption",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|sabotage| sabotage.name() == text);
        known.ok_or_else(|| format!("there is no defect {text:?}"))
    }
}

impl World {
    /// What a host with a defect sends instead.
    pub(super) fn distort(&mut self, from: usize, message: &mut Message) {
        let Some(sabotage) = self.sabotage else { return };
        match (sabotage, message) {
            (Sabotage::HideHoles, Message::DoViewChange(vote)) => {
                if let Some(hole) = vote.holes.first() {
                    vote.head_op = hole - 1;
                    vote.holes.clear();
                }
            }
            (Sabotage::ForgetTail, Message::DoViewChange(vote)) => {
                vote.head_op = vote.commit.max(vote.head_op.saturating_sub(1));
            }
            (Sabotage::ViewOfLastEntry, Message::DoViewChange(vote)) => {
                let replica = self.hosts[from].replica();
                let last = replica.and_then(|replica| replica.log().get(vote.head_op));
                vote.last_normal = last.map_or(vote.last_normal, |entry| entry.view);
            }
            (Sabotage::CommitEarly, Message::Prepare { commit, entries, .. }) => {
                *commit = entries.last().map_or(*commit, |entry| entry.op);
            }
            (Sabotage::CommitEarly, Message::Commit { commit, head_op, .. }) => *commit = *head_op,
            (Sabotage::EarlyEpoch, Message::Prepare { entries, .. }) => {
                let last = entries.iter().find(|entry| entry.request.kind == Kind::Reconfigure);
                if let Some(epoch) = last.and_then(next_epoch) {
                    for to in epoch.members.clone() {
                        self.send(from, to, Message::StartEpoch(epoch.clone()));
                    }
                }
            }
            _ => {}
        }
    }

    /// What a host with a defect makes of a message before it handles it: perhaps it handles others, too, as if somebody
    /// had sent them.
    pub(super) fn misreceive(
        &mut self,
        from: usize,
        to: usize,
        message: &Message,
    ) -> Vec<(SocketAddr, Message)> {
        let Some(sabotage) = self.sabotage else { return Vec::new() };
        self.leave_wrongly(to, message);
        let source = self.hosts[from].address;
        let Some(replica) = self.hosts[to].replica() else { return Vec::new() };
        match (sabotage, message) {
            (Sabotage::AcknowledgeAnything, Message::Prepare { view, entries, .. }) => {
                let Some(last) = entries.last() else { return Vec::new() };
                let (view, op, digest) = (*view, last.op, last.digest);
                self.send(to, source, Message::PrepareOk { view, op, digest });
            }
            (Sabotage::AcknowledgeAfterLeaving, Message::Prepare { view, entries, .. })
                if *view < replica.view() =>
            {
                let Some(last) = entries.last() else { return Vec::new() };
                let (view, op, digest) = (*view, last.op, last.digest);
                self.send(to, source, Message::PrepareOk { view, op, digest });
            }
            (Sabotage::CountTwice, Message::PrepareOk { .. }) => {
                let members = replica.configuration().members().iter();
                let mut others =
                    members.filter(|at| **at != source && **at != self.hosts[to].address);
                let other = others.next().map(|other| (*other, message.clone()));
                return other.into_iter().collect();
            }
            (Sabotage::BelieveSignals, Message::PrepareOk { .. })
                if self.hosts[to].allowed.quorum && replica.is_leader() =>
            {
                let members = replica.configuration().members().iter();
                let others = members.filter(|at| **at != self.hosts[to].address);
                return others.map(|other| (*other, message.clone())).collect();
            }
            (Sabotage::SpeakWhileRecovering, Message::Recovery { nonce, .. })
                if replica.status() == Status::Recovering =>
            {
                let (view, nonce) = (replica.view(), *nonce);
                let leads = replica.configuration().leader_of(view);
                let leads = replica.configuration().members()[leads] == self.hosts[to].address;
                let leader = leads.then_some((0, 0, 0));
                self.send(to, source, Message::RecoveryResponse { view, nonce, leader });
            }
            (
                Sabotage::TruncateThenFetch,
                Message::StartView { view, head_op, head_digest, .. },
            ) if *view >= replica.view()
                && replica.status() != Status::Joining
                && self.plan.options.mode == Mode::Durable =>
            {
                let after = replica.commit().min(replica.log().whole_op());
                let is_here = replica.log().digest_at(*head_op) == Some(*head_digest);
                let promise = self.hosts[to].disk.current().promise.clone();
                if let Some(promise) = promise.filter(|_| !is_here) {
                    let write = Write::Install { after, entries: Vec::new(), promise };
                    self.hosts[to].disk.write(write);
                }
            }
            _ => {}
        }
        Vec::new()
    }

    /// A process with a defect is about to leave its view, and does not take what programs have taken.
    fn leave_wrongly(&mut self, host: usize, message: &Message) {
        let view = match message {
            Message::StartViewChange { view, .. } | Message::StartView { view, .. } => *view,
            Message::DoViewChange(vote) => vote.view,
            _ => View::default(),
        };
        let Some(replica) = self.hosts[host].replica() else { return };
        let group = replica.configuration();
        let leaves = (view > replica.view() && view.epoch() == group.epoch()).then(|| {
            let leads = group.members()[group.leader_of(view)] == self.hosts[host].address;
            if leads { Leaves::ToLead } else { Leaves::ToFollow }
        });
        if let Some(mut kernel) = self.kernel(host) {
            kernel.leaves_for = leaves;
        }
    }
}

/// The epoch that an entry would begin.
fn next_epoch(entry: &Entry) -> Option<EpochStart> {
    let text = str::from_utf8(&entry.request.body).ok()?;
    let members = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let view = View::new(entry.view.epoch() + 1, 0);
    Some(EpochStart { view, op: entry.op, digest: entry.digest, members })
}
