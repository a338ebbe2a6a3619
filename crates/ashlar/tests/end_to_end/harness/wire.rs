//! Requests byte for byte, where curl is too well-behaved.

use super::{PATIENCE, Reply};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

/// A connection whose bytes the test chooses.
pub(crate) struct Wire {
    stream: TcpStream,
    /// What came and has not been read.
    received: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Sends `bytes`; false if the other side does not take them any more.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer to a request that is not HEAD, with its body; 1xx is an answer, too.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.reply_head();
        reply.body = if reply.status < 200 || matches!(reply.status, 204 | 304) {
            Vec::new()
        } else if reply.field("transfer-encoding") == "chunked" {
            self.chunks()
        } else if let Ok(length) = reply.field("content-length").parse() {
            self.exactly(length)
        } else {
            self.rest()
        };
        reply
    }

    /// The next answer's head alone: all there is for HEAD.
    pub(crate) fn reply_head(&mut self) -> Reply {
        loop {
            if let Some((reply, length)) = Reply::head(&self.received) {
                self.received.drain(..length);
                return reply;
            }
            assert!(self.receive(), "the connection ended instead of an answer");
        }
    }

    /// Whether the other side ends the connection without sending anything more.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.received.is_empty() && !self.receive()
    }

    /// Reads to the end of the connection; whether no answer there says that a request succeeded.
    pub(crate) fn ends_without_success(&mut self) -> bool {
        while self.receive() {}
        let head = Reply::head(&self.received);
        head.is_none_or(|(reply, _)| !(200..300).contains(&reply.status))
    }

    /// The next `length` bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.receive(), "{} of {length} bytes came", self.received.len());
        }
        self.received.drain(..length).collect()
    }

    fn rest(&mut self) -> Vec<u8> {
        while self.receive() {}
        std::mem::take(&mut self.received)
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let length = usize::from_str_radix(&line, 16).expect("a chunk's length");
            body.extend(self.exactly(length));
            assert_eq!(self.line(), "", "a chunk ends with an empty line");
            if length == 0 {
                return body;
            }
        }
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(self.receive(), "the connection ended inside a line");
        }
    }

    /// Receives more; false at the end.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}
