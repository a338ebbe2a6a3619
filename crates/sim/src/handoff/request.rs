//! The protocol that clients and owners speak: frames whose every byte follows from the request's number.

/// Bytes of a request before its body.
pub(crate) const HEADER_BYTES: usize = 14;

/// The first byte of every request.
const MAGIC: u8 = 0xa5;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its place among all requests of the run.
    pub(crate) number: u32,
    /// The node that shall answer.
    pub(crate) owner: usize,
    /// Bytes that follow the header.
    pub(crate) body_bytes: u32,
    /// Bytes of the answer.
    pub(crate) response_bytes: u32,
}

impl Request {
    /// All of it, as it travels.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![MAGIC, self.owner as u8];
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.body_bytes.to_le_bytes());
        bytes.extend(self.response_bytes.to_le_bytes());
        bytes.extend((0..self.body_bytes).map(|offset| self.body_byte(offset)));
        bytes
    }

    /// The request that `bytes` begin with, once its header is there.
    ///
    /// # Errors
    /// If no request begins so.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if header[0] != MAGIC {
            return Err(format!("no request begins with {:#04x}", header[0]));
        }
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (owner, body_bytes, response_bytes) = (usize::from(header[1]), number(6), number(10));
        Ok(Some(Self { number: number(2), owner, body_bytes, response_bytes }))
    }

    /// Header and body.
    pub(crate) fn length(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// A byte of the body.
    pub(crate) fn body_byte(&self, offset: u32) -> u8 {
        mixed(self.number, offset, 0x9e37_79b9)
    }

    /// A byte of the answer.
    pub(crate) fn response_byte(&self, offset: u32) -> u8 {
        mixed(self.number, offset, 0x85eb_ca6b)
    }
}

/// Neighbouring requests and offsets give unrelated bytes.
fn mixed(number: u32, offset: u32, salt: u32) -> u8 {
    let mixed = (number ^ salt).wrapping_mul(0x9e37_79b1) ^ offset.wrapping_mul(0x85eb_ca77);
    (mixed ^ mixed >> 15).wrapping_mul(0xc2b2_ae3d).to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = Request { number: 7, owner: 2, body_bytes: 300, response_bytes: 5 };
        let bytes = request.encode();
        assert_eq!(bytes.len(), request.length());
        assert_eq!(Request::decode(&bytes), Ok(Some(request)));
        assert_eq!(Request::decode(&bytes[..HEADER_BYTES - 1]), Ok(None));
        assert!(Request::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn shifted_and_foreign_bytes_differ() {
        let one = Request { number: 7, owner: 0, body_bytes: 0, response_bytes: 0 };
        let other = Request { number: 8, ..one };
        let equal = |count: &dyn Fn(u32) -> bool| (0..1000).filter(|at| count(*at)).count();
        assert!(equal(&|at| one.response_byte(at) == one.response_byte(at + 1)) < 50);
        assert!(equal(&|at| one.response_byte(at) == other.response_byte(at)) < 50);
        assert!(equal(&|at| one.response_byte(at) == one.body_byte(at)) < 50);
    }
}
