//! Receiving a large body.

use super::trailer::{BLOCK_BYTES, Footer};
use crate::{StageWriter, StorageError, directory::Directory};
use ashlar_object::StageId;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::Arc,
};

/// Small pieces are gathered to writes of this many bytes.
const WRITE_BYTES: usize = 128 * 1024;
/// What is written is synced, and the space left is looked at, whenever this many bytes have come:
/// the last sync then takes a bounded time, and so do the syncs of others that wait behind it.
const SYNC_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// A body that is being received into `staging/`.
///
/// It keeps 4 bytes in memory for each 64 KiB.
pub(crate) struct StagedFile {
    directory: Arc<Directory>,
    file: BufWriter<File>,
    /// Its path in `staging/`.
    path: PathBuf,
    /// It has moved to `blobs/`.
    moved: bool,
    id: StageId,
    length: u64,
    /// The checksums of the blocks that are complete.
    checksums: Vec<u32>,
    /// The checksum of the bytes after them.
    checksum: u32,
    /// How many bytes are synced.
    synced: u64,
    /// A write failed: a later sync would not tell what became of it.
    failed: bool,
}

impl StagedFile {
    /// Begins to receive.
    pub(crate) fn create(directory: Arc<Directory>, id: StageId) -> Result<Self, StorageError> {
        directory.check_space()?;
        let path = directory.staging_path(id);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| StorageError::io(&path, error))?;
        Ok(Self {
            directory,
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            path,
            moved: false,
            id,
            length: 0,
            checksums: Vec::new(),
            checksum: 0,
            synced: 0,
            failed: false,
        })
    }

    /// Takes bytes into the checksums.
    fn sum(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.length % BLOCK_BYTES;
            let take = room.min(bytes.len() as u64);
            let (now, rest) = bytes.split_at(take as usize);
            self.checksum = crc32c::crc32c_append(self.checksum, now);
            self.length += take;
            if take == room {
                self.checksums.push(std::mem::take(&mut self.checksum));
            }
            bytes = rest;
        }
    }
}

impl StageWriter for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.failed = true;
        let io = |error| StorageError::io(&self.path, error);
        self.file.write_all(bytes).map_err(io)?;
        self.sum(bytes);
        if self.length - self.synced >= SYNC_EVERY_BYTES {
            let io = |error| StorageError::io(&self.path, error);
            self.file.flush().map_err(io)?;
            self.file.get_ref().sync_data().map_err(io)?;
            self.synced = self.length;
            self.directory.check_space()?;
        }
        self.failed = false;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64, StorageError> {
        assert!(!self.failed, "a body is finished although a write of it failed");
        if !self.length.is_multiple_of(BLOCK_BYTES) {
            self.checksums.push(self.checksum);
        }
        let (id, length) = (self.id, self.length);
        let trailer = Footer { id, length }.encode_trailer(&self.checksums);
        let path = self.path.clone();
        let io = |error| StorageError::io(&path, error);
        self.file.write_all(&trailer).map_err(io)?;
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        self.moved = self.directory.publish(&path, id)?;
        Ok(length)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        // What cannot be removed now is removed at the next start.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "a body that was not received completely stays for now");
        }
    }
}
