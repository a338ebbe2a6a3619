//! What a process does when the operating system tells it something.

use crate::run::{NodeError, Process};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGTERM or SIGINT, then finishes what is under way and ends; a second one ends at
/// once. SIGHUP reads certificates again.
///
/// # Errors
/// When signals cannot be waited for, or requests were still under way at the end of the drain.
pub fn run_until_stopped(process: Process) -> Result<(), NodeError> {
    let refused = |source| NodeError::System { what: "cannot wait for signals", source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(refused)?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::new().map_err(refused)?
    };
    while runtime.block_on(signals.next()) == Event::Reload {
        process.reload();
    }
    tracing::info!("draining");
    std::thread::spawn(move || {
        runtime.block_on(async { while signals.next().await == Event::Reload {} });
        tracing::warn!("told again to end: requests under way are cut off");
        std::process::exit(1);
    });
    if process.stop() {
        tracing::info!("drained");
    } else {
        tracing::warn!("requests were still under way at the end of the drain time-out");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hangup.recv() => Event::Reload,
        }
    }
}
