//! Against the vectors of the reference implementation (SipHash-2-4, 64 bits; key 00..0f, messages of the bytes 0, 1, 2 and so on).

use super::*;
use std::vec::Vec;

const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

/// Of messages of 0..=15 bytes.
const VECTORS: [u64; 16] = [
    0x726f_db47_dd0e_0e31,
    0x74f8_39c5_93dc_67fd,
    0x0d6c_8009_d9a9_4f5a,
    0x8567_6696_d7fb_7e2d,
    0xcf27_94e0_2771_87b7,
    0x1876_5564_cd99_a68d,
    0xcbc9_466e_58fe_e3ce,
    0xab02_00f5_8b01_d137,
    0x93f5_f579_9a93_2462,
    0x9e00_82df_0ba9_e4b0,
    0x7a5d_bbc5_94dd_b9f3,
    0xf4b3_2f46_226b_ada7,
    0x751e_8fbc_860e_e5fb,
    0x14ea_5627_c084_3d90,
    0xf723_ca90_8e7a_f2ee,
    0xa129_ca61_49be_45e5,
];

fn hash(message: &[u8]) -> u64 {
    let mut state = SipHash::new(KEY);
    let mut words = message.chunks_exact(8);
    for word in &mut words {
        state = state.word(u64::from_le_bytes(word.try_into().unwrap()));
    }
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    state.finish(u64::from_le_bytes(rest), message.len() as u64)
}

#[test]
fn the_published_vectors_come_out() {
    for (length, expected) in VECTORS.into_iter().enumerate() {
        let message: Vec<u8> = (0..length as u8).collect();
        assert_eq!(hash(&message), expected, "of {length} bytes");
    }
    let longest: Vec<u8> = (0..63).collect();
    assert_eq!(hash(&longest), 0x958a_324c_eb06_4572, "of 63 bytes");
}
