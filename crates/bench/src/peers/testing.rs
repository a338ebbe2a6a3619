//! What tests of configurations share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{HttpsSpec, ProxySpec};
use std::path::Path;

/// HTTPS with the certificate and key of a directory.
pub(super) fn https(address: &str, directory: &str) -> HttpsSpec {
    HttpsSpec {
        address: address.parse().unwrap(),
        certificate: Path::new(directory).join("certificate.pem"),
        private_key: Path::new(directory).join("key.pem"),
    }
}

/// A proxy of two storage nodes over HTTP and HTTPS, with the certificate and key of a directory.
pub(super) fn proxy(directory: &str) -> ProxySpec {
    ProxySpec {
        http: "10.0.0.1:80".parse().unwrap(),
        https: Some(https("10.0.0.1:443", directory)),
        upstreams: vec!["10.0.0.2:9000".parse().unwrap(), "10.0.0.3:9000".parse().unwrap()],
        threads: 2,
        connections_max: 100,
    }
}

/// Every one of these lines, or parts of lines, is in the text.
pub(super) fn assert_says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line} is missing");
    }
}
