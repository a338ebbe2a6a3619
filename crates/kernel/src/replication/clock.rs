//! The clock that leases are of.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine began, suspension included: programs in the kernel read the same clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).expect("this clock starts at zero");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}
