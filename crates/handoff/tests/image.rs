//! What must hold for every image and for any bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_handoff::{
    FieldError, SecretBytes,
    image::{
        ClientNotes, ConnectionImage, EPOCH_MAX, FRONT_END_NAME_BYTES_MAX, IMAGE_BYTES_MAX,
        ImageError, MSS_MAX, OPENED_BYTES_MAX, RECEIVED_BYTES_MAX, SEND_QUEUE_BYTES_MAX, TcpImage,
        TcpOptions, TcpWindow, WINDOW_SCALE_MAX,
    },
    tls::{CipherSuite, TlsImage},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn ip(v4: bool) -> BoxedStrategy<IpAddr> {
    if v4 {
        (1..224_u8, any::<[u8; 3]>())
            .prop_map(|(first, [a, b, c])| Ipv4Addr::new(first, a, b, c).into())
            .boxed()
    } else {
        any::<[u8; 15]>()
            .prop_map(|rest| {
                let mut octets = [0x20; 16];
                octets[1..].copy_from_slice(&rest);
                Ipv6Addr::from(octets).into()
            })
            .boxed()
    }
}

fn address(v4: bool) -> impl Strategy<Value = SocketAddr> {
    (ip(v4), 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn secret_bytes(bytes_max: usize) -> impl Strategy<Value = SecretBytes> {
    vec(any::<u8>(), 0..bytes_max).prop_map(SecretBytes::from)
}

fn tcp() -> impl Strategy<Value = TcpImage> {
    let options = (
        proptest::option::of((0..=WINDOW_SCALE_MAX, 0..=WINDOW_SCALE_MAX)),
        any::<bool>(),
        proptest::option::of(any::<u32>()),
    )
        .prop_map(|(window_scale, selective_acknowledgement, timestamp)| TcpOptions {
            window_scale,
            selective_acknowledgement,
            timestamp,
        });
    let window = any::<[u32; 5]>().prop_map(|[snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup]| {
        TcpWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup }
    });
    let addresses = any::<bool>().prop_flat_map(|v4| (address(v4), address(v4)));
    (addresses, any::<(u32, u32)>(), secret_bytes(300), 1..=MSS_MAX, options, window).prop_map(
        |((local, peer), (send_sequence, receive_sequence), send_queue, mss, options, window)| {
            TcpImage {
                local,
                peer,
                send_sequence,
                receive_sequence,
                send_queue,
                mss,
                options,
                window,
            }
        },
    )
}

fn tls() -> impl Strategy<Value = TlsImage> {
    (select(&CipherSuite::ALL[..]), vec(any::<u8>(), 96), any::<u64>(), 0..1_u64 << 24).prop_map(
        |(suite, secrets, client_sequence, server_sequence)| {
            let (client, server) = secrets.split_at(48);
            let length = suite.secret_bytes();
            let client = (&client[..length], client_sequence);
            TlsImage::new(suite, client, (&server[..length], server_sequence)).unwrap()
        },
    )
}

fn notes() -> impl Strategy<Value = ClientNotes> {
    (".{0,20}", any::<u64>(), any::<u32>()).prop_map(|(front_end, connection, moves)| ClientNotes {
        front_end,
        connection,
        moves,
    })
}

fn image() -> impl Strategy<Value = ConnectionImage> {
    let queues = (secret_bytes(300), secret_bytes(300));
    let steering = any::<bool>().prop_flat_map(address);
    let tls = proptest::option::of(tls());
    (0..=EPOCH_MAX, tcp(), queues, any::<bool>(), tls, notes(), steering).prop_map(
        |(epoch, tcp, (received, opened), peer_finished, tls, client, steering)| ConnectionImage {
            epoch,
            tcp,
            received,
            opened: if tls.is_some() { opened } else { SecretBytes::default() },
            peer_finished,
            tls,
            client,
            steering,
        },
    )
}

/// One image for tests that change a field of it.
fn sample() -> ConnectionImage {
    ConnectionImage {
        epoch: 7,
        tcp: TcpImage {
            local: "192.0.2.1:443".parse().unwrap(),
            peer: "198.51.100.9:50000".parse().unwrap(),
            send_sequence: 1000,
            receive_sequence: 2000,
            send_queue: vec![1, 2].into(),
            mss: 1460,
            options: TcpOptions {
                window_scale: Some((7, 8)),
                selective_acknowledgement: true,
                timestamp: Some(99),
            },
            window: TcpWindow::default(),
        },
        received: b"GET /secret-key".to_vec().into(),
        opened: SecretBytes::default(),
        peer_finished: true,
        tls: None,
        client: ClientNotes { front_end: "fe1".into(), connection: 12, moves: 2 },
        steering: "192.0.2.1:9002".parse().unwrap(),
    }
}

#[test]
fn the_layout_does_not_change_by_accident() {
    let mut expected = vec![1];
    expected.extend(7_u64.to_le_bytes());
    expected.extend([4, 192, 0, 2, 1, 0xbb, 0x01]);
    expected.extend([4, 198, 51, 100, 9, 0x50, 0xc3]);
    expected.extend([0xe8, 3, 0, 0, 0xd0, 7, 0, 0]);
    expected.extend([2, 0, 0, 0, 1, 2]);
    expected.extend([0xb4, 5, 0, 0]);
    expected.extend([1, 7, 8, 1, 1, 99, 0, 0, 0]);
    expected.extend([0; 20]);
    expected.extend([15, 0, 0, 0]);
    expected.extend(b"GET /secret-key");
    expected.extend([0, 0, 0, 0, 1, 0]);
    expected.extend([3, 0, 0, 0]);
    expected.extend(b"fe1");
    expected.extend(12_u64.to_le_bytes());
    expected.extend([2, 0, 0, 0]);
    expected.extend([4, 192, 0, 2, 1, 0x2a, 0x23]);
    assert_eq!(**sample().encode(), *expected);
}

#[test]
fn the_largest_image_travels_in_one_allocation_of_its_size() {
    let secret = [1; 48];
    let image = ConnectionImage {
        tcp: TcpImage {
            local: "[2001:db8::1]:443".parse().unwrap(),
            peer: "[2001:db8::2]:443".parse().unwrap(),
            send_queue: vec![1; SEND_QUEUE_BYTES_MAX].into(),
            ..sample().tcp
        },
        received: vec![2; RECEIVED_BYTES_MAX].into(),
        opened: vec![3; OPENED_BYTES_MAX].into(),
        tls: Some(
            TlsImage::new(CipherSuite::Aes256GcmSha384, (&secret, u64::MAX), (&secret, 5)).unwrap(),
        ),
        client: ClientNotes { front_end: "x".repeat(FRONT_END_NAME_BYTES_MAX), ..sample().client },
        ..sample()
    };
    let encoded = image.encode();
    assert!(encoded.len() <= IMAGE_BYTES_MAX);
    assert_eq!(encoded.capacity(), encoded.len());
    assert_eq!(ConnectionImage::decode(&encoded).unwrap(), image);
}

#[test]
fn a_field_beyond_its_bound_is_named() {
    type Change = fn(&mut ConnectionImage);
    let cases: [(Change, &str); 12] = [
        (
            |image| image.received = vec![0; RECEIVED_BYTES_MAX + 1].into(),
            "received has 1048577 bytes, at most 1048576 may be",
        ),
        (
            |image| image.tcp.send_queue = vec![0; SEND_QUEUE_BYTES_MAX + 1].into(),
            "tcp.send_queue has 1048577 bytes, at most 1048576 may be",
        ),
        (
            |image| image.opened = vec![1].into(),
            "opened holds plaintext of a connection without TLS",
        ),
        (|image| image.tcp.mss = 0, "tcp.mss is not between 1 and 65,535"),
        (|image| image.tcp.mss = MSS_MAX + 1, "tcp.mss is not between 1 and 65,535"),
        (
            |image| image.tcp.options.window_scale = Some((0, 15)),
            "tcp.options.window_scale exceeds 14",
        ),
        (|image| image.tcp.local.set_port(0), "tcp.local has port 0"),
        (|image| image.tcp.peer.set_ip([224, 0, 0, 1].into()), "tcp.peer names no single host"),
        (
            |image| image.tcp.peer = "[2001:db8::1]:5".parse().unwrap(),
            "tcp.peer is of another address family than tcp.local",
        ),
        (|image| image.epoch = EPOCH_MAX + 1, "epoch leaves none for the next owners"),
        (|image| image.steering.set_port(0), "steering has port 0"),
        (
            |image| image.client.front_end = "x".repeat(256),
            "client.front_end has 256 bytes, at most 255 may be",
        ),
    ];
    for (change, expected) in cases {
        let mut image = sample();
        change(&mut image);
        assert_eq!(image.check().unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_link_local_client_stays_where_it_is() {
    let mut image = sample();
    image.tcp.local = "[fe80::1]:80".parse().unwrap();
    image.tcp.peer = "[fe80::2%3]:5000".parse().unwrap();
    let error = image.check().unwrap_err();
    assert!(matches!(error, FieldError::Invalid { field: "tcp.peer", .. }), "{error}");
}

#[test]
fn another_version_is_refused_by_number() {
    let mut encoded = sample().encode();
    encoded[0] = 2;
    assert_eq!(ConnectionImage::decode(&encoded), Err(ImageError::Version(2)));
}

#[test]
fn what_follows_the_image_is_refused() {
    let mut encoded = sample().encode().to_vec();
    encoded.extend([0; 3]);
    let error = ConnectionImage::decode(&encoded).unwrap_err();
    assert_eq!(error.to_string(), "bad connection image: 3 bytes follow the last field");
}

#[test]
fn neither_keys_nor_the_clients_bytes_are_ever_shown() {
    let secret = [0xab; 32];
    let suite = CipherSuite::Aes128GcmSha256;
    let mut image = sample();
    image.opened = b"plain-text".to_vec().into();
    image.tls = Some(TlsImage::new(suite, (&secret, 0), (&secret, 0)).unwrap());
    let shown = format!("{image:?}");
    assert!(shown.contains("received: … (15 bytes)"), "{shown}");
    assert!(shown.contains("TrafficSecret(Aes128GcmSha256, …)"), "{shown}");
    for secret in ["171", "ab, ab", "secret-key", "plain-text", "71, 69, 84"] {
        assert!(!shown.contains(secret), "{secret:?} in {shown}");
    }
}

proptest! {
    #[test]
    fn every_image_survives_the_journey(image in image()) {
        let encoded = image.encode();
        prop_assert_eq!(encoded.capacity(), encoded.len());
        prop_assert_eq!(ConnectionImage::decode(&encoded).unwrap(), image);
    }

    #[test]
    fn every_truncation_is_refused(image in image()) {
        let encoded = image.encode();
        for end in 0..encoded.len() {
            let error = ConnectionImage::decode(&encoded[..end]).unwrap_err();
            prop_assert!(matches!(error, ImageError::Field(FieldError::Truncated { .. })), "{}", error);
        }
    }

    #[test]
    fn what_is_taken_is_encoded_as_it_came(
        image in image(),
        flips in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut encoded = image.encode().to_vec();
        for (at, byte) in flips {
            let at = at.index(encoded.len());
            encoded[at] = byte;
        }
        if let Ok(image) = ConnectionImage::decode(&encoded) {
            prop_assert_eq!(&**image.encode(), &encoded);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..400)) {
        let mut bytes = bytes;
        prop_assert!(ConnectionImage::decode(&bytes).is_err() || bytes.len() > 60);
        if let Some(version) = bytes.first_mut() {
            *version = 1;
            let _ = ConnectionImage::decode(&bytes);
        }
    }
}
