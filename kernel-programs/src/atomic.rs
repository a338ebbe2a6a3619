//! Atomic operations on map values.
//!
//! All sequentially consistent on purpose: LLVM 22 turns a relaxed addition whose result is used into an instruction that returns
//! its operand instead, and locks need the order anyway.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

/// How often a program asks for a lock that another CPU holds: that one needs less than a microsecond, but if this program
/// interrupted it on the same CPU, waiting longer would not help.
const LOCK_ATTEMPTS: u32 = 64;

const FREE: u64 = 0;
const HELD: u64 = 1;

/// Adds one and returns the value before.
///
/// # Safety
///
/// `counter` points to an aligned map value that lives as long as the program runs.
#[inline(always)]
pub unsafe fn fetch_increment(counter: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) }
}

/// Takes a lock; false if it was not to be had. Whoever takes it must release it: a program always runs to its end, so a lock is
/// never left behind.
///
/// # Safety
///
/// `lock` points to an aligned map value that lives as long as the program runs.
#[inline(always)]
pub unsafe fn try_lock(lock: *mut u64) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        // SAFETY: the caller's promise.
        let (before, _) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                lock, FREE, HELD,
            )
        };
        if before == FREE {
            return true;
        }
    }
    false
}

/// Gives a lock back. An exchange, because this target has no other store that is ordered after what the lock protects.
///
/// # Safety
///
/// As for [`try_lock`], which returned true.
#[inline(always)]
pub unsafe fn unlock(lock: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(lock, FREE) };
}
