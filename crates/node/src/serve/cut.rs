//! Ending a connection from outside of its task.

use futures_util::task::AtomicWaker;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::Context,
};

/// Tells the task that serves a connection to reset it.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    is_cut: AtomicBool,
    /// The connection's task.
    task: AtomicWaker,
}

impl Cut {
    /// Resets the connection, if it is still served.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.task.wake();
    }

    /// Whether the connection must be reset. The task is woken when it must.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        // Registered first: a cut in between is seen below.
        self.task.register(context.waker());
        self.is_cut.load(Relaxed)
    }

    /// Whether the connection must be reset.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }
}
