//! Secrets of clients and of the cluster never reach a log, however talkative it is.

use crate::{
    http_client::Server,
    laboratory::{MOVED, is_possible, metric, spec},
    program::{Program, command, report},
    user::{Campaign, Report, Work},
};
use ashlar_lab::{CLIENT, FRONT_END, Lab, Role};
use ashlar_net::channel_identity::ClusterKey;
use std::{fs, time::Duration};

/// How many bytes of a secret are looked for: no others are these by chance.
const TELLING_BYTES: usize = 8;

#[test]
fn talkative_logs_hold_no_secret() {
    if !is_possible("talkative_logs_hold_no_secret") {
        return;
    }
    let spec = spec('l').storage_nodes(3).replicas(2).threshold_bytes(0);
    let lab = Lab::up(&spec).unwrap().down_on_drop();
    let nodes = ["s1", "s2", "s3", "fe"];
    let mut key_file = String::new();
    for host in &nodes {
        let path = lab.node_configuration(host).unwrap().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut configuration: toml::Table = text.parse().unwrap();
        configuration["log"]["level"] = "trace".into();
        key_file = configuration["cluster"]["key_file"].as_str().unwrap().to_owned();
        fs::write(&path, toml::to_string(&configuration).unwrap()).unwrap();
        lab.stop_node(host).unwrap();
        lab.start_node(host).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let key_log = directory.path().join("keys");
    let server = Server { address: lab.address(FRONT_END).unwrap(), secure: true };
    let program = Program::Users(Campaign {
        server,
        work: Work::Objects,
        users: 8,
        requests: 400,
        seed: 1,
        rude: false,
        may_break: false,
        patience: Duration::from_secs(20),
        transcript: None,
    });
    let mut command = command(&lab, CLIENT, &program);
    command.env("SSLKEYLOGFILE", &key_log);
    let report: Report = report(&program, command);
    assert!(report.answered > 300, "{report:?}");
    let moved = metric(&lab, Role::FrontEnd, MOVED);
    assert!(moved >= 8, "{moved} moves");

    let mut secrets = secrets_of_clients(&fs::read_to_string(&key_log).unwrap());
    assert!(secrets.len() >= 8 * 4, "{} secrets", secrets.len());
    secrets.push(from_hex(fs::read_to_string(&key_file).unwrap().trim()));
    let steering_key = ClusterKey::load(key_file.as_ref()).unwrap().steering_key();
    secrets.push(steering_key.as_bytes().to_vec());
    for host in &nodes {
        let log = fs::read(lab.node_log(host)).unwrap();
        assert!(contains(&log, b"TRACE"), "{host} does not say everything");
        for secret in &secrets {
            let found = forms(secret).into_iter().find(|form| contains(&log, form.as_bytes()));
            // Not shown: this output is a log, too.
            assert!(found.is_none(), "the log of {host} holds a secret");
        }
    }
}

/// The secrets of a file in NSS's format: label, random bytes, secret.
fn secrets_of_clients(key_log: &str) -> Vec<Vec<u8>> {
    key_log.lines().map(|line| from_hex(line.rsplit(' ').next().unwrap())).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(
        text.len() >= 2 * TELLING_BYTES && text.len().is_multiple_of(2),
        "{} digits",
        text.len()
    );
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// What a secret's first bytes look like when somebody prints them.
fn forms(secret: &[u8]) -> Vec<String> {
    let telling = &secret[..TELLING_BYTES];
    let each = |form: fn(&u8) -> String, between: &str| {
        telling.iter().map(form).collect::<Vec<_>>().join(between)
    };
    vec![
        each(|byte| format!("{byte:02x}"), ""),
        each(|byte| format!("{byte:02X}"), ""),
        each(|byte| format!("{byte:02x}"), ":"),
        each(|byte| format!("{byte:02x}"), " "),
        each(u8::to_string, ", "),
        each(u8::to_string, ","),
        each(|byte| format!("{byte:#04x}"), ", "),
        each(|byte| byte.escape_ascii().to_string(), ""),
        base64(telling),
    ]
}

/// The part of a secret's Base64 that these, its first bytes, decide.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let whole = bits.as_bytes().chunks_exact(6);
    let digit = |six: &[u8]| usize::from_str_radix(str::from_utf8(six).unwrap(), 2).unwrap();
    whole.map(|six| char::from(DIGITS[digit(six)])).collect()
}

fn contains(log: &[u8], form: &[u8]) -> bool {
    log.windows(form.len()).any(|window| window == form)
}

#[test]
fn secrets_are_found_in_every_form() {
    let secret = *b"\x00\x7f\x80\xffabcdefgh";
    let logs = [
        format!("{secret:?}"),
        format!("{secret:02x?}").replace(", ", ""),
        format!("key={}…", secret.escape_ascii()),
        "AH+A/2FiY2RlZmdo".to_owned(),
        "007f80ff61626364".to_owned(),
    ];
    for log in logs {
        let finds = forms(&secret).iter().any(|form| contains(log.as_bytes(), form.as_bytes()));
        assert!(finds, "{log}");
    }
    assert!(!forms(&secret).iter().any(|form| contains(b"007f80ff61626365", form.as_bytes())));
}
