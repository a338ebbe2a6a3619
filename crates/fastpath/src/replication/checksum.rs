//! The checksum of frames: XXH64, over whole stripes only, so that a program in the kernel needs one simple loop.
//!
//! A frame whose length is no multiple of a stripe is taken as if zeros followed. That hides nothing: the header says how long the
//! body is.

/// Bytes that are taken in at once.
pub const STRIPE_BYTES: usize = 32;

/// As many bytes, as little-endian numbers.
pub type Stripe = [u64; 4];

/// The word of a header that has its checksum in the lower half, as a stripe and a place there.
const CHECKSUM_AT: (u32, usize) = (1, 3);

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;

/// How many stripes so many bytes are.
#[inline(always)]
pub const fn stripes_of(bytes: u32) -> u32 {
    bytes.div_ceil(STRIPE_BYTES as u32)
}

/// The checksum of a frame of so many stripes, whatever its header says that it is: the lower half of XXH64 with seed 0.
#[inline(always)]
pub fn checksum(stripes: u32, mut stripe: impl FnMut(u32) -> Stripe) -> u32 {
    let mut lanes = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, PRIME_1.wrapping_neg()];
    let mut index = 0;
    while index < stripes {
        let [first, second, third, mut fourth] = stripe(index);
        if index == CHECKSUM_AT.0 {
            fourth &= !u64::from(u32::MAX);
        }
        lanes[0] = round(lanes[0], first);
        lanes[1] = round(lanes[1], second);
        lanes[2] = round(lanes[2], third);
        lanes[3] = round(lanes[3], fourth);
        index += 1;
    }
    let [first, second, third, fourth] = lanes;
    let mut hash = first
        .rotate_left(1)
        .wrapping_add(second.rotate_left(7))
        .wrapping_add(third.rotate_left(12))
        .wrapping_add(fourth.rotate_left(18));
    hash = merge(merge(merge(merge(hash, first), second), third), fourth);
    hash = hash.wrapping_add(u64::from(stripes) * STRIPE_BYTES as u64);
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    (hash ^ (hash >> 32)) as u32
}

/// The checksum of a frame.
pub fn checksum_of(frame: &[u8]) -> u32 {
    let whole = frame.len() / STRIPE_BYTES;
    let (stripes, rest) = frame.as_chunks::<STRIPE_BYTES>();
    let mut last = [0; STRIPE_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    checksum(frame.len().div_ceil(STRIPE_BYTES) as u32, |index| {
        let index = index as usize;
        words(if index < whole { &stripes[index] } else { &last })
    })
}

#[inline(always)]
fn words(stripe: &[u8; STRIPE_BYTES]) -> Stripe {
    let (words, _) = stripe.as_chunks::<8>();
    [words[0], words[1], words[2], words[3]].map(u64::from_le_bytes)
}

#[inline(always)]
fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

#[inline(always)]
fn merge(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
}
