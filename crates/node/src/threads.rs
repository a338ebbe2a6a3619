//! Event-loop threads and the signal that ends them.
//!
//! A role runs on a fixed number of threads, each with an event loop of its own: a connection lives
//! on one thread from its first byte to its last, and nothing on a request's path crosses threads.

use ashlar_replica::AbortOnPanic;
use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::{oneshot, watch},
};

/// A fixed set of threads, each with an event loop.
pub(crate) struct Threads {
    loops: Vec<EventLoop>,
    /// Every task that must end by itself holds a clone: all are done when receiving fails.
    running: Mutex<Running>,
}

struct Running {
    guard: mpsc::Sender<Never>,
    ended: mpsc::Receiver<Never>,
}

enum Never {}

struct EventLoop {
    handle: Handle,
    /// Sent to, or dropped, when the loop must end; its remaining tasks are dropped.
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Threads {
    /// Starts `count` threads named `name-0`, `name-1`, …
    ///
    /// # Errors
    /// When the system refuses a thread or an event loop.
    pub(crate) fn start(name: &str, count: usize) -> io::Result<Self> {
        assert!(count > 0, "a role needs a thread");
        let loops = (0..count)
            .map(|index| EventLoop::start(&format!("{name}-{index}")))
            .collect::<io::Result<_>>()?;
        let (guard, ended) = mpsc::channel();
        Ok(Self { loops, running: Mutex::new(Running { guard, ended }) })
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.loops.len()
    }

    /// The event loop of thread `index`.
    pub(crate) fn handle(&self, index: usize) -> Handle {
        self.loops[index].handle.clone()
    }

    /// Runs `task` on thread `index`; [`Threads::join`] waits for its end.
    ///
    /// The task must end when its role drains. A panic in it ends the process: half a role would
    /// look alive and serve nobody.
    pub(crate) fn spawn(&self, index: usize, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner).guard.clone();
        self.spawn_background(index, async move {
            task.await;
            drop(guard);
        });
    }

    /// As [`Threads::spawn`], for a task that [`Threads::join`] drops instead of waiting for it.
    pub(crate) fn spawn_background(
        &self,
        index: usize,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.loops[index].handle.spawn(async move {
            let abort = AbortOnPanic;
            task.await;
            drop(abort);
        });
    }

    /// Waits until all spawned tasks have ended, at most `timeout`, then ends the threads. What
    /// still runs then is dropped. Gives whether everything had ended.
    pub(crate) fn join(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let Running { guard, ended } =
            self.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(guard);
        let left = deadline.saturating_duration_since(Instant::now());
        let all_ended =
            matches!(ended.recv_timeout(left), Err(mpsc::RecvTimeoutError::Disconnected));
        for EventLoop { handle, stop, thread } in self.loops {
            drop(handle);
            drop(stop);
            // An event loop's thread runs nothing that panics outside of a task.
            thread.join().expect("an event loop ends without a panic");
        }
        all_ended
    }
}

impl EventLoop {
    fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            // Both a message and a dropped sender mean the end.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop, thread })
    }
}

/// Tells everybody who holds a clone that the process drains: take nothing new, finish what is
/// under way.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// Read on every turn of every connection: cheaper than asking the channel.
    drains: Arc<AtomicBool>,
    /// Closes when the drain starts.
    trigger: watch::Receiver<()>,
}

/// Starts the drain. Dropping it does as well.
#[derive(Debug)]
pub(crate) struct ShutdownTrigger {
    drains: Arc<AtomicBool>,
    /// Dropped at the start of the drain.
    signal: Mutex<Option<watch::Sender<()>>>,
}

impl Shutdown {
    /// Whether the drain has started.
    pub(crate) fn is_draining(&self) -> bool {
        self.drains.load(Relaxed)
    }

    /// Waits for the start of the drain.
    pub(crate) async fn draining(mut self) {
        // The only change there can be is the end of the channel.
        while self.trigger.changed().await.is_ok() {}
    }
}

impl ShutdownTrigger {
    /// A trigger and its signal.
    pub(crate) fn new() -> (Self, Shutdown) {
        let drains = Arc::new(AtomicBool::new(false));
        let (signal, trigger) = watch::channel(());
        let shutdown = Shutdown { drains: Arc::clone(&drains), trigger };
        (Self { drains, signal: Mutex::new(Some(signal)) }, shutdown)
    }

    /// Starts the drain.
    pub(crate) fn drain(&self) {
        self.drains.store(true, Relaxed);
        *self.signal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.drain();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_drain_reaches_every_thread_and_join_waits_for_them() {
        let threads = Threads::start("test", 2).unwrap();
        let (trigger, shutdown) = ShutdownTrigger::new();
        let (sender, receiver) = mpsc::channel();
        for index in 0..threads.count() {
            let (shutdown, sender) = (shutdown.clone(), sender.clone());
            threads.spawn(index, async move {
                shutdown.draining().await;
                let name = thread::current().name().map(String::from);
                sender.send(name.unwrap()).unwrap();
            });
        }
        assert!(!shutdown.is_draining());
        assert!(receiver.try_recv().is_err());
        trigger.drain();
        assert!(shutdown.is_draining());
        assert!(threads.join(Duration::from_secs(60)));
        let mut names: Vec<_> = receiver.try_iter().collect();
        names.sort();
        assert_eq!(names, ["test-0", "test-1"]);
    }

    #[test]
    fn join_gives_up_on_a_task_that_does_not_end() {
        let threads = Threads::start("test", 1).unwrap();
        threads.spawn(0, std::future::pending());
        assert!(!threads.join(Duration::from_millis(1)));
    }

    #[test]
    fn background_tasks_are_not_waited_for() {
        let threads = Threads::start("test", 1).unwrap();
        threads.spawn_background(0, std::future::pending());
        assert!(threads.join(Duration::from_secs(60)));
    }

    #[test]
    fn a_dropped_trigger_drains() {
        let (trigger, shutdown) = ShutdownTrigger::new();
        drop(trigger);
        assert!(shutdown.is_draining());
    }
}
