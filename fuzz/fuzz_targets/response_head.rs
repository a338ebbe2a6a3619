//! What a storage node answers a front end: any bytes give a head, a demand for more or an error,
//! and never anything else because they come in two pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], usize, bool)| {
    let (bytes, cut, to_head) = input;
    ashlar_node::fuzzing::response_head(bytes, cut, to_head);
});
