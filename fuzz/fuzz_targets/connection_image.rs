//! What a peer sends as a connection's image: any bytes give an image or an error, and what was
//! taken encodes to the very bytes that came.
#![no_main]

use ashlar_handoff::image::ConnectionImage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
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
