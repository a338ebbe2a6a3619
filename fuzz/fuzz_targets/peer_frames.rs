//! What a peer sends: any bytes in any segmentation give frames or an error, and every frame that
//! was taken encodes to bytes that give it again.
#![no_main]

use ashlar_wire::Frame;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (step, stream) = match input {
        [step, stream @ ..] => (usize::from(*step) + 1, stream),
        [] => return,
    };
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match Frame::decode(&mut buffer) {
                Ok(Some(frame)) => {
                    let mut again = BytesMut::new();
                    frame.encode(&mut again);
                    assert_eq!(Frame::decode(&mut again), Ok(Some(frame)));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
