//! What clients put: values of one length under keys drawn evenly.

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Keys that operations are drawn from.
const KEYS: usize = 1_000;
/// Decides which key comes when.
const SEED: u64 = 1;

/// Operations in the form that they are sent in, drawn at random.
pub(super) struct Content {
    operations: Vec<Bytes>,
    random: Pcg64Mcg,
}

impl Content {
    /// Values of `value_bytes`, each with its key put into form by `encode`.
    pub(super) fn new(value_bytes: usize, encode: impl Fn(Bytes, Bytes) -> Bytes) -> Self {
        let value = Bytes::from(vec![b'v'; value_bytes]);
        let key = |number: usize| Bytes::from(format!("key-{number:04}"));
        let operations = (0..KEYS).map(|number| encode(key(number), value.clone())).collect();
        Self { operations, random: Pcg64Mcg::seed_from_u64(SEED) }
    }

    /// The next operation.
    pub(super) fn draw(&mut self) -> Bytes {
        self.operations[self.random.random_range(0..KEYS)].clone()
    }
}
