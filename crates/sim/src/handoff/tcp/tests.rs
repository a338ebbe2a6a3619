//! Two ends over a line that loses what a test wants.

use super::*;

const SIZES: Sizes =
    Sizes { queue_bytes_max: 10_000, receive_bytes_max: 4_000, first_pause_us: 1_000 };

/// A client and a service; time passes by hand.
struct Pair {
    client: Tcp,
    service: Tcp,
    now_us: u64,
}

impl Pair {
    fn connected() -> Self {
        let mut client = Tcp::connect(0, 0, u32::MAX - 10, SIZES);
        let syn = client.take_outbox().remove(0);
        let service = Tcp::accept(0, &syn, 77, SIZES);
        let mut pair = Self { client, service, now_us: 0 };
        pair.talk();
        assert_eq!((pair.client.state, pair.service.state), (State::Open, State::Open));
        pair
    }

    /// Delivers until both are silent.
    fn talk(&mut self) {
        loop {
            let (to_service, to_client) = (self.client.take_outbox(), self.service.take_outbox());
            if to_service.is_empty() && to_client.is_empty() {
                return;
            }
            to_service.iter().for_each(|segment| self.service.receive(self.now_us, segment));
            to_client.iter().for_each(|segment| self.client.receive(self.now_us, segment));
        }
    }

    /// All that both have sent is lost, then their timers fire.
    fn lose_and_wait(&mut self) {
        drop((self.client.take_outbox(), self.service.take_outbox()));
        self.now_us += PAUSE_US_MAX;
        self.client.timeout(self.now_us);
        self.service.timeout(self.now_us);
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|place| (place * 7 % 251) as u8).collect()
}

#[test]
fn bytes_arrive_in_order_whatever_is_lost_and_however_small_the_window_is() {
    let mut pair = Pair::connected();
    let sent = bytes(9_000);
    assert_eq!(pair.client.write(0, &sent), sent.len());
    let mut received = Vec::new();
    while received.len() < sent.len() {
        pair.lose_and_wait();
        pair.talk();
        received.extend(pair.service.read(1_000));
        pair.talk();
    }
    assert_eq!(received, sent);
}

#[test]
fn both_ends_finish_and_the_first_waits() {
    let mut pair = Pair::connected();
    pair.client.finish(0);
    pair.talk();
    assert!(pair.service.peer_finished);
    pair.service.finish(0);
    pair.talk();
    assert_eq!(pair.service.state, State::Gone(End::Closed));
    assert_eq!(pair.client.state, State::TimeWait);
    pair.client.timeout(TIME_WAIT_US);
    assert_eq!(pair.client.state, State::Gone(End::Closed));
}

#[test]
fn only_a_reset_with_the_very_next_sequence_number_ends_a_connection() {
    let mut pair = Pair::connected();
    let mut reset = pair.service.segment(pair.service.next).reset();
    reset.sequence = reset.sequence.wrapping_add(1);
    pair.client.receive(0, &reset);
    assert_eq!(pair.client.state, State::Open);
    assert_eq!(pair.client.take_outbox().len(), 1, "it is challenged");
    let reset = pair.service.abort();
    pair.client.receive(0, &reset);
    assert_eq!(pair.client.state, State::Gone(End::Reset));
}

#[test]
fn an_imported_end_goes_on_where_the_exported_one_stopped() {
    let mut pair = Pair::connected();
    pair.service.write(0, &bytes(3_000));
    pair.service.take_outbox();
    pair.client.write(0, b"unread");
    pair.talk();
    let local = "10.0.0.1:80".parse().expect("an address");
    let peer = "10.0.0.2:5000".parse().expect("an address");
    let (image, unread) = pair.service.export(local, peer);
    assert_eq!(unread, b"unread");
    assert_eq!(image.send_queue.len(), 3_000);
    pair.service = Tcp::import(0, 0, &image, false, SIZES);
    assert_eq!(pair.service.take_outbox(), [], "it is mute");
    pair.service.probe(0);
    pair.talk();
    pair.lose_and_wait();
    pair.talk();
    assert_eq!(pair.client.read(usize::MAX), bytes(3_000));
}

#[test]
fn a_client_that_begins_anew_gets_rid_of_the_old_connection() {
    let mut pair = Pair::connected();
    pair.client = Tcp::connect(0, 0, 5_000_000, SIZES);
    pair.now_us = CHALLENGE_INTERVAL_US;
    pair.talk();
    assert_eq!(pair.service.state, State::Gone(End::Reset));
}
