//! Alerts (RFC 8446, section 6).

/// What an alert says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    /// The sender sends no more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message that may not come now.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that cannot be opened.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record that is too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A field out of its range.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message that cannot be parsed.
    pub const DECODE_ERROR: Self = Self(50);
    /// Nothing that the peer did.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The sender gave up for a reason of its own; a close_notify follows.
    pub const USER_CANCELED: Self = Self(90);

    /// The level that is sent along and that receivers ignore: warning for the two descriptions
    /// that are no errors, else fatal.
    pub(super) fn level(self) -> u8 {
        if matches!(self, Self::CLOSE_NOTIFY | Self::USER_CANCELED) { 1 } else { 2 }
    }
}

impl std::fmt::Display for AlertDescription {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::CLOSE_NOTIFY => formatter.write_str("close_notify"),
            Self::UNEXPECTED_MESSAGE => formatter.write_str("unexpected_message"),
            Self::BAD_RECORD_MAC => formatter.write_str("bad_record_mac"),
            Self::RECORD_OVERFLOW => formatter.write_str("record_overflow"),
            Self::ILLEGAL_PARAMETER => formatter.write_str("illegal_parameter"),
            Self::DECODE_ERROR => formatter.write_str("decode_error"),
            Self::INTERNAL_ERROR => formatter.write_str("internal_error"),
            Self::USER_CANCELED => formatter.write_str("user_canceled"),
            Self(code) => write!(formatter, "alert {code}"),
        }
    }
}
