//! Records that no well-behaved writer makes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    AlertDescription, CIPHERTEXT_BYTES_MAX, CipherSuite, HEADER_BYTES, IDLE_RECORDS_MAX, Opened,
    PLAINTEXT_BYTES_MAX, RecordError, RecordReader, RecordWriter, SealError, TAG_BYTES, TlsImage,
    TrafficSecret, content_type, key::DirectionKey, record_bytes,
};

const SUITE: CipherSuite = CipherSuite::Aes128GcmSha256;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A client that seals whatever it is told to, and the reader of what it sends.
struct Client {
    key: DirectionKey,
    reader: RecordReader,
    writer: RecordWriter,
}

impl Client {
    fn new() -> Self {
        Self::at_sequence(0)
    }

    fn at_sequence(sequence: u64) -> Self {
        let secret = [7; 32];
        let image = TlsImage::new(SUITE, (&secret, sequence), (&secret, 0)).unwrap();
        let (reader, writer) = image.import();
        let key = DirectionKey::new(TrafficSecret::new(SUITE, &secret).unwrap(), sequence);
        Self { key, reader, writer }
    }

    /// Seals `inner`, content, type and padding as they are.
    fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inner.len() + TAG_BYTES).unwrap().to_be_bytes();
        let header = [content_type::APPLICATION_DATA, 3, 3, length[0], length[1]];
        let mut inner = inner.to_vec();
        let tag = self.key.seal(header, &mut inner);
        [&header[..], &inner, &tag].concat()
    }

    /// Sends a record of this content, type and padding.
    fn sends(
        &mut self,
        content: &[u8],
        content_type: u8,
        padding: usize,
    ) -> Result<Opened, RecordError> {
        let mut record = self.seal(&[content, &[content_type], &vec![0; padding]].concat());
        self.reader.open(&mut record)
    }

    fn sends_handshake(&mut self, content: &[u8]) -> Result<Opened, RecordError> {
        self.sends(content, content_type::HANDSHAKE, 0)
    }

    fn sends_data(&mut self, content: &[u8]) -> Result<Opened, RecordError> {
        self.sends(content, content_type::APPLICATION_DATA, 0)
    }

    /// Sends all of `records` and expects that the last one alone is refused, for good.
    fn refused_at_the_last(mut self, records: &[&[u8]]) -> RecordError {
        let (last, before) = records.split_last().unwrap();
        for record in before {
            self.sends_handshake(record).unwrap();
        }
        let error = self.sends_handshake(last).unwrap_err();
        assert_eq!(self.sends_data(b"more"), Err(RecordError::Closed));
        error
    }
}

#[test]
fn padding_is_taken_away() {
    let mut client = Client::new();
    for (content, padding) in [(&b"data"[..], 1), (b"zeros at its end\0\0", 100), (b"", 16_000)] {
        let opened = client.sends(content, content_type::APPLICATION_DATA, padding);
        assert_eq!(opened, Ok(Opened::ApplicationData(HEADER_BYTES..HEADER_BYTES + content.len())));
    }
}

#[test]
fn a_record_of_padding_only_is_unexpected() {
    let mut client = Client::new();
    let mut record = client.seal(&[0; 40]);
    let error = client.reader.open(&mut record).unwrap_err();
    assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
}

#[test]
fn a_record_may_be_full_but_not_fuller() {
    let full = vec![1; PLAINTEXT_BYTES_MAX];
    let mut client = Client::new();
    assert!(matches!(client.sends_data(&full), Ok(Opened::ApplicationData(_))));
    assert_eq!(
        client.sends(&full, content_type::APPLICATION_DATA, 1),
        Err(RecordError::Overflow),
        "padding counts"
    );
}

#[test]
fn nobody_waits_for_more_than_a_record_may_have() {
    let [high, low] = u16::try_from(CIPHERTEXT_BYTES_MAX + 1).unwrap().to_be_bytes();
    let mut header = [content_type::APPLICATION_DATA, 3, 3, high, low];
    assert_eq!(record_bytes(&header), Some(HEADER_BYTES));
    let error = Client::new().reader.open(&mut header).unwrap_err();
    assert_eq!(error, RecordError::Overflow);
    assert_eq!(error.alert(), Some(AlertDescription::RECORD_OVERFLOW));
}

#[test]
fn a_record_ends_where_its_header_says() {
    assert_eq!(record_bytes(&[23, 3, 3, 1]), None);
    assert_eq!(record_bytes(&[23, 3, 3, 1, 2, 99]), Some(5 + 258));
    assert_eq!(record_bytes(&[22, 3, 1, 0, 0]), Some(5), "an empty record of a handshake");
    assert_eq!(record_bytes(b"GET / HTTP/1.1"), Some(5), "no record at all");
}

#[test]
fn unprotected_records_are_refused() {
    for content_type in [20, 21, 22, 24] {
        let mut record = [content_type, 3, 3, 0, 2, 1, 0];
        let error = Client::new().reader.open(&mut record).unwrap_err();
        assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
    }
}

#[test]
fn a_record_too_short_for_its_tag_is_refused() {
    for length in 0..TAG_BYTES {
        let mut record = vec![0; HEADER_BYTES + length];
        record[..5].copy_from_slice(&[23, 3, 3, 0, u8::try_from(length).unwrap()]);
        assert_eq!(Client::new().reader.open(&mut record), Err(RecordError::BadRecordMac));
    }
}

#[test]
fn half_a_record_is_the_callers_mistake() {
    let mut client = Client::new();
    let record = client.seal(&[1, content_type::APPLICATION_DATA]);
    let mut half = record[..record.len() - 1].to_vec();
    let error = client.reader.open(&mut half).unwrap_err();
    assert_eq!(error, RecordError::NotOneRecord(record.len() - 1));
    assert_eq!(Client::new().reader.open(&mut [23, 3]), Err(RecordError::NotOneRecord(2)));
}

#[test]
fn a_key_update_in_pieces_is_one() {
    let mut client = Client::new();
    for piece in &KEY_UPDATE[..4] {
        assert_eq!(client.sends_handshake(&[*piece]), Ok(Opened::Nothing));
    }
    let opened = client.sends_handshake(&[1]);
    assert_eq!(opened, Ok(Opened::KeyUpdate { update_requested: true }));
    assert!(client.sends_data(b"under the old key").is_err());
}

#[test]
fn a_piece_of_a_key_update_travels_with_the_connection() {
    let mut client = Client::new();
    client.sends_handshake(&KEY_UPDATE[..3]).unwrap();
    (client.reader, client.writer) = TlsImage::export(client.reader, client.writer).import();
    let opened = client.sends_handshake(&KEY_UPDATE[3..]);
    assert_eq!(opened, Ok(Opened::KeyUpdate { update_requested: false }));
    client.key.rotate();
    assert!(client.sends_data(b"under the new key").is_ok());
}

#[test]
fn a_key_update_ends_its_record() {
    let two = [KEY_UPDATE, KEY_UPDATE].concat();
    for records in [&[&two[..]][..], &[&KEY_UPDATE[..4], &[0, 24]]] {
        let error = Client::new().refused_at_the_last(records);
        assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
    }
}

#[test]
fn nothing_comes_between_the_pieces_of_a_message() {
    for (content, content_type) in
        [(&b"data"[..], content_type::APPLICATION_DATA), (&[1, 0], content_type::ALERT)]
    {
        let mut client = Client::new();
        client.sends_handshake(&KEY_UPDATE[..2]).unwrap();
        let error = client.sends(content, content_type, 0).unwrap_err();
        assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
    }
}

#[test]
fn other_handshake_messages_are_refused() {
    for (records, alert) in [
        (&[&[1, 0, 0, 0][..]][..], AlertDescription::UNEXPECTED_MESSAGE),
        (&[&[]], AlertDescription::UNEXPECTED_MESSAGE),
        (&[&[24, 0, 0, 2, 0, 0]], AlertDescription::DECODE_ERROR),
        (&[&[24], &[0, 1]], AlertDescription::DECODE_ERROR),
        (&[&[24, 0, 0, 1, 2]], AlertDescription::ILLEGAL_PARAMETER),
    ] {
        assert_eq!(Client::new().refused_at_the_last(records).alert(), Some(alert), "{records:?}");
    }
}

#[test]
fn alerts_are_told_and_end_the_connection() {
    let mut client = Client::new();
    let opened = client.sends(&[1, 90], content_type::ALERT, 0);
    assert_eq!(opened, Ok(Opened::Nothing), "user_canceled announces another one");
    let opened = client.sends(&[1, 40], content_type::ALERT, 3);
    assert_eq!(opened, Ok(Opened::Alert(AlertDescription(40))), "levels mean nothing");
    assert_eq!(client.sends_data(b"more"), Err(RecordError::Closed));
}

#[test]
fn malformed_alerts_are_refused() {
    for (content, alert) in [
        (&[][..], AlertDescription::UNEXPECTED_MESSAGE),
        (&[1], AlertDescription::DECODE_ERROR),
        (&[1, 0, 1, 0], AlertDescription::DECODE_ERROR),
    ] {
        let error = Client::new().sends(content, content_type::ALERT, 0).unwrap_err();
        assert_eq!(error.alert(), Some(alert));
    }
}

#[test]
fn unknown_types_are_refused_under_protection_too() {
    for content_type in [1, 20, 24, 255] {
        let error = Client::new().sends(b"x", content_type, 0).unwrap_err();
        assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
    }
}

#[test]
fn a_client_that_keeps_us_busy_for_nothing_is_refused() {
    let mut client = Client::new();
    for _ in 0..2 {
        for _ in 0..IDLE_RECORDS_MAX / 2 {
            client.sends_data(b"").unwrap();
            client.sends_handshake(&KEY_UPDATE).unwrap();
            client.key.rotate();
        }
        client.sends_data(b"data").unwrap();
    }
    for _ in 0..IDLE_RECORDS_MAX {
        client.sends_data(b"").unwrap();
    }
    let error = client.sends_data(b"").unwrap_err();
    assert_eq!(error.alert(), Some(AlertDescription::UNEXPECTED_MESSAGE));
}

#[test]
fn the_last_sequence_number_is_never_used() {
    let mut client = Client::at_sequence(u64::MAX - 1);
    client.sends_data(b"the last").unwrap();
    let mut record = [23, 3, 3, 0, 20].to_vec();
    record.resize(25, 0);
    assert_eq!(client.reader.open(&mut record), Err(RecordError::SequenceExhausted));
}

#[test]
fn a_key_is_changed_before_it_has_sealed_too_much() {
    for suite in CipherSuite::ALL {
        let secret = vec![7; suite.secret_bytes()];
        let limit = suite.records_per_key();
        let image = TlsImage::new(suite, (&secret, limit - 1), (&secret, limit - 1)).unwrap();
        let (mut reader, mut writer) = image.import();
        let mut sent = Vec::new();
        writer.append(&[1; 2 * PLAINTEXT_BYTES_MAX], &mut sent).unwrap();
        assert_eq!(writer.sequence(), 1);
        let mut kinds = Vec::new();
        while let Some(length) = record_bytes(&sent) {
            kinds.push(reader.open(&mut sent[..length]).unwrap());
            sent.drain(..length);
        }
        let data = Opened::ApplicationData(HEADER_BYTES..HEADER_BYTES + PLAINTEXT_BYTES_MAX);
        let key_update = Opened::KeyUpdate { update_requested: false };
        assert_eq!(kinds, [data.clone(), key_update, data]);
    }
}

#[test]
fn a_used_up_key_seals_no_data_but_ends_in_good_order() {
    let secret = [7; 32];
    let limit = SUITE.records_per_key();
    let image = TlsImage::new(SUITE, (&secret, 0), (&secret, limit)).unwrap();
    let (_, mut writer) = image.clone().import();
    let sealed = writer.seal_in_place(&mut [0; 100], HEADER_BYTES..20);
    assert_eq!(sealed, Err(SealError::KeyExhausted));
    assert!(writer.close_notify().is_ok());
    let (_, mut writer) = image.import();
    writer.key_update(true).unwrap();
    assert!(!writer.needs_key_update());
    assert!(TlsImage::new(SUITE, (&secret, 0), (&secret, SUITE.sequence_max())).is_err());
}

#[test]
fn nothing_is_sealed_behind_a_closing_alert() {
    let mut client = Client::new();
    client.writer.alert(AlertDescription::USER_CANCELED).unwrap();
    client.writer.close_notify().unwrap();
    (client.reader, client.writer) = TlsImage::export(client.reader, client.writer).import();
    let mut writer = client.writer;
    assert_eq!(writer.append(b"x", &mut Vec::new()), Err(SealError::Closed));
    assert_eq!(writer.seal_in_place(&mut [0; 100], 5..6), Err(SealError::Closed));
    assert_eq!(writer.close_notify(), Err(SealError::Closed));
    assert_eq!(writer.key_update(false), Err(SealError::Closed));
}

#[test]
fn a_secret_has_the_length_of_its_suites_hash() {
    for suite in CipherSuite::ALL {
        for length in [0, 31, 33, 47, 49, 80 - suite.secret_bytes()] {
            assert!(TrafficSecret::new(suite, &vec![0; length]).is_err());
        }
        assert_eq!(CipherSuite::from_code(suite.code()), Some(suite));
    }
    let error = TrafficSecret::new(CipherSuite::Aes256GcmSha384, &[0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "a traffic secret of Aes256GcmSha384 has 48 bytes, not 32");
    assert_eq!(CipherSuite::from_code(0x1304), None);
}

/// The records of RFC 8448, section 3, "Simple 1-RTT Handshake".
mod rfc_8448 {
    use super::*;

    const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b\
        9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
    const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e3\
        0efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
    const CLIENT_CLOSE: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
    const SERVER_CLOSE: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn are_opened_and_sealed_bit_by_bit() {
        // The server's ticket was its record 0.
        let image =
            TlsImage::new(SUITE, (&bytes(CLIENT_SECRET), 0), (&bytes(SERVER_SECRET), 1)).unwrap();
        let (mut reader, mut writer) = image.import();
        let data: Vec<u8> = (0..50).collect();
        let mut record = bytes(CLIENT_DATA);
        assert_eq!(reader.open(&mut record), Ok(Opened::ApplicationData(5..55)));
        assert_eq!(record[5..55], data);
        let mut sent = Vec::new();
        writer.append(&data, &mut sent).unwrap();
        assert_eq!(sent, bytes(SERVER_DATA));
        assert_eq!(reader.open(&mut bytes(CLIENT_CLOSE)), Ok(Opened::CloseNotify));
        assert_eq!(writer.close_notify().unwrap().to_vec(), bytes(SERVER_CLOSE));
    }
}
