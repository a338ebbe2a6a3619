//! What a peer sends as a connection's image, or as the message around it: any bytes give a value or
//! an error, and what was taken encodes to the very bytes that came.
#![no_main]

use ashlar_handoff::{image::ConnectionImage, protocol::Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok((move_id, message)) = Message::decode(input) {
        assert_eq!(message.encode(move_id).as_slice(), input);
    }
    if let Ok(image) = ConnectionImage::decode(input) {
        assert_eq!(image.encode().as_slice(), input);
        if let Some(tls) = image.tls {
            let (mut reader, mut writer) = tls.import();
            let mut received = image.received.clone();
            let _ = reader.open(&mut received);
            let mut out = Vec::new();
            let _ = writer.append(&image.opened, &mut out);
        }
    }
});
