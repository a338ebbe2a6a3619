//! Access to the packet at hand, by the kernel's helpers: they check every bound, so that nothing hangs on how the compiler orders
//! bound checks before the verifier.

use ashlar_fastpath::frame::FrameBytes;
use aya_ebpf::bindings::BPF_CSUM_LEVEL_RESET;
use aya_ebpf::helpers::generated::{
    bpf_csum_level, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};

/// A frame that the driver just received.
pub struct XdpFrame<'a>(pub &'a XdpContext);

impl XdpFrame<'_> {
    /// From the Ethernet header to the end.
    #[inline(always)]
    pub fn length_bytes(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        let length_bytes = unsafe { bpf_xdp_get_buff_len(self.0.ctx) };
        length_bytes as u32
    }

    /// Combines one byte with `mask` by exclusive or; false if there is no such byte.
    #[inline(always)]
    pub fn flip(&self, offset_bytes: u32, mask: u8) -> bool {
        let Some([byte]) = self.read::<1>(offset_bytes) else {
            return false;
        };
        let mut flipped = [byte ^ mask];
        // SAFETY: the context is the kernel's, the buffer is one byte long, and the helper checks the offset.
        unsafe {
            bpf_xdp_store_bytes(self.0.ctx, offset_bytes, flipped.as_mut_ptr().cast(), 1) == 0
        }
    }
}

impl FrameBytes for XdpFrame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset_bytes: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the context is the kernel's, the buffer is N bytes long, and the helper checks the offset.
        let result = unsafe {
            bpf_xdp_load_bytes(self.0.ctx, offset_bytes, bytes.as_mut_ptr().cast(), N as u32)
        };
        (result == 0).then_some(bytes)
    }
}

/// A frame within the network stack; its headers and payload may be spread over several buffers.
pub struct StackFrame<'a>(pub &'a TcContext);

impl StackFrame<'_> {
    /// From the Ethernet header to the end.
    #[inline(always)]
    pub fn length_bytes(&self) -> u32 {
        self.0.len()
    }

    /// Combines one byte with `mask` by exclusive or; false if there is no such byte.
    #[inline(always)]
    pub fn flip(&self, offset_bytes: u32, mask: u8) -> bool {
        let Some([byte]) = self.read::<1>(offset_bytes) else {
            return false;
        };
        if self.0.store(offset_bytes as usize, &[byte ^ mask], 0).is_err() {
            return false;
        }
        // Whoever verified the checksum before did so for other bytes. A failure leaves the frame as it is: nothing was verified.
        // SAFETY: the context is the kernel's.
        let _ = unsafe { bpf_csum_level(self.0.skb.skb, u64::from(BPF_CSUM_LEVEL_RESET)) };
        true
    }
}

impl FrameBytes for StackFrame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset_bytes: u32) -> Option<[u8; N]> {
        self.0.load(offset_bytes as usize).ok()
    }
}
