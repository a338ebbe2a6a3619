//! Reading a large body.

use super::trailer::{self, BLOCK_BYTES, FOOTER_BYTES, Footer, TrailerError};
use crate::{Blob, StorageError};
use ashlar_object::StageId;
use bytes::Bytes;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The most blocks that one read verifies: bounds the memory of a reader.
const READ_BLOCKS_MAX: u64 = 16;

/// A complete large body.
pub(crate) struct BlobFile {
    file: File,
    /// Its path, for messages.
    path: PathBuf,
    footer: Footer,
    /// The page of checksums that was read last, and its number: bodies are read in order.
    page: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl BlobFile {
    /// Opens the file of the body `id`.
    pub(crate) fn open(path: PathBuf, id: StageId) -> Result<Self, StorageError> {
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::Gone,
            _ => StorageError::io(&path, error),
        })?;
        let metadata = file.metadata();
        let file_bytes = metadata.map_err(|error| StorageError::io(&path, error))?.len();
        let footer_at = file_bytes
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| damaged(&path, TrailerError::Short))?;
        let mut bytes = [0; FOOTER_BYTES];
        file.read_exact_at(&mut bytes, footer_at)
            .map_err(|error| StorageError::io(&path, error))?;
        let footer = Footer::parse(&bytes, id, file_bytes).map_err(|e| damaged(&path, e))?;
        Ok(Self { file, path, footer, page: Mutex::new(None) })
    }

    /// The checksums of the page that covers `offset`.
    fn checksums(&self, offset: u64) -> Result<Arc<[u32]>, StorageError> {
        let place = self.footer.page_of(offset);
        let lock = || self.page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((index, page)) = &*lock()
            && *index == place.index
        {
            return Ok(page.clone());
        }
        let mut bytes = vec![0; place.bytes];
        self.read(&mut bytes, place.offset)?;
        let page = self.footer.parse_page(place.index, &bytes);
        let page: Arc<[u32]> = page.map_err(|error| damaged(&self.path, error))?.into();
        *lock() = Some((place.index, page.clone()));
        Ok(page)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), StorageError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            // The file has become shorter since it was opened.
            io::ErrorKind::UnexpectedEof => damaged(&self.path, TrailerError::Short),
            _ => StorageError::io(&self.path, error),
        })
    }

    /// Compares the blocks in `bytes`, which start at `offset` of the body, with their checksums.
    fn verify(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        for (block, at) in
            bytes.chunks(BLOCK_BYTES as usize).zip((offset..).step_by(BLOCK_BYTES as usize))
        {
            let expected = self.checksums(at)?[trailer::block_in_page(at)];
            if crc32c::crc32c(block) != expected {
                let detail = format!("the checksum of the block at byte {at} does not match");
                return Err(StorageError::corrupt(self.path.display().to_string(), detail));
            }
        }
        Ok(())
    }
}

impl Blob for BlobFile {
    fn len(&self) -> u64 {
        self.footer.length
    }

    fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        let length = self.footer.length;
        if offset >= length || bytes_max == 0 {
            return Ok(Bytes::new());
        }
        let start = offset - offset % BLOCK_BYTES;
        let wanted = offset.saturating_add(bytes_max as u64).min(length);
        let capped = wanted.min(start + READ_BLOCKS_MAX * BLOCK_BYTES);
        // Ending at a block's end where possible spares the next read a block.
        let aligned = capped - capped % BLOCK_BYTES;
        let end = if capped < length && aligned > offset { aligned } else { capped };
        let blocks_end = end.next_multiple_of(BLOCK_BYTES).min(length);
        let mut bytes = vec![0; (blocks_end - start) as usize];
        self.read(&mut bytes, start)?;
        self.verify(&bytes, start)?;
        let bytes = Bytes::from(bytes);
        Ok(bytes.slice((offset - start) as usize..(end - start) as usize))
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn damaged(path: &Path, error: TrailerError) -> StorageError {
    StorageError::corrupt(path.display().to_string(), error.to_string())
}
