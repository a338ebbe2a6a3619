//! Recovery of a replica that has lost its memory (VR Revisited, section 4.3), in volatile mode.
//!
//! The paper's protocol alone is unsafe when recoveries and view changes interleave (Michael and others,
//! "Recovering Shared Objects Without Stable Storage", 2017): a replica may have promised to leave a view and
//! forgotten it. Here the view is on disk before it is promised, and the latest view of a quorum's answers must not be earlier.

use super::{Output, Replica, Status, fetch::Purpose};
use crate::{MEMBERS_MAX, Message, Service, View};
use core::net::SocketAddr;

/// What only a replica without memory knows.
#[derive(Debug)]
pub(super) struct Recovering {
    /// Names this loss: answers to an earlier one do not count.
    nonce: u64,
    /// Views of others, and the commit number, last place and digest of who leads one; by place.
    responses: [Option<Response>; MEMBERS_MAX],
}

type Response = (View, Option<(u64, u64, u64)>);

impl Recovering {
    pub(super) fn new(nonce: u64) -> Self {
        Self { nonce, responses: [None; MEMBERS_MAX] }
    }
}

impl<S: Service> Replica<S> {
    /// Asks everybody where the group is.
    pub(super) fn ask_for_recovery(&mut self, now_us: u64) {
        self.timers.repeat = Some(now_us + self.options.heartbeat_us);
        if let Some(recovering) = &self.recovering {
            let (nonce, view) = (recovering.nonce, self.view);
            self.broadcast(Message::Recovery { nonce, view });
        }
    }

    /// Somebody has lost its memory.
    pub(super) fn on_recovery(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        nonce: u64,
        promised: View,
    ) {
        let is_member = self.place_of(from).is_some();
        if self.status != Status::Normal || !is_member || !self.may_speak() {
            // A former member must hear of the epoch that it is not in.
            return self.teach(from, View::default());
        }
        if self.is_outrun(now_us, promised) {
            return self.catch_up(now_us, promised);
        }
        let leader = self.leading.is_some().then(|| {
            let (head_op, head_digest) = self.head();
            (self.commit, head_op, head_digest)
        });
        let message = Message::RecoveryResponse { view: self.view, nonce, leader };
        self.outputs.push(Output::Send { to: from, message });
    }

    /// Somebody says where the group is.
    pub(super) fn on_recovery_response(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        view: View,
        nonce: u64,
        leader: Option<(u64, u64, u64)>,
    ) {
        let quorum = self.configuration.quorum();
        let Some(place) = self.place_of(from).filter(|_| view.epoch() == self.view.epoch()) else {
            return;
        };
        let Some(recovering) =
            self.recovering.as_mut().filter(|recovering| recovering.nonce == nonce)
        else {
            return;
        };
        recovering.responses[place] = Some((view, leader));
        let responses = recovering.responses.iter().flatten();
        let Some(latest) = responses.clone().map(|(view, _)| *view).max() else { return };
        if responses.count() < quorum || latest < self.view {
            return;
        }
        let leader_place = self.configuration.leader_of(latest);
        let Some((view, Some((commit, head_op, head_digest)))) = recovering.responses[leader_place]
        else {
            return;
        };
        if view == latest {
            let source = self.configuration.members()[leader_place];
            let target = (head_op, Some(head_digest));
            self.start_fetch(now_us, Purpose::Follow(latest), commit, target, vec![source]);
        }
    }
}
