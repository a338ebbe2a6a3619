//! Reading everything and comparing it with its checksums, before somebody asks for it.

use crate::{
    Bound, DiskEngine, DiskOptions, Engine as _, Place, Snapshot as _, StorageError, Stored,
    StoredChange,
    metadata::{VersionRow, View, parse_key},
};
use ashlar_object::{ETag, Key, PartitionIndex, StageId, Version};
use md5::{Digest as _, Md5};
use serde::Serialize;
use std::path::Path;

/// The most findings and the most orphans that a report names; it counts the others.
pub const FINDINGS_MAX: usize = 1000;
/// How many versions are looked at in one view of the metadata.
const PAGE_VERSIONS: usize = 256;
/// How much of a large body is read at once.
const READ_BYTES: usize = 1 << 20;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubReport {
    /// Versions of objects whose bytes were read: more than the keys while writes are under way.
    pub versions: u64,
    /// The bytes of small objects that were read.
    pub inline_bytes: u64,
    /// Large bodies that were read.
    pub large_bodies: u64,
    /// The bytes of large bodies that were read.
    pub large_bytes: u64,
    /// How many things are wrong.
    pub findings_count: u64,
    /// The first [`FINDINGS_MAX`] of them.
    pub findings: Vec<Finding>,
    /// How many large bodies are on the disk that no object names. On a running engine these are
    /// also the ones whose write is under way; else the next start removes them.
    pub orphans_count: u64,
    /// The identifiers of the first [`FINDINGS_MAX`] of them.
    pub orphans: Vec<String>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object's key, if it can be told.
    pub key: Option<Key>,
    /// The object's version, if it can be told.
    pub version: Option<Version>,
    /// What is wrong.
    pub detail: String,
}

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Versions looked at so far.
    pub versions: u64,
    /// Versions at the beginning: what `versions` will reach, about.
    pub versions_total: u64,
    /// Bytes of bodies read so far.
    pub bytes: u64,
    /// Findings so far.
    pub findings: u64,
}

/// Reads all that a running engine holds. Writes go on meanwhile: what comes and goes may be missed.
///
/// # Errors
/// When the disk cannot be read. Damage is no error but a finding.
pub fn scrub(
    engine: &DiskEngine,
    progress: &mut dyn FnMut(ScrubProgress),
) -> Result<ScrubReport, StorageError> {
    let mut scrubber = Scrubber {
        engine,
        progress,
        versions: 0,
        versions_total: engine.metadata().view()?.versions_count()?,
        report: ScrubReport::default(),
    };
    scrubber.partitions()?;
    scrubber.objects()?;
    scrubber.owners()?;
    scrubber.orphans()?;
    Ok(scrubber.report)
}

/// Reads all that a data directory holds which no process uses, the pages of its key-value store
/// included.
///
/// The journal is replayed, as at a start; nothing else is changed.
///
/// # Errors
/// When the directory is not one of ours, in use, or cannot be read. Damage is no error but a
/// finding.
pub fn scrub_dir(
    dir: &Path,
    options: DiskOptions,
    progress: &mut dyn FnMut(ScrubProgress),
) -> Result<ScrubReport, StorageError> {
    if !dir.join("format").exists() {
        let detail = "not a data directory".into();
        let path = dir.to_path_buf();
        return Err(StorageError::Format { path, detail });
    }
    match DiskEngine::inspect(dir, options, true) {
        Ok(engine) => scrub(&engine, progress),
        Err(error) if error.is_corruption() => {
            let mut report = ScrubReport::default();
            report.find(None, None, error.to_string());
            Ok(report)
        }
        Err(error) => Err(error),
    }
}

struct Scrubber<'a> {
    engine: &'a DiskEngine,
    progress: &'a mut dyn FnMut(ScrubProgress),
    versions: u64,
    versions_total: u64,
    report: ScrubReport,
}

impl Scrubber<'_> {
    /// Every partition's window is complete.
    fn partitions(&mut self) -> Result<(), StorageError> {
        let mut partitions: Vec<u16> = self.engine.metadata().marks()?.into_keys().collect();
        partitions.sort_unstable();
        for partition in partitions {
            let recovered = self.engine.recover(PartitionIndex(partition)).map(|_| ());
            self.note(None, None, recovered)?;
        }
        Ok(())
    }

    /// Every version can be read, and its body.
    fn objects(&mut self) -> Result<(), StorageError> {
        let mut from = Some(Bound::default());
        while let Some(bound) = from {
            let view = self.engine.metadata().view()?;
            let (page, next) = page(&view, &bound)?;
            from = next;
            let mut large = Vec::new();
            for (name, version, stored) in page {
                let key = parse_key(&name).ok();
                match (key, stored) {
                    (Some(key), Ok(stored)) if stored.stage().is_some() => {
                        large.push((key, stored));
                    }
                    (Some(key), Ok(stored)) => self.inline(&view, &key, &stored)?,
                    (None, Ok(_)) => {
                        let error = parse_key(&name).map(|_| ());
                        self.note(None, Some(version), error)?;
                    }
                    (key, Err(error)) => self.note(key.as_ref(), Some(version), Err(error))?,
                }
                self.versions += 1;
            }
            // A view keeps space from being used again: large bodies are read without one.
            drop(view);
            for (key, stored) in large {
                self.large(&key, &stored)?;
            }
            self.tell();
        }
        Ok(())
    }

    fn inline(&mut self, view: &View, key: &Key, stored: &Stored) -> Result<(), StorageError> {
        let StoredChange::Put { meta, .. } = &stored.change else {
            return Ok(());
        };
        self.report.versions += 1;
        let checked = view.inline_body(key, stored).and_then(|body| {
            self.report.inline_bytes += body.len() as u64;
            check_etag(meta.etag, &Md5::digest(&body))
        });
        self.note(Some(key), Some(stored.version), checked)
    }

    fn large(&mut self, key: &Key, stored: &Stored) -> Result<(), StorageError> {
        let checked = match self.read_large(stored) {
            Err(StorageError::Gone) => {
                let view = self.engine.metadata().view()?;
                if view.version(key, stored.version)?.is_none() {
                    // Superseded since the page was read.
                    return Ok(());
                }
                Err(StorageError::corrupt("the body", "missing, or not known to be named"))
            }
            checked => checked,
        };
        self.note(Some(key), Some(stored.version), checked)
    }

    fn read_large(&mut self, stored: &Stored) -> Result<(), StorageError> {
        let StoredChange::Put { meta, place: Place::Staged(id) } = &stored.change else {
            panic!("not a large body");
        };
        let blob = self.engine.open_stage(*id)?;
        self.report.versions += 1;
        self.report.large_bodies += 1;
        if blob.len() != meta.size_bytes {
            let detail = format!("it has {} bytes, not {}", blob.len(), meta.size_bytes);
            return Err(StorageError::corrupt("the body", detail));
        }
        let mut sum = Md5::new();
        let mut at = 0;
        while at < blob.len() {
            let bytes = blob.read_at(at, READ_BYTES)?;
            sum.update(&bytes);
            at += bytes.len() as u64;
            self.report.large_bytes += bytes.len() as u64;
            self.tell();
        }
        if !self.engine.metadata().names_blob(*id)? {
            // Unless the version went meanwhile, the next start would remove the body.
            return Err(StorageError::Gone);
        }
        check_etag(meta.etag, &sum.finalize())
    }

    /// Every large body that the metadata keeps belongs to a version that names it.
    fn owners(&mut self) -> Result<(), StorageError> {
        let report = &mut self.report;
        self.engine.metadata().visit_blobs(&mut |id, owner| match owner {
            Ok((_, true)) => {}
            Ok((owner, false)) => {
                let detail = format!("the body {id} is kept and not named");
                report.find(Some(owner.key), Some(owner.version), detail);
            }
            Err(error) => report.find(None, None, error.to_string()),
        })
    }

    /// Every large body on the disk is known to the metadata.
    fn orphans(&mut self) -> Result<(), StorageError> {
        let report = &mut self.report;
        self.engine.directory().visit_blobs(&mut |id: StageId| {
            if !self.engine.metadata().names_blob(id)? {
                report.orphans_count += 1;
                if report.orphans.len() < FINDINGS_MAX {
                    report.orphans.push(id.to_string());
                }
            }
            Ok(())
        })
    }

    /// Reports damage and passes other errors on.
    fn note(
        &mut self,
        key: Option<&Key>,
        version: Option<Version>,
        checked: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match checked {
            Err(error) if error.is_corruption() => {
                self.report.find(key.cloned(), version, error.to_string());
                Ok(())
            }
            checked => checked,
        }
    }

    fn tell(&mut self) {
        (self.progress)(ScrubProgress {
            versions: self.versions,
            versions_total: self.versions_total,
            bytes: self.report.inline_bytes + self.report.large_bytes,
            findings: self.report.findings_count,
        });
    }
}

impl ScrubReport {
    fn find(&mut self, key: Option<Key>, version: Option<Version>, detail: String) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { key, version, detail });
        }
    }
}

/// Some rows from `from` on, whole keys, and where the next page starts.
fn page(view: &View, from: &Bound) -> Result<(Vec<VersionRow>, Option<Bound>), StorageError> {
    let mut page: Vec<VersionRow> = Vec::new();
    for row in view.rows(from)? {
        let row = row?;
        let last = page.last().filter(|_| page.len() >= PAGE_VERSIONS);
        if let Some((last, ..)) = last.filter(|(last, ..)| *last != row.0) {
            // A damaged key is no bound: the page goes on to the next one that is none.
            if let Ok(last) = parse_key(last) {
                return Ok((page, Some(Bound::after_key(last.as_str()))));
            }
        }
        page.push(row);
    }
    Ok((page, None))
}

fn check_etag(etag: ETag, sum: &[u8]) -> Result<(), StorageError> {
    if etag.0 == sum {
        return Ok(());
    }
    let detail = format!("its MD5 is not its entity tag {etag}");
    Err(StorageError::corrupt("the body", detail))
}
