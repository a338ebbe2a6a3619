//! A tiny HTTP server on loopback, one thread a connection, which can misbehave.

use ashlar_object::synthetic::byte_at;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server does instead of answering well.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Good,
    /// Says `Connection: close` after each answer.
    ClosesAfterAnswers,
    /// Leaves out the last byte of every object.
    ShortBodies,
    /// Changes the last byte of every object.
    WrongBytes,
    /// Closes instead of answering.
    HangsUp,
    /// Never answers.
    Stalls,
    /// Answers something that is not HTTP.
    Babbles,
    /// Answers 503 to every second request of a connection.
    Refuses,
}

type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Serves until the test process ends; GET `/N` answers N synthetic bytes.
pub(crate) fn serve(manner: Manner) -> SocketAddr {
    start(manner, None)
}

/// The same over TLS; also its certificate as PEM.
pub(crate) fn serve_tls(manner: Manner) -> (SocketAddr, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (start(manner, Some(Arc::new(config))), cert.pem())
}

fn start(manner: Manner, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let objects = Objects::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, objects, tls) = (stream.unwrap(), Arc::clone(&objects), tls.clone());
            stream.set_nodelay(true).unwrap();
            // A client that leaves in the middle ends its thread with an error: no matter.
            thread::spawn(move || match tls {
                None => serve_connection(stream, manner, &objects),
                Some(config) => {
                    let session = ServerConnection::new(config).unwrap();
                    serve_connection(StreamOwned::new(session, stream), manner, &objects)
                }
            });
        }
    });
    address
}

fn serve_connection(
    stream: impl Read + Write,
    manner: Manner,
    objects: &Objects,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    for number in 0_u64.. {
        let Some((method, path, body)) = read_request(&mut stream)? else {
            return Ok(());
        };
        let mut answer = match method.as_str() {
            "PUT" => {
                objects.lock().unwrap().insert(path, body);
                b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec()
            }
            _ => get(&path, manner, objects),
        };
        match manner {
            Manner::HangsUp => return Ok(()),
            Manner::Stalls => loop {
                thread::park();
            },
            Manner::Babbles => answer = b"+OK ready\r\n".to_vec(),
            Manner::Refuses if number % 2 == 1 => {
                answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec();
            }
            _ => {}
        }
        stream.get_mut().write_all(&answer)?;
        stream.get_mut().flush()?;
        if manner == Manner::ClosesAfterAnswers {
            return Ok(());
        }
    }
    Ok(())
}

/// Method, path and body of the next request; `None` at the end of the connection.
fn read_request(
    stream: &mut BufReader<impl Read>,
) -> std::io::Result<Option<(String, String, Vec<u8>)>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut body_bytes = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        if header == "\r\n" {
            break;
        }
        if let Some(value) = header.strip_prefix("Content-Length: ") {
            body_bytes = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body)?;
    Ok(Some((method, path, body)))
}

fn get(path: &str, manner: Manner, objects: &Objects) -> Vec<u8> {
    let synthetic = path[1..].parse().ok().map(|size: u64| (0..size).map(byte_at).collect());
    let Some(mut body) = synthetic.or_else(|| objects.lock().unwrap().get(path).cloned()) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    match manner {
        Manner::ShortBodies => {
            body.pop();
        }
        Manner::WrongBytes => *body.last_mut().unwrap() ^= 1,
        _ => {}
    }
    let connection =
        if manner == Manner::ClosesAfterAnswers { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{connection}\r\n", body.len());
    [head.into_bytes(), body].concat()
}
