//! What becomes of clients' frames.

use super::*;
use proptest::prelude::*;

const NOW_NS: u64 = 10 * SECOND_NS;

fn judged(entry: Entry, tcp_flags: u8) -> Judgement {
    judge(&EntryOrNone::some(entry), identity(&flow(1)), OWN, tcp_flags, NOW_NS)
}

#[test]
fn a_flow_in_the_table_goes_to_its_owner() {
    let entry = entry(&flow(1), ONE, 1);
    for tcp_flags in [TCP_ACK, TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK | TCP_FIN, TCP_RST] {
        assert_eq!(judged(entry, tcp_flags).verdict, Verdict::Steer(ONE.mac), "{tcp_flags:#x}");
    }
}

#[test]
fn a_flow_of_this_host_or_of_nobody_passes() {
    let owned_here = entry(&flow(1), Owner { mac: OWN, id: 9 }, 3);
    let judgement = judged(owned_here, TCP_ACK | TCP_FIN);
    assert_eq!(judgement.verdict, Verdict::Pass(PassReason::OwnedHere));
    assert!(judgement.close && judgement.touch);
    let judgement = judge(&EntryOrNone::NONE, identity(&flow(1)), OWN, TCP_FIN, NOW_NS);
    assert_eq!(judgement.verdict, Verdict::Pass(PassReason::NoFlow));
    assert!(!judgement.close && !judgement.touch);
}

#[test]
fn an_entry_whose_memory_went_to_another_flow_is_none() {
    let judgement = judged(entry(&flow(2), TWO, 1), TCP_RST);
    assert_eq!(judgement.verdict, Verdict::Pass(PassReason::NoFlow));
    assert!(!judgement.close && !judgement.touch);
}

#[test]
fn the_end_of_a_connection_is_seen_once() {
    let open = entry(&flow(1), ONE, 1);
    let closing = Entry { closing: 1, ..open };
    for tcp_flags in [TCP_FIN | TCP_ACK, TCP_RST, TCP_RST | TCP_ACK] {
        assert!(judged(open, tcp_flags).close);
        assert!(!judged(closing, tcp_flags).close);
        assert_eq!(judged(closing, tcp_flags).verdict, Verdict::Steer(ONE.mac));
    }
    assert!(!judged(open, TCP_ACK).close);
}

#[test]
fn a_syn_after_the_end_belongs_to_this_host() {
    let closing = Entry { closing: 1, ..entry(&flow(1), ONE, 1) };
    assert_eq!(judged(closing, TCP_SYN).verdict, Verdict::PassAndForget);
    // Flags of the sender's own choice, as congestion notification sets them, change nothing.
    assert_eq!(judged(closing, TCP_SYN | 0xc0).verdict, Verdict::PassAndForget);
    for tcp_flags in [TCP_ACK, TCP_SYN | TCP_ACK, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN] {
        assert_eq!(judged(closing, tcp_flags).verdict, Verdict::Steer(ONE.mac), "{tcp_flags:#x}");
    }
}

#[test]
fn busy_flows_are_stamped_now_and_then() {
    let at = |last_seen_ns| Entry { last_seen_ns, ..entry(&flow(1), ONE, 1) };
    assert!(judged(at(NOW_NS - TOUCH_INTERVAL_NS), TCP_ACK).touch);
    assert!(!judged(at(NOW_NS - TOUCH_INTERVAL_NS + 1), TCP_ACK).touch);
    // Clocks of two CPUs differ a little.
    assert!(!judged(at(NOW_NS + 5), TCP_ACK).touch);
}

#[test]
fn every_counter_has_its_own_name_and_number() {
    let mut counters = Counters::default();
    for (index, counter) in Counter::ALL.into_iter().enumerate() {
        assert_eq!(counter as usize, index);
        counters.count(counter);
        assert_eq!(counters.get(counter), 1, "{}", counter.name());
    }
    assert!(counters.iter().all(|(_, count)| count == 1));
    assert!(counters.plus(counters).iter().all(|(_, count)| count == 2));
    let mut names: std::vec::Vec<_> = Counter::ALL.map(Counter::name).into();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Counter::ALL.len());
}

proptest! {
    #[test]
    fn an_owner_survives_its_one_word(mac: [u8; 6], id: u16) {
        let owner = Owner { mac: MacAddress(mac), id };
        prop_assert_eq!(Owner::from_bits(owner.to_bits()), owner);
    }

    #[test]
    fn a_frame_never_goes_anywhere_but_to_the_owner(mac: [u8; 6], tcp_flags: u8, closing in 0..2_u32) {
        let owner = Owner { mac: MacAddress(mac), id: 1 };
        let entry = Entry { closing, ..entry(&flow(1), owner, 1) };
        match judged(entry, tcp_flags).verdict {
            Verdict::Steer(to) => prop_assert!(to == owner.mac && to != OWN),
            Verdict::Pass(reason) => prop_assert!(reason == PassReason::OwnedHere && owner.mac == OWN),
            Verdict::PassAndForget => prop_assert!(closing == 1),
        }
    }
}
