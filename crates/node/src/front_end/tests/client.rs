//! A client that sends exactly what a test says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the front end.
pub(super) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

/// A response as it came.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The field's value, if it stands there once.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} stands twice");
        Some(&value.1)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        Self::over(stream(address))
    }

    /// Closes the sending side.
    pub(super) fn finish(&self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A connection that does not wait for ever.
pub(super) fn stream(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl<S: Read + Write> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a request without a body and receives its response.
    pub(super) fn request(&mut self, method: &str, target: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if method == "HEAD" { self.head() } else { self.response() }
    }

    pub(super) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target)
    }

    pub(super) fn put(&mut self, target: &str, body: &[u8]) -> Response {
        let length = body.len();
        self.send(format!("PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        self.send(body);
        self.response()
    }

    /// Receives a response's head.
    pub(super) fn head(&mut self) -> Response {
        let line = self.line();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}"));
        let status = status.parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            fields.push((name.to_string(), value.to_string()));
        }
        Response { status, fields, body: Vec::new() }
    }

    /// Receives a response whose length is known.
    pub(super) fn response(&mut self) -> Response {
        let mut response = self.head();
        assert_eq!(response.field("transfer-encoding"), None);
        let bodiless = response.status < 200 || matches!(response.status, 204 | 304);
        if !bodiless {
            let length = response.field("content-length").unwrap().parse().unwrap();
            response.body.resize(length, 0);
            self.stream.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// Receives so many bytes.
    pub(super) fn rest_of(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Receives up to the end of the connection.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends the connection as well; what has come counts.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }
}
