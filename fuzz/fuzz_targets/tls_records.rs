//! What a client sends as records: any bytes give plaintext, news or a refusal, after which nothing
//! more is taken; and what a writer has sealed, the reader of the next owner opens.
#![no_main]

use ashlar_handoff::tls::{
    CipherSuite, Opened, RecordError, RecordReader, RecordWriter, TlsImage, record_bytes,
};
use libfuzzer_sys::fuzz_target;

const SECRET: [u8; 48] = [9; 48];

fn ends(suite: CipherSuite) -> (RecordReader, RecordWriter) {
    let secret = &SECRET[..suite.secret_bytes()];
    TlsImage::new(suite, (secret, 0), (secret, 0)).expect("a secret of this length").import()
}

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (suite, sealed_by_us, bytes) = input;
    let suite = CipherSuite::ALL[usize::from(suite) % CipherSuite::ALL.len()];
    let (mut reader, mut writer) = ends(suite);
    let mut stream = bytes.to_vec();
    if sealed_by_us {
        stream.clear();
        writer.append(bytes, &mut stream).expect("an open writer");
        stream.extend_from_slice(&writer.key_update(true).expect("an open writer"));
        stream.extend_from_slice(&writer.close_notify().expect("an open writer"));
    }
    let mut rest = stream.as_mut_slice();
    let mut plaintext = Vec::new();
    while let Some(length) = record_bytes(rest).filter(|length| *length <= rest.len()) {
        let (record, behind) = rest.split_at_mut(length);
        rest = behind;
        match reader.open(record) {
            Ok(Opened::ApplicationData(range)) => plaintext.extend_from_slice(&record[range]),
            Ok(Opened::CloseNotify | Opened::Alert(_)) => break,
            Ok(_) => {}
            Err(_) => {
                assert!(!sealed_by_us);
                assert_eq!(reader.open(record), Err(RecordError::Closed));
                return;
            }
        }
        (reader, writer) = TlsImage::export(reader, writer).import();
    }
    assert!(!sealed_by_us || plaintext == bytes);
});
