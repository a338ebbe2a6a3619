//! A frozen connection as a value: what one host exports and another one imports.
//!
//! The client's bytes that nobody has processed travel as they came off the wire. They are handed to
//! the new owner's user space and never put back into a kernel's receive queue: the new socket
//! starts *behind* them, and behind the client's FIN if it was received. A socket that is restored
//! is therefore always ESTABLISHED, and the end of the stream is reported from
//! [`ConnectionImage::peer_finished`].
//!
//! The encoding has a version, bounds for every field and no optional parts at its end; what it
//! does not know it refuses.

mod tcp;

pub use tcp::{MSS_MAX, SEND_QUEUE_BYTES_MAX, TcpImage, TcpOptions, TcpWindow, WINDOW_SCALE_MAX};

use crate::{
    SecretBytes,
    codec::{Decoder, FieldError, Length, Sink},
    tls::TlsImage,
};
use core::net::SocketAddr;

/// The layout's version; an image of another one is refused.
pub const IMAGE_VERSION: u8 = 1;
/// The most bytes of [`ConnectionImage::received`].
pub const RECEIVED_BYTES_MAX: usize = 1 << 20;
/// The most bytes of [`ConnectionImage::opened`].
pub const OPENED_BYTES_MAX: usize = 64 << 10;
/// The most bytes of [`ClientNotes::front_end`].
pub const FRONT_END_NAME_BYTES_MAX: usize = 255;
/// The most bytes of an encoded image: its three queues, and at most 1 KiB of the rest.
pub const IMAGE_BYTES_MAX: usize =
    SEND_QUEUE_BYTES_MAX + RECEIVED_BYTES_MAX + OPENED_BYTES_MAX + (1 << 10);

/// One client connection between two requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionImage {
    /// The epoch that steering's entry of this flow has while the exporter owns it. The move points
    /// it at the next one.
    pub epoch: u64,
    /// The socket.
    pub tcp: TcpImage,
    /// What the client has sent and nobody has processed, in order: the bytes of requests, or with
    /// TLS whole and partial records. At most [`RECEIVED_BYTES_MAX`].
    pub received: SecretBytes,
    /// TLS only: plaintext that was opened and not processed. It precedes what `received` holds. At
    /// most [`OPENED_BYTES_MAX`].
    pub opened: SecretBytes,
    /// The client's FIN was received; it follows `received`.
    pub peer_finished: bool,
    /// The record layer's state, if the client speaks TLS.
    pub tls: Option<TlsImage>,
    /// What the front end told about the client.
    pub client: ClientNotes,
    /// Where steering takes control datagrams about this flow.
    pub steering: SocketAddr,
}

/// What every owner of a connection wants to know about its past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientNotes {
    /// The front end that accepted the connection, by its name in the cluster: a hand-back goes
    /// there. At most [`FRONT_END_NAME_BYTES_MAX`].
    pub front_end: String,
    /// The front end's number of the connection, which names it in every owner's logs.
    pub connection: u64,
    /// How often the connection has moved before.
    pub moves: u32,
}

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The exporter speaks another version.
    #[error("the image has version {0}, this node knows {IMAGE_VERSION}")]
    Version(u8),
    /// A field is wrong.
    #[error("bad connection image: {0}")]
    Field(#[from] FieldError),
}

impl ConnectionImage {
    /// Encodes the image, in one allocation of just its size, so that no copy is left in memory.
    ///
    /// # Panics
    /// When [`ConnectionImage::check`] fails: look before the connection is frozen for good.
    pub fn encode(&self) -> SecretBytes {
        if let Err(error) = self.check() {
            panic!("an image that was not checked: {error}");
        }
        let mut length = Length::default();
        self.write(&mut length);
        let mut out = SecretBytes::with_capacity(length.0);
        self.write(&mut *out);
        assert_eq!(out.len(), length.0);
        assert!(length.0 <= IMAGE_BYTES_MAX);
        out
    }

    /// Decodes and checks an image.
    ///
    /// # Errors
    /// For any bytes that [`ConnectionImage::encode`] did not give, naming the bad field.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let mut decoder = Decoder::new(bytes);
        let version = decoder.u8("version")?;
        if version != IMAGE_VERSION {
            return Err(ImageError::Version(version));
        }
        let image = Self::read(&mut decoder)?;
        decoder.finish()?;
        image.check()?;
        Ok(image)
    }

    /// Checks what an importer would refuse: bounds, and values that contradict each other.
    ///
    /// # Errors
    /// Names the first bad field.
    pub fn check(&self) -> Result<(), FieldError> {
        self.tcp.check()?;
        within("received", self.received.len(), RECEIVED_BYTES_MAX)?;
        within("opened", self.opened.len(), OPENED_BYTES_MAX)?;
        within("client.front_end", self.client.front_end.len(), FRONT_END_NAME_BYTES_MAX)?;
        if self.tls.is_none() && !self.opened.is_empty() {
            return Err(FieldError::invalid(
                "opened",
                "holds plaintext of a connection without TLS",
            ));
        }
        if self.epoch > EPOCH_MAX {
            return Err(FieldError::invalid("epoch", "leaves none for the next owners"));
        }
        if self.steering.port() == 0 {
            return Err(FieldError::invalid("steering", "has port 0"));
        }
        Ok(())
    }

    fn write(&self, out: &mut impl Sink) {
        out.u8(IMAGE_VERSION);
        out.u64(self.epoch);
        self.tcp.write(out);
        out.bytes(&self.received);
        out.bytes(&self.opened);
        out.flag(self.peer_finished);
        out.option(self.tls.as_ref(), |out, tls| tls.write(out));
        out.bytes(self.client.front_end.as_bytes());
        out.u64(self.client.connection);
        out.u32(self.client.moves);
        out.address(self.steering);
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            epoch: from.u64("epoch")?,
            tcp: TcpImage::read(from)?,
            received: from.bytes("received", RECEIVED_BYTES_MAX)?.into(),
            opened: from.bytes("opened", OPENED_BYTES_MAX)?.into(),
            peer_finished: from.flag("peer_finished")?,
            tls: from.option("tls", TlsImage::read)?,
            client: ClientNotes {
                front_end: name(from.bytes("client.front_end", FRONT_END_NAME_BYTES_MAX)?)?,
                connection: from.u64("client.connection")?,
                moves: from.u32("client.moves")?,
            },
            steering: from.address("steering")?,
        })
    }
}

/// The highest epoch that an owner may have: every move takes at most two more, and no connection
/// lives for that many.
pub const EPOCH_MAX: u64 = u64::MAX >> 1;

fn name(bytes: &[u8]) -> Result<String, FieldError> {
    let name = str::from_utf8(bytes);
    name.map(str::to_owned).map_err(|_| FieldError::invalid("client.front_end", "is not UTF-8"))
}

fn within(field: &'static str, bytes: usize, bytes_max: usize) -> Result<(), FieldError> {
    if bytes > bytes_max { Err(FieldError::TooLong { field, bytes, bytes_max }) } else { Ok(()) }
}
