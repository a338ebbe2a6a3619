//! Atomic operations on map values.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds one and returns the value before.
///
/// Sequentially consistent on purpose: LLVM 22 turns a relaxed addition whose result is used into an instruction that returns its
/// operand instead.
///
/// # Safety
///
/// `counter` points to an aligned map value that lives as long as the program runs.
#[inline(always)]
pub unsafe fn fetch_increment(counter: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) }
}
