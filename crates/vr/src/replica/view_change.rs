//! Changing views (VR Revisited, section 4.2).
//!
//! Two things differ from the paper. A replica that suspects its leader says so without leaving its view, and
//! leaves only when a quorum would, so that one that flaps disturbs nobody. And votes carry no log: the new
//! leader decides from where logs end what the log of its view is, and fetches what it lacks of it.

use super::{Output, ReadAnswer, Replica, Status, Write, fetch::Purpose};
use crate::{DoViewChange, MEMBERS_MAX, Message, Service, View};
use core::net::SocketAddr;
use std::collections::BTreeSet;

/// The most holes that a vote names. A replica that has more does not vote: its disk is lost.
pub(super) const HOLES_MAX: usize = 128;

/// What is known of who would leave a view.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Suspicions {
    /// The view that this replica wants; none while it hears its leader.
    own: Option<View>,
    /// What others said, by place.
    others: [Option<Suspicion>; MEMBERS_MAX],
}

/// What somebody said who hears no leader.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// It would leave for this view.
    wanted: View,
    /// It can follow nobody in earlier views.
    present: View,
    /// When that was said, in microseconds.
    said_us: u64,
}

/// What only a replica between two views knows.
#[derive(Debug, Default)]
pub(super) struct Changing {
    /// The votes for this replica to lead its view, by place.
    votes: [Option<DoViewChange>; MEMBERS_MAX],
}

/// The log that a view begins with.
#[derive(Debug, PartialEq, Eq)]
struct Canonical {
    head_op: u64,
    commit: u64,
    last_normal: View,
}

/// What the votes of a quorum decide (VR Revisited, section 4.2, step 3, and TigerBeetle's rule for disks that
/// lose what they had: an entry that may have been acknowledged is never given up).
///
/// None while it cannot be decided: too few votes, or an entry that one of them may have had and nobody has.
fn canonical(votes: &[&DoViewChange], quorum: usize, blocking: usize) -> Option<Canonical> {
    if votes.len() < quorum {
        return None;
    }
    let last_normal = votes.iter().map(|vote| vote.last_normal).max()?;
    let commit = votes.iter().map(|vote| vote.commit).max()?;
    // Logs of one view begin alike: one is the beginning of the other.
    let of_view = || votes.iter().filter(|vote| vote.last_normal == last_normal);
    let longest = of_view().map(|vote| vote.head_op).max()?;
    let mut head_op = longest;
    let lost = of_view().flat_map(|vote| vote.holes.iter().copied());
    let lost: BTreeSet<u64> = lost.filter(|op| *op > commit).collect();
    for op in lost {
        let has = |vote: &&&DoViewChange| vote.head_op >= op && !vote.holes.contains(&op);
        if op > head_op || of_view().any(|vote| has(&vote)) {
            continue;
        }
        let lacking = votes.iter().filter(|vote| vote.head_op < op).count();
        if lacking < blocking {
            return None;
        }
        head_op = op - 1;
    }
    Some(Canonical { head_op, commit, last_normal })
}

impl<S: Service> Replica<S> {
    /// The leader has been silent for too long, or the view that should begin does not.
    pub(super) fn suspect(&mut self, now_us: u64) {
        if !matches!(self.status, Status::Normal | Status::ViewChange) {
            return;
        }
        // One whose disk stands still could not vote, and need not disturb those that can.
        if self.is_followed_by_quorum(now_us) || self.is_stalled(now_us) {
            self.timers.suspect = Some(self.suspect_at(now_us));
            return;
        }
        let others = self.suspicions.others.iter().flatten().map(|said| said.wanted);
        let highest = others.filter(|view| view.epoch() == self.view.epoch()).max();
        let wanted = highest.unwrap_or(self.view).max(self.view.next());
        self.suspicions.own = Some(self.suspicions.own.unwrap_or(wanted).max(wanted));
        self.timers.suspect = Some(self.suspect_at(now_us));
        self.say_suspicion(now_us);
        self.consider(now_us);
    }

    /// Says again what is said until the next view begins.
    pub(super) fn repeat(&mut self, now_us: u64) {
        match self.status {
            Status::ViewChange => {
                self.vote(now_us);
                self.say_suspicion(now_us);
                self.consider(now_us);
            }
            Status::Normal if self.suspicions.own.is_some() => {
                self.say_suspicion(now_us);
                self.consider(now_us);
            }
            Status::Recovering => self.ask_for_recovery(now_us),
            Status::Retired => self.teach_successors(now_us),
            Status::Normal | Status::Joining => {}
        }
    }

    fn say_suspicion(&mut self, now_us: u64) {
        self.timers.repeat = Some(now_us + self.options.heartbeat_us);
        if let Some(view) = self.suspicions.own {
            let present = self.view;
            self.broadcast(Message::StartViewChange { view, present });
            if view.epoch() > 0 {
                // Whoever should lead may know of no group.
                self.teach_members();
            }
        }
    }

    /// The leader is there.
    pub(super) fn trusts(&mut self) {
        if self.suspicions.own.take().is_some() && self.status == Status::Normal {
            self.timers.repeat = None;
        }
    }

    /// Somebody would leave its view.
    pub(super) fn on_start_view_change(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        present: View,
    ) {
        let Some(place) = self.place_of(from).filter(|_| view.epoch() == self.view.epoch()) else {
            return self.teach(from, view);
        };
        if view <= self.view {
            return self.teach(from, view);
        }
        self.suspicions.others[place] = Some(Suspicion { wanted: view, present, said_us: now_us });
        if self.is_outrun(now_us, present) {
            return self.catch_up(now_us, present);
        }
        self.consider(now_us);
    }

    /// Whether this replica leads, has for a while, and another member can never follow it: it has left for a
    /// later view.
    pub(super) fn is_outrun(&self, now_us: u64, view: View) -> bool {
        let is_past =
            |leading: &super::Leading| now_us >= leading.began_us + self.options.suspect_us;
        let is_later = view.epoch() == self.view.epoch() && view > self.view;
        is_later && self.leading.as_ref().is_some_and(is_past)
    }

    /// Leaves for a view that every member can enter, and that this replica leads.
    pub(super) fn catch_up(&mut self, now_us: u64, view: View) {
        let mut next = view;
        while Some(self.configuration.leader_of(next)) != self.place {
            next = next.next();
        }
        self.suspicions.own = Some(next);
        self.leave_for(now_us, next);
        self.say_suspicion(now_us);
    }

    /// Leaves the view if a quorum would.
    fn consider(&mut self, now_us: u64) {
        let may_leave = matches!(self.status, Status::Normal | Status::ViewChange);
        if !may_leave || now_us < self.promised_until_us {
            return;
        }
        let mut wanted: Vec<View> = self.fresh_suspicions(now_us).map(|said| said.wanted).collect();
        wanted.push(self.suspicions.own.unwrap_or(self.view));
        wanted.sort_unstable_by(|one, other| other.cmp(one));
        if let Some(view) = wanted.get(self.configuration.quorum() - 1).copied()
            && view > self.view
            && view.epoch() == self.view.epoch()
        {
            self.leave_for(now_us, view);
        }
    }

    /// What others said lately.
    fn fresh_suspicions(&self, now_us: u64) -> impl Iterator<Item = Suspicion> {
        let fresh_us = now_us.saturating_sub(2 * self.options.suspect_us);
        let others = self.suspicions.others.iter().enumerate();
        let others = others.filter(|(place, _)| Some(*place) != self.place);
        others.filter_map(move |(_, said)| said.filter(|said| said.said_us >= fresh_us))
    }

    /// Leaves all views before `view`.
    pub(super) fn leave_for(&mut self, now_us: u64, view: View) {
        assert!(view > self.view, "views never go back");
        self.view = view;
        self.status = Status::ViewChange;
        self.changing = Some(Changing::default());
        self.stop_leading();
        (self.fetch, self.incoming) = (None, None);
        self.ahead.clear();
        self.owes_acknowledgement = false;
        let promise = self.promise();
        self.promise_write = self.outputs.write(Write::Promise(promise));
        (self.timers.heartbeat, self.timers.resend, self.timers.fetch) = (None, None, None);
        self.timers.suspect = Some(self.suspect_at(now_us));
        self.timers.repeat = Some(now_us + self.options.heartbeat_us);
        self.vote(now_us);
    }

    /// Ends this replica's lead, if it leads.
    pub(super) fn stop_leading(&mut self) {
        if let Some(leading) = self.leading.take() {
            for id in leading.reads.drain() {
                self.outputs.push(Output::Read { id, answer: ReadAnswer::NotLeader(None) });
            }
        }
    }

    /// Votes for the leader of the view, once it is certain that nothing is acknowledged in earlier ones.
    pub(super) fn vote(&mut self, now_us: u64) {
        let is_between = self.status == Status::ViewChange && self.fetch.is_none();
        if !is_between || !self.may_speak() || self.log.holes().len() > HOLES_MAX {
            return;
        }
        let vote = DoViewChange {
            view: self.view,
            last_normal: self.last_normal,
            commit: self.commit,
            head_op: self.log.head_op(),
            holes: self.log.holes().iter().copied().collect(),
        };
        if self.leads() {
            self.count(now_us, self.place.expect("a leader has a place"), vote);
        } else {
            let place = self.configuration.leader_of(self.view);
            self.send(place, Message::DoViewChange(vote));
        }
    }

    /// Somebody votes for this replica.
    pub(super) fn on_do_view_change(&mut self, now_us: u64, from: SocketAddr, vote: DoViewChange) {
        let Some(place) = self.place_of(from).filter(|_| vote.view.epoch() == self.view.epoch())
        else {
            return self.teach(from, vote.view);
        };
        if vote.view < self.view || Some(self.configuration.leader_of(vote.view)) != self.place {
            return self.teach(from, vote.view);
        }
        let may_leave = matches!(self.status, Status::Normal | Status::ViewChange);
        let furthest = self.fresh_suspicions(now_us).map(|said| said.present).max();
        if let Some(furthest) = furthest.filter(|furthest| *furthest > vote.view && may_leave)
            && vote.view > self.view
        {
            // Somebody could not follow: better a view that all can enter.
            self.suspicions.own = self.suspicions.own.max(Some(furthest));
            self.say_suspicion(now_us);
            return self.consider(now_us);
        }
        if vote.view > self.view && may_leave && now_us >= self.promised_until_us {
            // A quorum would leave, or there would be no vote.
            self.leave_for(now_us, vote.view);
        }
        if vote.view == self.view && self.status == Status::ViewChange {
            self.count(now_us, place, vote);
        } else if vote.view == self.view && self.leading.is_some() {
            self.announce(place);
        }
    }

    /// Counts a vote, and begins to lead if that decides.
    fn count(&mut self, now_us: u64, place: usize, vote: DoViewChange) {
        let (quorum, blocking) = (self.configuration.quorum(), self.configuration.blocking());
        let own = self.place.expect("votes are for members");
        if self.fetch.is_some() {
            return;
        }
        let Some(changing) = self.changing.as_mut() else { return };
        changing.votes[place] = Some(vote);
        if changing.votes[own].is_none() {
            return;
        }
        let votes: Vec<&DoViewChange> = changing.votes.iter().flatten().collect();
        let Some(Canonical { head_op, commit, last_normal }) = canonical(&votes, quorum, blocking)
        else {
            return;
        };
        let is_of_view = |vote: &DoViewChange| vote.last_normal == last_normal;
        let mut sources: Vec<(u64, usize)> = Vec::new();
        for (place, vote) in changing.votes.iter().enumerate() {
            if let Some(vote) = vote.as_ref().filter(|vote| is_of_view(vote)) {
                sources.push((vote.head_op, place));
            }
        }
        sources.sort_unstable_by(|one, other| other.cmp(one));
        // Logs of one view begin alike.
        let is_own = changing.votes[own].as_ref().is_some_and(is_of_view);
        let have_op = if is_own { self.log.whole_op().min(head_op) } else { 0 };
        let members = self.configuration.members();
        let others = sources.iter().filter(|(_, place)| *place != own);
        let sources: Vec<_> = others.map(|(_, place)| members[*place]).collect();
        if sources.is_empty() && have_op < head_op {
            // Only this replica has voted with that log, and its disk has lost some of it: the next vote may help.
            return;
        }
        self.fetch_to_lead(now_us, commit, (head_op, have_op), sources);
    }

    /// The leader of a view has its log.
    pub(super) fn on_start_view(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        commit: u64,
        (head_op, head_digest): (u64, u64),
    ) {
        let Some(place) = self.place_of(from).filter(|_| view.epoch() == self.view.epoch()) else {
            return self.teach(from, view);
        };
        if view < self.view
            || place != self.configuration.leader_of(view)
            || Some(place) == self.place
        {
            return self.teach(from, view);
        }
        if view == self.view && self.status == Status::Normal {
            self.heard(now_us);
            self.owes_acknowledgement = true;
            return;
        }
        let may_enter = matches!(self.status, Status::Normal | Status::ViewChange);
        if !may_enter {
            return;
        }
        // No promise is in the way: a quorum has left the earlier views, so no lease of theirs goes on.
        if view > self.view {
            self.leave_for(now_us, view);
        }
        self.timers.suspect = Some(self.suspect_at(now_us));
        self.start_fetch(
            now_us,
            Purpose::Follow(view),
            commit,
            (head_op, Some(head_digest)),
            vec![from],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(last_normal: u64, commit: u64, head_op: u64, holes: &[u64]) -> DoViewChange {
        let (view, last_normal) = (View::new(0, 9), View::new(0, last_normal));
        DoViewChange { view, last_normal, commit, head_op, holes: holes.to_vec() }
    }

    fn head(votes: &[DoViewChange], members: usize) -> Option<u64> {
        let votes: Vec<_> = votes.iter().collect();
        let quorum = members / 2 + 1;
        canonical(&votes, quorum, members - quorum + 1).map(|canonical| canonical.head_op)
    }

    #[test]
    fn the_longest_log_of_the_last_view_wins_not_the_longest_of_all() {
        assert_eq!(head(&[vote(3, 0, 5, &[]), vote(2, 0, 9, &[])], 3), Some(5));
        assert_eq!(head(&[vote(3, 0, 5, &[]), vote(3, 0, 7, &[])], 3), Some(7));
        assert_eq!(head(&[vote(3, 0, 5, &[])], 3), None, "no quorum");
    }

    #[test]
    fn an_entry_that_one_disk_lost_is_taken_from_another() {
        assert_eq!(head(&[vote(3, 2, 5, &[4]), vote(3, 2, 4, &[])], 3), Some(5));
    }

    #[test]
    fn an_entry_that_may_have_been_acknowledged_is_not_given_up() {
        // The third one may have it.
        assert_eq!(head(&[vote(3, 2, 5, &[4]), vote(3, 2, 3, &[])], 3), None);
        // A quorum cannot have had it.
        assert_eq!(
            head(&[vote(3, 2, 5, &[4]), vote(3, 2, 3, &[]), vote(3, 2, 3, &[])], 3),
            Some(3)
        );
        // One that lost it, too, does not count as one that never had it.
        assert_eq!(head(&[vote(3, 2, 5, &[4]), vote(3, 2, 4, &[4]), vote(3, 2, 3, &[])], 3), None);
        assert_eq!(head(&[vote(3, 2, 5, &[5]), vote(3, 2, 4, &[]), vote(2, 2, 2, &[])], 5), None);
        let all = [vote(3, 2, 5, &[5]), vote(3, 2, 4, &[]), vote(2, 2, 2, &[]), vote(2, 2, 2, &[])];
        assert_eq!(head(&all, 5), Some(4));
    }

    #[test]
    fn a_committed_entry_is_kept_wherever_it_was_lost() {
        assert_eq!(head(&[vote(3, 5, 5, &[4]), vote(3, 3, 3, &[])], 3), Some(5));
    }
}
