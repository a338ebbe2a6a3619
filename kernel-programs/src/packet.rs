//! Access to the packet at hand, by the kernel's helpers: they check every bound, so that nothing hangs on how the compiler orders
//! bound checks before the verifier.

use ashlar_fastpath::frame::FrameBytes;
use aya_ebpf::bindings::{BPF_CSUM_LEVEL_RESET, BPF_F_MARK_MANGLED_0};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_csum_level, bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes,
    bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Write access to the packet at hand.
pub trait WriteFrame: FrameBytes {
    /// Copies the bytes from `offset_bytes` on into `words`; false if the frame ends before.
    fn read_words<const N: usize>(&self, offset_bytes: u32, words: &mut [u64; N]) -> bool;

    /// Overwrites the bytes from `offset_bytes` on; false if the frame ends before, or cannot be written.
    fn write<const N: usize>(&self, offset_bytes: u32, bytes: [u8; N]) -> bool;

    /// What [`WriteFrame::write_payload`] will have to know of the payload that it overwrites.
    fn sum_payload<const N: usize>(&self, words: &mut [u64; N]) -> u32;

    /// Overwrites a transport protocol's payload at `payload_offset_bytes`, whose sum was `old_sum`, and sees to the checksum at
    /// `checksum_offset_bytes`, which is `checksum` where it is computed as a whole.
    fn write_payload<const N: usize>(
        &self,
        payload_offset_bytes: u32,
        words: &mut [u64; N],
        old_sum: u32,
        checksum_offset_bytes: u32,
        checksum: u16,
    ) -> bool;
}

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

impl WriteFrame for XdpFrame<'_> {
    #[inline(always)]
    fn write<const N: usize>(&self, offset_bytes: u32, mut bytes: [u8; N]) -> bool {
        // SAFETY: the context is the kernel's, the buffer is N bytes long, and the helper checks the offset.
        unsafe {
            let buffer = bytes.as_mut_ptr().cast();
            bpf_xdp_store_bytes(self.0.ctx, offset_bytes, buffer, N as u32) == 0
        }
    }

    #[inline(always)]
    fn read_words<const N: usize>(&self, offset_bytes: u32, words: &mut [u64; N]) -> bool {
        // SAFETY: the context is the kernel's, the buffer is N words long, and the helper checks the offset.
        unsafe {
            let buffer = words.as_mut_ptr().cast();
            bpf_xdp_load_bytes(self.0.ctx, offset_bytes, buffer, 8 * N as u32) == 0
        }
    }

    #[inline(always)]
    fn sum_payload<const N: usize>(&self, _words: &mut [u64; N]) -> u32 {
        0
    }

    /// The driver hands over finished frames: the whole checksum is written.
    #[inline(always)]
    fn write_payload<const N: usize>(
        &self,
        payload_offset_bytes: u32,
        words: &mut [u64; N],
        _old_sum: u32,
        checksum_offset_bytes: u32,
        checksum: u16,
    ) -> bool {
        // SAFETY: the context is the kernel's, the buffer is N words long, and the helper checks the offset.
        let written = unsafe {
            let buffer = words.as_mut_ptr().cast();
            bpf_xdp_store_bytes(self.0.ctx, payload_offset_bytes, buffer, 8 * N as u32) == 0
        };
        written && self.write(checksum_offset_bytes, checksum.to_be_bytes())
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

impl WriteFrame for StackFrame<'_> {
    #[inline(always)]
    fn write<const N: usize>(&self, offset_bytes: u32, mut bytes: [u8; N]) -> bool {
        // SAFETY: the context is the kernel's, the buffer is N bytes long, and the helper checks the offset.
        unsafe {
            let buffer = bytes.as_mut_ptr().cast();
            bpf_skb_store_bytes(self.0.skb.skb, offset_bytes, buffer, N as u32, 0) == 0
        }
    }

    #[inline(always)]
    fn read_words<const N: usize>(&self, offset_bytes: u32, words: &mut [u64; N]) -> bool {
        // SAFETY: the context is the kernel's, the buffer is N words long, and the helper checks the offset.
        unsafe {
            let buffer = words.as_mut_ptr().cast();
            let skb = self.0.skb.skb.cast();
            bpf_skb_load_bytes(skb, offset_bytes, buffer, 8 * N as u32) == 0
        }
    }

    #[inline(always)]
    fn sum_payload<const N: usize>(&self, words: &mut [u64; N]) -> u32 {
        // SAFETY: the buffer is N words long. The length is right, so that the helper cannot fail.
        unsafe {
            bpf_csum_diff(words.as_mut_ptr().cast(), 8 * N as u32, core::ptr::null_mut(), 0, 0)
                as u32
        }
    }

    /// A sender on this machine may have left the checksum to hardware that is still to come. The kernel knows, and its helper
    /// changes a finished checksum only, by the difference; one that was not computed stays so.
    #[inline(always)]
    fn write_payload<const N: usize>(
        &self,
        payload_offset_bytes: u32,
        words: &mut [u64; N],
        old_sum: u32,
        checksum_offset_bytes: u32,
        _checksum: u16,
    ) -> bool {
        let skb = self.0.skb.skb;
        let length_bytes = 8 * N as u32;
        let buffer = words.as_mut_ptr();
        // SAFETY: the context is the kernel's, the buffer is N words long, and the helpers check the offsets.
        unsafe {
            let difference =
                bpf_csum_diff(core::ptr::null_mut(), 0, buffer.cast(), length_bytes, old_sum);
            let flags = u64::from(BPF_F_MARK_MANGLED_0);
            bpf_skb_store_bytes(skb, payload_offset_bytes, buffer.cast(), length_bytes, 0) == 0
                && bpf_l4_csum_replace(
                    skb,
                    checksum_offset_bytes,
                    0,
                    u64::from(difference as u32),
                    flags,
                ) == 0
        }
    }
}
