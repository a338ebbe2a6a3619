//! Moving a live client connection to another host, without I/O.
//!
//! What travels is an [`image`] of the connection: the TCP state, the client's bytes that nobody has
//! processed, and for HTTPS the state of its TLS records. [`tls`] protects and opens those records on
//! either host. [`protocol`] is the conversation of the two owners and steering, with every deadline
//! and every way back. Nothing here opens a socket, reads a clock or draws a random number: the
//! shells do, and the simulator does in their place.
//!
//! Read in this order: [`image`], [`protocol`], [`tls`]. `docs/hand-off.md` tells the whole.

mod codec;
pub mod image;
pub mod protocol;
mod secret;
pub mod tls;

pub use codec::FieldError;
pub use secret::SecretBytes;
