//! Which counters of a sender were seen: a control frame acts once, however often it arrives.

/// How far a counter may lie behind the highest one seen and still be new: senders may have that many requests under way.
pub const WINDOW_COUNTERS: u64 = 64;

/// One sender's window. All zero, as the kernel creates it: nothing was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReplayWindow {
    /// The highest counter seen; 0: none.
    pub highest: u64,
    /// Bit N: the counter `highest - N` was seen.
    pub seen: u64,
}

const _: () = assert!(size_of::<ReplayWindow>() == 16);

/// Whether a counter is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It was not seen before; it is now, in this window.
    Fresh(ReplayWindow),
    /// It was seen, or lies so far back that nobody knows. 0 is never new.
    Replayed,
}

impl ReplayWindow {
    /// Judges a counter.
    #[inline(always)]
    pub const fn accept(self, counter: u64) -> Freshness {
        if counter == 0 {
            return Freshness::Replayed;
        }
        if counter > self.highest {
            let ahead = counter - self.highest;
            let older = if ahead < WINDOW_COUNTERS { self.seen << ahead } else { 0 };
            return Freshness::Fresh(Self { highest: counter, seen: older | 1 });
        }
        let behind = self.highest - counter;
        if behind >= WINDOW_COUNTERS || self.seen >> behind & 1 == 1 {
            return Freshness::Replayed;
        }
        Freshness::Fresh(Self { highest: self.highest, seen: self.seen | 1 << behind })
    }
}
