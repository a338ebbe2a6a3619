//! What a client sends a front end: any bytes give a simple request, a demand for more or a refusal
//! to look closer, and the same request when they come in two pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Small enough for the fuzzer to exceed.
const LIMIT_BYTES: usize = 512;

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    ashlar_node::fuzzing::simple_request(bytes, cut, LIMIT_BYTES);
});
