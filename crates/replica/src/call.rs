//! What is asked of a node's thread by others.

use crate::{Offload, offload::Shared};
use ashlar_kernel::replication::Bell;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
};

/// Something to do.
pub(crate) enum Call {
    /// The thread ends.
    Stop,
    /// Programs ring this bell from now on.
    Ring(Bell),
    /// Programs do this for the replica of the group at `place`.
    Switch {
        place: usize,
        offload: Offload,
        /// The memory that they share with it, if it has none yet.
        shared: Option<Shared>,
        /// The socket sends datagrams one by one from now on, and not as trains.
        is_single: bool,
        /// Hears when that is done, and whether it is so.
        done: SyncSender<bool>,
    },
}

/// Asks.
pub(crate) struct Caller {
    calls: Sender<Call>,
    event: Arc<OwnedFd>,
}

/// Is asked.
pub(crate) struct Called {
    calls: Receiver<Call>,
    event: Arc<OwnedFd>,
}

pub(crate) fn pair() -> io::Result<(Caller, Called)> {
    let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (calls, asked) = mpsc::channel();
    Ok((Caller { calls, event: Arc::clone(&event) }, Called { calls: asked, event }))
}

impl Caller {
    /// Asks for something. A thread that has ended does nothing.
    pub(crate) fn call(&self, call: Call) {
        // Without a receiver there is nobody to wake either.
        if self.calls.send(call).is_ok() {
            // It can only be full of calls that are not answered yet.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

impl Called {
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The next call; none if all are answered.
    pub(crate) fn next(&self) -> Option<Call> {
        let call = self.calls.try_recv().ok();
        if call.is_none() {
            // What is called from here on writes to it again, and the look behind it sees what came before.
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
            return self.calls.try_recv().ok();
        }
        call
    }
}
