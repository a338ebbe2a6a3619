//! What follows the bytes of a large body in its file.
//!
//! ```text
//! body | page 0 | page 1 | … | footer
//! ```
//!
//! A page holds the CRC32C of up to [`PAGE_CHECKSUMS`] blocks of [`BLOCK_BYTES`] of the body (the
//! last block may be shorter), then a CRC32C of those checksums, of the page's number and of the
//! body's identifier. All pages but the last are full. The footer has a fixed size:
//!
//! | bytes | |
//! |-------|-|
//! | 8     | magic and format |
//! | 8     | length of the body |
//! | 16    | identifier |
//! | 4     | CRC32C of the fields above |
//!
//! All integers are little-endian. So opening a body reads the footer only, and reading a block
//! reads one page beside it, whatever the body's length.

use ashlar_object::StageId;

/// The bytes that one checksum covers.
pub(crate) const BLOCK_BYTES: u64 = 64 * 1024;
/// The checksums of a full page, which is 4 KiB long with its own.
pub(crate) const PAGE_CHECKSUMS: u64 = 1023;
/// The length of the footer.
pub(crate) const FOOTER_BYTES: usize = 36;

/// Bytes of a checksum.
const CHECKSUM_BYTES: u64 = 4;
const MAGIC: [u8; 8] = *b"ashblob1";
/// The bytes of the body that a full page covers.
const PAGE_COVERS_BYTES: u64 = PAGE_CHECKSUMS * BLOCK_BYTES;

/// Why a trailer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrailerError {
    /// The file is too short to have a footer.
    #[error("the file is cut short")]
    Short,
    /// The footer is not one of ours.
    #[error("the file has no footer of ours")]
    Magic,
    /// The footer or a page is not what was written.
    #[error("the trailer's checksum does not match")]
    Checksum,
    /// The file belongs to another body.
    #[error("the file holds the body {0}")]
    OtherBody(StageId),
    /// The file's length is not what the footer says.
    #[error("the footer's length does not match the file's")]
    Length,
}

/// What the trailer says of the whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// The body.
    pub(crate) id: StageId,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// Where a page is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePlace {
    /// Its number.
    pub(crate) index: u64,
    /// Its offset in the file.
    pub(crate) offset: u64,
    /// Its length with its own checksum.
    pub(crate) bytes: usize,
}

impl Footer {
    /// The trailer of a body with these checksums of its blocks.
    pub(crate) fn encode_trailer(&self, checksums: &[u32]) -> Vec<u8> {
        assert_eq!(checksums.len() as u64, blocks(self.length));
        let mut trailer = Vec::new();
        for (index, page) in checksums.chunks(PAGE_CHECKSUMS as usize).enumerate() {
            let page: Vec<u8> = page.iter().flat_map(|c| c.to_le_bytes()).collect();
            let checksum = self.page_checksum(index as u64, &page);
            trailer.extend(page);
            trailer.extend(checksum.to_le_bytes());
        }
        let footer_at = trailer.len();
        trailer.extend(MAGIC);
        trailer.extend(self.length.to_le_bytes());
        trailer.extend(self.id.0.to_le_bytes());
        let checksum = crc32c::crc32c(&trailer[footer_at..]);
        trailer.extend(checksum.to_le_bytes());
        trailer
    }

    /// Reads the last [`FOOTER_BYTES`] of the file of the body `id`, which is `file_bytes` long.
    pub(crate) fn parse(
        bytes: &[u8; FOOTER_BYTES],
        id: StageId,
        file_bytes: u64,
    ) -> Result<Self, TrailerError> {
        let (fields, checksum) = bytes.split_at(FOOTER_BYTES - 4);
        let (magic, rest) = fields.split_at(8);
        let (length, found) = rest.split_at(8);
        if magic != MAGIC {
            return Err(TrailerError::Magic);
        }
        if checksum != crc32c::crc32c(fields).to_le_bytes() {
            return Err(TrailerError::Checksum);
        }
        let found = StageId(u128::from_le_bytes(found.try_into().expect("16 bytes")));
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        if found != id {
            return Err(TrailerError::OtherBody(found));
        }
        let footer = Self { id, length };
        if footer.file_bytes() != Some(file_bytes) {
            return Err(TrailerError::Length);
        }
        Ok(footer)
    }

    /// The length of the file; none beyond 2^64.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let blocks = blocks(self.length);
        let pages = blocks.div_ceil(PAGE_CHECKSUMS);
        let trailer = CHECKSUM_BYTES * (blocks + pages) + FOOTER_BYTES as u64;
        self.length.checked_add(trailer)
    }

    /// The page with the checksum of the block at `offset` of the body.
    pub(crate) fn page_of(&self, offset: u64) -> PagePlace {
        assert!(offset < self.length);
        let index = offset / PAGE_COVERS_BYTES;
        let covered = (self.length - index * PAGE_COVERS_BYTES).min(PAGE_COVERS_BYTES);
        PagePlace {
            index,
            offset: self.length + index * CHECKSUM_BYTES * (PAGE_CHECKSUMS + 1),
            bytes: (CHECKSUM_BYTES * (blocks(covered) + 1)) as usize,
        }
    }

    /// The checksums in a page.
    pub(crate) fn parse_page(&self, index: u64, bytes: &[u8]) -> Result<Vec<u32>, TrailerError> {
        let (page, checksum) = bytes.split_last_chunk::<4>().ok_or(TrailerError::Short)?;
        // Written so that a page that turned up elsewhere is found too.
        let (page, checksum) = (page, u32::from_le_bytes(*checksum));
        if checksum != self.page_checksum(index, page) {
            return Err(TrailerError::Checksum);
        }
        let checksums = page.chunks_exact(4);
        Ok(checksums.map(|bytes| u32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect())
    }

    fn page_checksum(&self, index: u64, page: &[u8]) -> u32 {
        let of_place =
            crc32c::crc32c_append(crc32c::crc32c(&self.id.0.to_le_bytes()), &index.to_le_bytes());
        crc32c::crc32c_append(of_place, page)
    }
}

/// The block of its page that `offset` of the body is in.
pub(crate) fn block_in_page(offset: u64) -> usize {
    (offset / BLOCK_BYTES % PAGE_CHECKSUMS) as usize
}

fn blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const ID: StageId = StageId(0x0123_4567_89ab_cdef);

    fn trailer_of(length: u64) -> (Footer, Vec<u32>, Vec<u8>) {
        let footer = Footer { id: ID, length };
        let checksums: Vec<u32> = (0..blocks(length) as u32).map(|n| n * 7).collect();
        let trailer = footer.encode_trailer(&checksums);
        (footer, checksums, trailer)
    }

    fn parse(trailer: &[u8], file_bytes: u64) -> Result<Footer, TrailerError> {
        Footer::parse(trailer.last_chunk().unwrap(), ID, file_bytes)
    }

    /// Data that was written once must be readable for ever: a change here is a new format.
    #[test]
    fn the_stored_form_stays_as_it_is() {
        let footer = Footer { id: ID, length: 5 };
        let trailer = footer.encode_trailer(&[0x0403_0201]);
        let hex: String = trailer.iter().map(|byte| format!("{byte:02x}")).collect();
        let page = "01020304";
        let fields = "617368626c6f6231\
            0500000000000000\
            efcdab89674523010000000000000000";
        assert_eq!(hex.len(), 2 * (8 + FOOTER_BYTES));
        assert!(hex.starts_with(page) && hex[16..].starts_with(fields), "{hex}");
    }

    #[test]
    fn an_empty_body_has_a_footer_only() {
        let (footer, _, trailer) = trailer_of(0);
        assert_eq!(trailer.len(), FOOTER_BYTES);
        assert_eq!(parse(&trailer, FOOTER_BYTES as u64), Ok(footer));
    }

    #[test]
    fn a_length_that_no_file_can_have_is_refused() {
        let footer = Footer { id: ID, length: u64::MAX };
        assert_eq!(footer.file_bytes(), None);
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes[16..32].copy_from_slice(&ID.0.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        for file_bytes in [0, 36, u64::MAX] {
            assert_eq!(Footer::parse(&bytes, ID, file_bytes), Err(TrailerError::Length));
        }
    }

    #[test]
    fn another_bodys_file_is_refused() {
        let (_, _, trailer) = trailer_of(10);
        let other = StageId(1);
        let parsed = Footer::parse(trailer.last_chunk().unwrap(), other, 10 + trailer.len() as u64);
        assert_eq!(parsed, Err(TrailerError::OtherBody(ID)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the length, each block's checksum is found where the trailer has it.
        #[test]
        fn a_trailer_is_read_back(length in 0u64..3 * PAGE_COVERS_BYTES, block in any::<u64>()) {
            let (footer, checksums, trailer) = trailer_of(length);
            prop_assert_eq!(parse(&trailer, length + trailer.len() as u64), Ok(footer));
            if length > 0 {
                let offset = block % length;
                let place = footer.page_of(offset);
                let at = (place.offset - length) as usize;
                let page = footer.parse_page(place.index, &trailer[at..at + place.bytes]).unwrap();
                let expected = checksums[(offset / BLOCK_BYTES) as usize];
                prop_assert_eq!(page[block_in_page(offset)], expected);
                prop_assert!(footer.parse_page(place.index + 1, &trailer[at..at + place.bytes]).is_err());
            }
        }

        #[test]
        fn a_flipped_bit_is_found(length in 1u64..200_000, bit in any::<usize>()) {
            let (footer, _, mut trailer) = trailer_of(length);
            let bit = bit % (8 * trailer.len());
            trailer[bit / 8] ^= 1 << (bit % 8);
            let file_bytes = length + trailer.len() as u64;
            let page_bytes = trailer.len() - FOOTER_BYTES;
            let found = parse(&trailer, file_bytes).is_err()
                || footer.parse_page(0, &trailer[..page_bytes]).is_err();
            prop_assert!(found);
        }

        #[test]
        fn garbage_is_refused(
            footer in proptest::array::uniform32(any::<u8>()),
            rest in any::<u32>(),
            page in proptest::collection::vec(any::<u8>(), 0..64),
            file_bytes in any::<u64>(),
        ) {
            let mut bytes = [0; FOOTER_BYTES];
            bytes[..32].copy_from_slice(&footer);
            bytes[32..].copy_from_slice(&rest.to_le_bytes());
            prop_assert!(Footer::parse(&bytes, ID, file_bytes).is_err());
            let (footer, _, _) = trailer_of(7);
            prop_assert!(footer.parse_page(0, &page).is_err());
        }
    }
}
