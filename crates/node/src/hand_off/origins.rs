//! The front ends that connections came from.

use super::lock;
use crate::threads::{Shutdown, ShutdownTrigger};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// The front ends whose connections a process can tell apart.
pub(super) const ORIGINS_MAX: usize = 1024;

/// Front ends, by the number that connections carry.
pub(super) struct Origins(Mutex<List>);

struct List {
    /// The first is this process.
    origins: Vec<Arc<Origin>>,
    /// This process drains: connections of all origins end.
    drains: bool,
}

/// A front end that connections came from.
pub(super) struct Origin {
    pub(super) name: String,
    /// Where its steering takes control datagrams.
    pub(super) steering: SocketAddr,
    life: Mutex<Life>,
}

/// From a front end's start to its end.
struct Life {
    /// Ends its connections here.
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    /// It has said that it is about to end.
    drains: bool,
    /// Names its process; none before it has greeted.
    incarnation: Option<u64>,
    /// Its connections here.
    open: Arc<Open>,
}

/// Connections that are open.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    none: Notify,
}

/// A connection of an origin, as long as it is served here.
pub(crate) struct OriginGuard(Arc<Open>);

impl Origins {
    /// This process is the first one.
    pub(super) fn new(name: &str, steering: SocketAddr) -> Self {
        let origins = vec![Arc::new(Origin::new(name, steering))];
        Self(Mutex::new(List { origins, drains: false }))
    }

    /// The number of a front end; none if there are too many.
    pub(super) fn number(&self, name: &str, steering: SocketAddr) -> Option<u16> {
        let mut list = lock(&self.0);
        let is_it = |known: &Arc<Origin>| known.name == name && known.steering == steering;
        let known = list.origins.iter().position(is_it);
        let number = known.or_else(|| {
            (list.origins.len() < ORIGINS_MAX).then(|| {
                let origin = Origin::new(name, steering);
                if list.drains {
                    lock(&origin.life).trigger.drain();
                }
                list.origins.push(Arc::new(origin));
                list.origins.len() - 1
            })
        })?;
        Some(number as u16)
    }

    pub(super) fn get(&self, number: u16) -> Arc<Origin> {
        Arc::clone(&lock(&self.0).origins[usize::from(number)])
    }

    /// This process drains: the connections of all front ends end here, or go on elsewhere.
    pub(super) fn drain(&self) {
        let mut list = lock(&self.0);
        list.drains = true;
        list.origins.iter().for_each(|origin| lock(&origin.life).trigger.drain());
    }

    /// A process of this front end greets.
    pub(super) fn begin(&self, name: &str, steering: SocketAddr, incarnation: u64) {
        if let Some(number) = self.number(name, steering) {
            let origin = self.get(number);
            let mut life = lock(&origin.life);
            if life.drains && life.incarnation != Some(incarnation) {
                *life = Life::new();
            }
            life.incarnation = Some(incarnation);
        }
    }
}

impl Origin {
    fn new(name: &str, steering: SocketAddr) -> Self {
        Self { name: name.into(), steering, life: Mutex::new(Life::new()) }
    }

    /// For one more connection: what tells it to end, and what it holds until then. None if no more may
    /// come, because the front end is about to end.
    pub(super) fn admit(&self) -> Option<(Shutdown, OriginGuard)> {
        let life = lock(&self.life);
        if life.drains {
            return None;
        }
        life.open.count.fetch_add(1, Ordering::Relaxed);
        Some((life.shutdown.clone(), OriginGuard(Arc::clone(&life.open))))
    }

    /// Whether the front end is about to end: nothing can go back to it.
    pub(super) fn drains(&self) -> bool {
        lock(&self.life).drains
    }

    /// Ends the front end's connections here after their present responses, and waits for that.
    pub(super) async fn drain(&self) {
        let open = {
            let mut life = lock(&self.life);
            life.drains = true;
            life.trigger.drain();
            Arc::clone(&life.open)
        };
        loop {
            let none = open.none.notified();
            tokio::pin!(none);
            // Waited for before the count is read: the last one may end in between.
            none.as_mut().enable();
            if open.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Life {
    fn new() -> Self {
        let (trigger, shutdown) = ShutdownTrigger::new();
        Self { trigger, shutdown, drains: false, incarnation: None, open: Arc::default() }
    }
}

impl Drop for OriginGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures_util::FutureExt;

    fn steering() -> SocketAddr {
        "10.0.0.1:7471".parse().unwrap()
    }

    #[tokio::test]
    async fn a_draining_front_end_waits_for_its_connections_and_gets_no_more() {
        let origins = Origins::new("here", steering());
        let number = origins.number("fe", steering()).unwrap();
        assert_eq!(origins.number("fe", steering()), Some(number));
        let origin = origins.get(number);
        origins.begin("fe", steering(), 1);
        let (shutdown, guard) = origin.admit().unwrap();
        let mut drain = Box::pin(origin.drain());
        assert!(drain.as_mut().now_or_never().is_none());
        assert!(shutdown.is_draining() && origin.drains() && origin.admit().is_none());
        drop(guard);
        drain.await;
        assert!(!origins.get(0).drains());

        // It greets on one more channel.
        origins.begin("fe", steering(), 1);
        assert!(origin.drains());
        origins.begin("fe", steering(), 2);
        let (shutdown, _guard) = origin.admit().unwrap();
        assert!(!shutdown.is_draining());
    }

    #[test]
    fn a_draining_process_ends_the_connections_of_every_origin() {
        let origins = Origins::new("here", steering());
        let (shutdown, _guard) = origins.get(0).admit().unwrap();
        origins.drain();
        let later = origins.number("fe", steering()).unwrap();
        assert!(shutdown.is_draining());
        assert!(origins.get(later).admit().unwrap().0.is_draining());
        assert!(!origins.get(later).drains(), "connections can go back to it");
    }
}
