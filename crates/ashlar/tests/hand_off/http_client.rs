//! An HTTP client that sees everything: the order of bytes, where they end, and how a connection ends.

use ashlar_bench::load::Trust;
use ashlar_object::synthetic::byte_at;
use rustls::{ClientConfig, KeyLogFile};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf,
        WriteHalf,
    },
    net::TcpSocket,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The most bytes of a response's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes read in one go.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a server is and how it is spoken to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) address: Ipv4Addr,
    /// HTTPS.
    pub(crate) secure: bool,
}

/// What a connection reads from and writes to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The half of a connection that responses come from.
pub(crate) struct Incoming(BufReader<ReadHalf<Box<dyn Stream>>>);

/// The half that requests go to.
pub(crate) struct Outgoing {
    stream: WriteHalf<Box<dyn Stream>>,
    /// The same socket, to reset it.
    socket: socket2::Socket,
}

/// What came before a response's body.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let first = found.next();
        assert!(found.next().is_none(), "{name} came twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    /// Whether the server says that this response is the last.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How long the body is that follows.
    pub(crate) fn body_bytes(&self, answers_head: bool) -> u64 {
        if answers_head || self.status == 204 || self.status == 304 || self.status < 200 {
            return 0;
        }
        assert!(self.field("transfer-encoding").is_none(), "{self:?}");
        let length = self.field("content-length").unwrap_or_else(|| panic!("no length: {self:?}"));
        length.parse().unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Server {
    /// Opens a connection.
    pub(crate) async fn connect(&self, patience: Duration) -> io::Result<(Incoming, Outgoing)> {
        timeout(patience, self.open()).await.map_err(|_| too_long("while connecting"))?
    }

    async fn open(&self) -> io::Result<(Incoming, Outgoing)> {
        let port = if self.secure { 443 } else { 80 };
        let socket = TcpSocket::new_v4()?;
        let stream = socket.connect(SocketAddr::from((self.address, port))).await?;
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream).try_clone()?;
        let stream: Box<dyn Stream> = if self.secure {
            let name = ServerName::from(IpAddr::V4(self.address));
            let connector = TlsConnector::from(client_config());
            Box::new(connector.connect(name, stream).await?)
        } else {
            Box::new(stream)
        };
        let (incoming, stream) = tokio::io::split(stream);
        Ok((Incoming(BufReader::new(incoming)), Outgoing { stream, socket }))
    }
}

/// How clients speak TLS. Their secrets go to the file that `SSLKEYLOGFILE` names, if it does.
pub(crate) fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| {
        // The laboratory's certificate is self-signed; who the server is does not matter here.
        let mut config = Trust::Everybody.client_config().unwrap();
        config.key_log = Arc::new(KeyLogFile::new());
        Arc::new(config)
    }))
}

/// Reads a synthetic object of `bytes`, and looks at every one. Says whether the server ends the connection with it; an error if no
/// answer begins.
///
/// # Panics
/// If the answer is wrong, or breaks off.
pub(crate) async fn read_synthetic(
    path: &str,
    bytes: u64,
    (incoming, outgoing): (&mut Incoming, &mut Outgoing),
    patience: Duration,
) -> io::Result<bool> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
    outgoing.send(request.as_bytes()).await?;
    let answer = async {
        let head = incoming.head().await?;
        assert_eq!((head.status, head.body_bytes(false)), (200, bytes), "{head:?}");
        let mut offset = 0;
        let look = |bytes: &[u8]| {
            for byte in bytes {
                assert_eq!(*byte, byte_at(offset), "at {offset}");
                offset += 1;
            }
        };
        incoming.body(bytes, look).await.unwrap();
        Ok(head.closes())
    };
    timeout(patience, answer).await.map_err(|_| too_long("in an answer"))?
}

impl Incoming {
    /// The head of the next response, whether final or not.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let line = self.line().await?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| digits.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let mut head = Head { status, fields: Vec::new() };
        let mut bytes = line.len();
        loop {
            let line = self.line().await?;
            bytes += line.len();
            assert!(bytes <= HEAD_BYTES_MAX, "{head:?}");
            if line == "\r\n" {
                return Ok(head);
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
            head.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Shows `length` bytes to `look`, piece by piece; also those that come before an error.
    pub(crate) async fn body(
        &mut self,
        length: u64,
        mut look: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut left = length;
        let mut chunk = vec![0; CHUNK_BYTES.min(length as usize)];
        while left > 0 {
            let wanted = chunk.len().min(left as usize);
            let bytes = self.0.read(&mut chunk[..wanted]).await?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            look(&chunk[..bytes]);
            left -= bytes as u64;
        }
        Ok(())
    }

    /// Whether the server has closed and sent nothing more.
    pub(crate) async fn is_at_end(&mut self) -> io::Result<bool> {
        match self.0.fill_buf().await {
            Ok(rest) => Ok(rest.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }
}

impl Outgoing {
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends nothing more, and says so.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Has the connection end with a reset when both halves are dropped.
    pub(crate) fn reset_on_drop(&self) -> io::Result<()> {
        self.socket.set_linger(Some(Duration::ZERO))
    }
}

/// What is reported when the server is silent.
pub(crate) fn too_long(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the server is silent {place}"))
}
