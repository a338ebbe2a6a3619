//! Text that a front end reads: queries of listings and ranges of bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| ashlar_node::fuzzing::text(text));
