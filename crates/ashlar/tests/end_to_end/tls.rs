//! HTTPS with the self-signed certificate that a store makes.

use crate::harness::{Curl, Store, ashlar, content, eventually, reason};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn start() -> (Store, String, PathBuf) {
    let store = Store::with(&["--https", "127.0.0.1:0"]);
    let https = store.https.clone().expect("an https endpoint");
    let certificate = store.data().join("front-end/tls/certificate.pem");
    (store, https, certificate)
}

#[test]
fn objects_are_served_over_tls_1_2_and_1_3() {
    let (store, https, certificate) = start();
    let bytes = content(11, 3_000_000);
    let curl = |path: &str| {
        Curl::new(&format!("{https}{path}")).with(["--cacert", certificate.to_str().unwrap()])
    };
    for options in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let path = format!("/{}", options[2]);
        assert_eq!(curl(&path).put(bytes.clone()).with(options).run().status, 201);
        assert!(curl(&path).with(options).run().body == bytes);
    }
    assert!(store.curl("/1.2").run().body == bytes, "one store behind both");
    assert!(Curl::new(&format!("{https}/1.2")).attempt().is_err(), "nobody vouches for it");
    let localhost = https.replace("127.0.0.1", "localhost");
    let by_name = Curl::new(&format!("{localhost}/1.2"));
    let by_name = by_name.with(["--cacert", certificate.to_str().unwrap(), "--ipv4"]);
    assert_eq!(by_name.run().status, 200);
}

#[test]
fn a_new_certificate_is_served_after_sighup() {
    let (store, https, certificate) = start();
    let (_other, _, other_certificate) = start();
    let is_served = |certificate: &Path| {
        let curl = Curl::new(&https).with(["--cacert", certificate.to_str().unwrap()]);
        curl.attempt().is_ok_and(|reply| reply.status == 200)
    };
    assert!(is_served(&certificate) && !is_served(&other_certificate));
    for name in ["certificate.pem", "private-key.pem"] {
        fs::copy(other_certificate.with_file_name(name), certificate.with_file_name(name)).unwrap();
    }
    store.process.signal(Signal::HUP);
    eventually("the new certificate is served", || is_served(&other_certificate).then_some(()));
}

#[test]
fn the_command_line_believes_what_it_is_told_to() {
    let (store, https, certificate) = start();
    let file = store.file("file", b"abc");
    let put = |options: &[&str]| {
        let mut command = ashlar(&["obj", "--endpoint", &https]);
        command.args(options).args(["put", "a"]).arg(&file).output().unwrap()
    };
    assert!(put(&["--cacert", certificate.to_str().unwrap()]).status.success());
    assert!(put(&["--insecure"]).status.success());
    assert!(reason(&put(&[])).contains("--cacert"), "https needs trust");
    let (_other, _, other_certificate) = start();
    let refused = put(&["--cacert", other_certificate.to_str().unwrap()]);
    assert!(reason(&refused).contains("certificate"), "{}", reason(&refused));
    let refused = put(&["--cacert", file.to_str().unwrap()]);
    assert!(reason(&refused).contains("it holds no certificate"), "{}", reason(&refused));
    assert_eq!(store.curl("/a").run().text(), "abc");
}
