//! The programs that run inside the kernel. Each is a thin shell around a decision of `ashlar-fastpath`: it reads the packet and the
//! tables, asks, carries the answer out and counts.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(
    internal_features,
    reason = "core::sync::atomic has no read-modify-write operations for this target"
)]

mod atomic;
mod chaos;
mod packet;
mod replication;
mod steering;

/// Never runs: the compiler drops it when no decision can panic, and the verifier refuses the endless loop when one could.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for programs under the GPL only. The kernel takes "Dual BSD/GPL" for such; this text is an interface.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual BSD/GPL\0";
