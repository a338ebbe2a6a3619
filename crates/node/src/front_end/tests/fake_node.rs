//! A storage node that plays a script.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

/// A request as the node got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: HashMap<String, String>,
    /// None until the script asks for it.
    pub(super) body: Option<Vec<u8>>,
    /// The number of the connection that it came by.
    pub(super) connection: u64,
}

impl Seen {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// First byte and end of a Range field.
    pub(super) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    }
}

/// What the script does about a request.
pub(super) enum Reply {
    /// Reads the body, and asks the script again.
    TakeBody,
    /// Sends this, whole.
    Whole(Vec<u8>),
    /// Sends this and closes the connection.
    Cut(Vec<u8>),
    /// Sends nothing until the node ends.
    Silence,
}

/// A response with a body.
pub(super) fn response(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// The same response, only so many bytes of it.
pub(super) fn cut_after(bytes: usize, mut response: Vec<u8>) -> Reply {
    let head = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    response.truncate(head + bytes);
    Reply::Cut(response)
}

/// An object as a storage node serves it: whole or a range, if it still has that entity tag.
pub(super) fn serve_object(seen: &Seen, etag: &str, object: &[u8]) -> Vec<u8> {
    if seen.field("if-match").is_some_and(|tag| tag != etag) {
        return response(412, &[], b"changed\n");
    }
    match seen.range() {
        Some((start, end)) => {
            let range = format!("bytes {start}-{}/{}", end - 1, object.len());
            response(206, &[("etag", etag), ("content-range", &range)], &object[start..end])
        }
        None => response(200, &[("etag", etag)], object),
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A node that listens until it is dropped.
pub(super) struct FakeNode {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<Vec<TcpStream>>,
    connected: AtomicU64,
    sent_bytes: AtomicU64,
    serves: AtomicBool,
    stopped: AtomicBool,
}

impl FakeNode {
    /// A node that answers checks, and everything else by `script`.
    pub(super) fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// As [`FakeNode::start`], at an address where another one has been.
    pub(super) fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            connections: Mutex::default(),
            connected: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            serves: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(SeqCst) {
                    return;
                }
                accepting.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let number = accepting.connected.fetch_add(1, SeqCst);
                let shared = Arc::clone(&accepting);
                // A connection ends with an error when either side closes it.
                thread::spawn(move || shared.converse(stream, number));
            }
        });
        Self { address, shared }
    }

    /// Requests so far, without checks.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Bytes that the node could send so far.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(SeqCst)
    }

    /// Answers checks with 503 from now on, or no longer.
    pub(super) fn set_serves(&self, serves: bool) {
        self.shared.serves.store(serves, SeqCst);
    }

    /// Plays another script from now on.
    pub(super) fn play(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// Closes all connections, as a restart of the node does.
    pub(super) fn close_connections(&self) {
        for stream in self.shared.connections.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        self.close_connections();
    }
}

impl Shared {
    fn converse(&self, mut stream: TcpStream, connection: u64) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(mut seen) = read_head(&mut reader, connection)? {
            if seen.field("x-ashlar-ping").is_some() {
                let status = if self.serves.load(SeqCst) { "204 No Content" } else { "503 Down" };
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
                continue;
            }
            let script = Arc::clone(&self.script.lock().unwrap());
            let mut reply = script(&seen);
            if matches!(reply, Reply::TakeBody) {
                if seen.field("expect").is_some() {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                seen.body = Some(read_body(&mut reader, &seen)?);
                reply = script(&seen);
            }
            self.seen.lock().unwrap().push(seen);
            match reply {
                Reply::TakeBody => panic!("the script has the body"),
                Reply::Whole(bytes) => self.send(&mut stream, &bytes)?,
                Reply::Cut(bytes) => {
                    self.send(&mut stream, &bytes)?;
                    return stream.shutdown(Shutdown::Both);
                }
                Reply::Silence => {
                    reader.read_to_end(&mut Vec::new())?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        for piece in bytes.chunks(64 * 1024) {
            stream.write_all(piece)?;
            self.sent_bytes.fetch_add(piece.len() as u64, SeqCst);
        }
        Ok(())
    }
}

fn read_head(reader: &mut BufReader<TcpStream>, connection: u64) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(String::from);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut fields = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let before = fields.insert(name.to_lowercase(), value.to_string());
        assert!(before.is_none(), "{name} stands twice");
    }
    Ok(Some(Seen { method, target, fields, body: None, connection }))
}

fn read_body(reader: &mut BufReader<TcpStream>, seen: &Seen) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = seen.field("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body)?;
        return Ok(body);
    }
    if seen.field("transfer-encoding") != Some("chunked") {
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}
