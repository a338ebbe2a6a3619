//! The thread that writes journals.

use crate::{AbortOnPanic, Journal, JournalError, NodeStats};
use ashlar_vr::Write;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// After so long without a write, journals are told that they rest.
const REST_TIME: Duration = Duration::from_millis(10);
/// No more writes are taken to share a sync when there are so many: a bound for how long the first of them waits.
const BATCH_FULL: usize = 4_096;

/// A write of a group.
struct Job {
    /// The group's place at its node.
    group: usize,
    number: u64,
    write: Write,
}

/// What became of a group's writes.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) group: usize,
    /// Everything up to this write is persistent.
    pub(crate) result: Result<u64, JournalError>,
}

/// Writes journals, and tells by an event when something is persistent.
pub(crate) struct Writer {
    jobs: Option<Sender<Vec<Job>>>,
    /// Not handed to the thread yet: it would begin with the first, and what came after would wait for another sync.
    waiting: Vec<Job>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    finished: Mutex<Vec<Finished>>,
    event: OwnedFd,
}

impl Writer {
    /// Begins to write these journals; groups without one have none.
    pub(crate) fn start(
        journals: Vec<Option<Box<dyn Journal>>>,
        stats: Arc<NodeStats>,
    ) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared { finished: Mutex::default(), event });
        let (jobs, orders) = channel();
        let told = Arc::clone(&shared);
        let thread = thread::Builder::new().name("journals".into()).spawn(move || {
            let _guard = AbortOnPanic;
            write_all(journals, &orders, &told, &stats);
        })?;
        Ok(Self { jobs: Some(jobs), waiting: Vec::new(), shared, thread: Some(thread) })
    }

    /// Readable when there is something for [`Writer::take_finished`].
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.shared.event
    }

    /// Orders a write, for the next [`Writer::hand_over`].
    pub(crate) fn write(&mut self, group: usize, number: u64, write: Write) {
        // What waits is bounded: a replica takes no entries when much of its log is not persistent.
        self.waiting.push(Job { group, number, write });
    }

    /// Has what was ordered written, by as few syncs as there can be.
    pub(crate) fn hand_over(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let jobs = self.jobs.as_ref().expect("it is taken on the drop only");
        jobs.send(std::mem::take(&mut self.waiting)).expect("the writer ends after its orders");
    }

    /// Puts what became of writes since the last call into `finished`, which is empty.
    pub(crate) fn take_finished(&self, finished: &mut Vec<Finished>) {
        assert!(finished.is_empty(), "what came before was looked at");
        let mut count = [0; 8];
        // Empty if somebody has asked already.
        let _ = rustix::io::read(&self.shared.event, &mut count);
        std::mem::swap(&mut *self.shared.finished(), finished);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Everything that was ordered is written before.
        self.hand_over();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic has ended the process");
        }
    }
}

impl Shared {
    fn finished(&self) -> MutexGuard<'_, Vec<Finished>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, finished: &mut Vec<Finished>) {
        self.finished().append(finished);
        // Full only if nobody looked for ages: then it is readable anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

fn write_all(
    mut journals: Vec<Option<Box<dyn Journal>>>,
    orders: &Receiver<Vec<Job>>,
    shared: &Shared,
    stats: &NodeStats,
) {
    let mut rests = true;
    // By group, and what is told of them.
    let mut results: Vec<Option<Result<u64, JournalError>>> = Vec::new();
    results.resize_with(journals.len(), || None);
    let mut finished = Vec::new();
    loop {
        let jobs = match orders.recv_timeout(REST_TIME) {
            Ok(jobs) => jobs,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if !std::mem::replace(&mut rests, true) {
                    for journal in journals.iter_mut().flatten() {
                        // A journal that failed has said so before, or will at its next write.
                        let _ = journal.rest();
                    }
                }
                continue;
            }
        };
        rests = false;
        let mut count = 0;
        let mut waiting = Some(jobs);
        while let Some(jobs) = waiting {
            count += jobs.len();
            for Job { group, number, write } in jobs {
                let Some(journal) = &mut journals[group] else {
                    results[group] = Some(Ok(number));
                    continue;
                };
                if !matches!(results[group], Some(Err(_))) {
                    results[group] = Some(journal.append(&write).map(|()| number));
                }
            }
            waiting = if count < BATCH_FULL { orders.try_recv().ok() } else { None };
        }
        let mut syncs = 0;
        for (group, result) in results.iter_mut().enumerate() {
            let Some(result) = result.take() else { continue };
            let result = match (&mut journals[group], result) {
                (Some(journal), Ok(number)) => {
                    syncs += 1;
                    journal.sync().map(|()| number)
                }
                (_, result) => result,
            };
            finished.push(Finished { group, result });
        }
        stats.writes.fetch_add(count as u64, Relaxed);
        stats.syncs.fetch_add(syncs, Relaxed);
        shared.tell(&mut finished);
    }
}
