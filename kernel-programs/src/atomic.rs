//! Atomic operations on map values.
//!
//! All sequentially consistent on purpose: LLVM 22 turns a relaxed addition whose result is used into an instruction that returns
//! its operand instead, and locks need the order anyway.

use ashlar_fastpath::replication::{LOCK_FREE, LOCK_KERNEL};
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg};

/// How often a program asks for a lock that another CPU holds: that one needs less than a microsecond, but if this program
/// interrupted it on the same CPU, waiting longer would not help.
const LOCK_ATTEMPTS: u32 = 64;

/// Locks that user space never holds have the same values.
const FREE: u64 = LOCK_FREE;
const HELD: u64 = LOCK_KERNEL;

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

/// Writes a value, after everything before and before everything after, and returns the one before. This target has no other store
/// with an order.
///
/// # Safety
///
/// `word` points to an aligned map value that lives as long as the program runs.
#[inline(always)]
pub unsafe fn exchange(word: *mut u64, value: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(word, value) }
}

/// Sets bits.
///
/// # Safety
///
/// As for [`exchange`].
#[inline(always)]
pub unsafe fn set_bits(word: *mut u64, bits: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) };
}

/// Adds to a word.
///
/// # Safety
///
/// As for [`exchange`].
#[inline(always)]
pub unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, value) };
}

/// Takes a lock; false if it was not to be had, which is known at once if user space holds it: that may take long. Whoever takes it
/// must release it: a program always runs to its end, so it never leaves a lock behind.
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
        if before != HELD {
            return false;
        }
    }
    false
}

/// Gives a lock back.
///
/// # Safety
///
/// As for [`try_lock`], which returned true.
#[inline(always)]
pub unsafe fn unlock(lock: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { exchange(lock, FREE) };
}
