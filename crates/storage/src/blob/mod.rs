//! Large bodies: one file each.
//!
//! A body is received into `staging/`, synced, and renamed into `blobs/`: a file that is there is
//! complete. Its bytes start at offset 0, so that the kernel can send them from the file; checksums
//! follow ([`trailer`]).

mod reader;
pub(crate) mod trailer;
mod writer;

pub(crate) use reader::BlobFile;
pub(crate) use writer::StagedFile;
