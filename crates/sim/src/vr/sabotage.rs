//! Defects put in on purpose, to prove that the oracles see them.

use super::world::World;
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
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 22] = [
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
                let replica = self.hosts[from].replica.as_ref();
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

    /// What a host with a defect makes of a message before it handles it: perhaps it handles another one, too, as
    /// if somebody had sent it.
    pub(super) fn misreceive(
        &mut self,
        from: usize,
        to: usize,
        message: &Message,
    ) -> Option<(SocketAddr, Message)> {
        let sabotage = self.sabotage?;
        let source = self.hosts[from].address;
        let replica = self.hosts[to].replica.as_ref()?;
        match (sabotage, message) {
            (Sabotage::AcknowledgeAnything, Message::Prepare { view, entries, .. }) => {
                let (view, last) = (*view, entries.last()?);
                let (op, digest) = (last.op, last.digest);
                self.send(to, source, Message::PrepareOk { view, op, digest });
            }
            (Sabotage::AcknowledgeAfterLeaving, Message::Prepare { view, entries, .. })
                if *view < replica.view() =>
            {
                let (view, last) = (*view, entries.last()?);
                let (op, digest) = (last.op, last.digest);
                self.send(to, source, Message::PrepareOk { view, op, digest });
            }
            (Sabotage::CountTwice, Message::PrepareOk { .. }) => {
                let members = replica.configuration().members().iter();
                let mut others =
                    members.filter(|at| **at != source && **at != self.hosts[to].address);
                return others.next().map(|other| (*other, message.clone()));
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
                let promise = self.hosts[to].disk.current().promise.clone()?;
                if !is_here {
                    let write = Write::Install { after, entries: Vec::new(), promise };
                    self.hosts[to].disk.write(write);
                }
            }
            _ => {}
        }
        None
    }
}

/// The epoch that an entry would begin.
fn next_epoch(entry: &Entry) -> Option<EpochStart> {
    let text = str::from_utf8(&entry.request.body).ok()?;
    let members = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let view = View::new(entry.view.epoch() + 1, 0);
    Some(EpochStart { view, op: entry.op, digest: entry.digest, members })
}
