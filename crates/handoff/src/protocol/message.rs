//! What the two owners tell each other. The channel frames the messages.

use crate::{
    SecretBytes,
    codec::{Decoder, FieldError, Length, Sink},
    image::{IMAGE_BYTES_MAX, RECEIVED_BYTES_MAX},
};

/// The layout's version; messages of another one are refused.
const MESSAGE_VERSION: u8 = 1;
/// Bytes of a message besides an image.
const HEADER_BYTES_MAX: usize = 32;
/// The most bytes of an encoded message.
pub const MESSAGE_BYTES_MAX: usize = IMAGE_BYTES_MAX + HEADER_BYTES_MAX;

const OFFER: u8 = 1;
const REFUSED: u8 = 2;
const TAKEN: u8 = 3;
const CUT: u8 = 4;
const LATE: u8 = 5;

/// Names a move on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u64);

/// A step of a move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Here is a frozen connection.
    Offer {
        /// An encoded [`ConnectionImage`](crate::image::ConnectionImage).
        image: SecretBytes,
    },
    /// The importer does not serve it, and never sends a byte.
    Refused {
        /// Why.
        reason: Refusal,
        /// It may have claimed the flow.
        claimed: bool,
    },
    /// The importer serves it.
    Taken,
    /// The exporter's kernel has acknowledged what the image does not have, and cannot be told: nobody
    /// can go on.
    Cut,
    /// The exporter's kernel has received bytes that the image does not have.
    Late {
        /// All of them, from the image's receive sequence on; at least one.
        bytes: SecretBytes,
    },
}

/// Why an importer does not take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// It is about to stop.
    #[error("it drains")]
    Draining = 1,
    /// It has as many connections as it may.
    #[error("it has no room")]
    Full = 2,
    /// It does not understand the image.
    #[error("the image is invalid")]
    InvalidImage = 3,
    /// It serves a connection of the same addresses.
    #[error("it serves this flow already")]
    FlowInUse = 4,
    /// Its kernel did not make the socket, or not bring it to life.
    #[error("its kernel refused the socket")]
    Kernel = 5,
    /// A step came after its deadline.
    #[error("it gave up waiting")]
    Expired = 6,
    /// The host can import no connections.
    #[error("it cannot import connections")]
    Unsupported = 7,
    /// Steering did not answer its claim.
    #[error("steering did not answer it")]
    SteeringSilent = 8,
    /// Steering does not know the flow any more.
    #[error("steering has forgotten the flow")]
    FlowForgotten = 9,
    /// Steering follows somebody else.
    #[error("steering follows somebody else")]
    Superseded = 10,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Draining,
        Self::Full,
        Self::InvalidImage,
        Self::FlowInUse,
        Self::Kernel,
        Self::Expired,
        Self::Unsupported,
        Self::SteeringSilent,
        Self::FlowForgotten,
        Self::Superseded,
    ];
}

/// Why bytes are not a message. The channel they came on is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The peer speaks another version.
    #[error("the hand-off message has version {0}, this node knows {MESSAGE_VERSION}")]
    Version(u8),
    /// A field is wrong.
    #[error("bad hand-off message: {0}")]
    Field(#[from] FieldError),
}

impl Message {
    /// Encodes the message, in one allocation of just its size.
    ///
    /// # Panics
    /// When an offer's image exceeds [`IMAGE_BYTES_MAX`], or late bytes [`RECEIVED_BYTES_MAX`].
    pub fn encode(&self, move_id: MoveId) -> SecretBytes {
        let mut length = Length::default();
        self.write(move_id, &mut length);
        assert!(length.0 <= MESSAGE_BYTES_MAX);
        let mut out = SecretBytes::with_capacity(length.0);
        self.write(move_id, &mut *out);
        assert_eq!(out.len(), length.0);
        out
    }

    /// Decodes a message. An offer's image is not looked at.
    ///
    /// # Errors
    /// For any bytes that [`Message::encode`] did not give.
    pub fn decode(bytes: &[u8]) -> Result<(MoveId, Self), MessageError> {
        let mut from = Decoder::new(bytes);
        let version = from.u8("version")?;
        if version != MESSAGE_VERSION {
            return Err(MessageError::Version(version));
        }
        let move_id = MoveId(from.u64("move")?);
        let message = Self::read(&mut from)?;
        from.finish()?;
        Ok((move_id, message))
    }

    fn write(&self, move_id: MoveId, out: &mut impl Sink) {
        out.u8(MESSAGE_VERSION);
        out.u64(move_id.0);
        match self {
            Self::Offer { image } => {
                out.u8(OFFER);
                out.bytes(image);
            }
            Self::Refused { reason, claimed } => {
                out.u8(REFUSED);
                out.u8(*reason as u8);
                out.flag(*claimed);
            }
            Self::Taken => out.u8(TAKEN),
            Self::Cut => out.u8(CUT),
            Self::Late { bytes } => {
                assert!(!bytes.is_empty() && bytes.len() <= RECEIVED_BYTES_MAX);
                out.u8(LATE);
                out.bytes(bytes);
            }
        }
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, FieldError> {
        Ok(match from.u8("kind")? {
            OFFER => Self::Offer { image: from.bytes("image", IMAGE_BYTES_MAX)?.into() },
            REFUSED => {
                let code = from.u8("reason")?;
                let reason = Refusal::ALL.into_iter().find(|reason| *reason as u8 == code);
                let reason = reason.ok_or(FieldError::invalid("reason", "is unknown"))?;
                Self::Refused { reason, claimed: from.flag("claimed")? }
            }
            TAKEN => Self::Taken,
            CUT => Self::Cut,
            LATE => {
                let bytes: SecretBytes = from.bytes("bytes", RECEIVED_BYTES_MAX)?.into();
                if bytes.is_empty() {
                    return Err(FieldError::invalid("bytes", "is empty"));
                }
                Self::Late { bytes }
            }
            _ => return Err(FieldError::invalid("kind", "is unknown")),
        })
    }
}
