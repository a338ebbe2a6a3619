//! What a disk gives back as a segment of a replica's journal: any bytes give what it holds or an
//! error, and no more than the bytes that came. Half of the inputs get checksums that are right.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (mends, segment) = input;
    ashlar_storage::replica_journal::fuzz(segment, mends);
});
