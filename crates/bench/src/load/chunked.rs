//! The chunked transfer coding, decoded as segments arrive.

use super::response::Malformed;

/// The longest chunk-size or trailer line in bytes.
const LINE_BYTES_MAX: usize = 256;

/// Where the decoder is.
#[derive(Debug)]
enum State {
    /// In a chunk-size line.
    Size,
    /// In a chunk's data.
    Data { remaining: u64 },
    /// In the line end after a chunk's data.
    DataEnd,
    /// After the last chunk, in lines that end with an empty one.
    Trailer,
}

/// Decodes one chunked body.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    /// The line so far, without its end; at most [`LINE_BYTES_MAX`] bytes.
    line: Vec<u8>,
}

impl ChunkedDecoder {
    pub(super) fn new() -> Self {
        Self { state: State::Size, line: Vec::new() }
    }

    /// Takes the next bytes, hands data to `deliver`, and returns the bytes after the body (none
    /// while it goes on) and whether it is complete.
    pub(super) fn feed<'a>(
        &mut self,
        segment: &'a [u8],
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(&'a [u8], bool), Malformed> {
        let mut rest = segment;
        while !rest.is_empty() {
            if let State::Data { remaining } = &mut self.state {
                let available = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let (data, after) = rest.split_at(rest.len().min(available));
                deliver(data);
                *remaining -= data.len() as u64;
                rest = after;
                if *remaining == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            let (byte, after) = (rest[0], &rest[1..]);
            rest = after;
            if byte != b'\n' {
                if self.line.len() == LINE_BYTES_MAX {
                    return Err(Malformed::Chunk);
                }
                self.line.push(byte);
                continue;
            }
            if self.line_ended()? {
                return Ok((rest, true));
            }
        }
        Ok((rest, false))
    }

    /// Acts on a whole line; true when it was the last one of the body.
    fn line_ended(&mut self) -> Result<bool, Malformed> {
        if self.line.pop() != Some(b'\r') {
            return Err(Malformed::Chunk);
        }
        match self.state {
            State::Size => {
                self.state = match chunk_size(&self.line)? {
                    0 => State::Trailer,
                    remaining => State::Data { remaining },
                };
            }
            State::DataEnd if self.line.is_empty() => self.state = State::Size,
            State::DataEnd => return Err(Malformed::Chunk),
            State::Trailer if self.line.is_empty() => return Ok(true),
            State::Trailer => {}
            State::Data { .. } => unreachable!("data is not made of lines"),
        }
        self.line.clear();
        Ok(false)
    }
}

/// The size that a chunk-size line gives, extensions aside.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    // `from_str_radix` alone would take a sign.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Malformed::Chunk);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}
