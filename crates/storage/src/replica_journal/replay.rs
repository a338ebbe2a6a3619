//! What records add up to, and what damage to them means.

use super::{
    format::{
        CheckpointName, HEADER_BYTES, Kind, Mark, Purpose, Root, decode_entry, decode_install,
        decode_promise,
    },
    scan::{Record, Scan, fatal},
};
use crate::StorageError;
use ashlar_vr::{Entry, Log, Promise};
use std::path::Path;

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What the journal was created for.
    pub(super) purpose: Purpose,
    /// Whose it is.
    pub(super) owner: String,
    /// The last promises; none as long as none was made.
    pub(super) promise: Option<Promise>,
    /// The snapshot up to the log's base.
    pub(super) checkpoint: Option<CheckpointName>,
    /// The entries behind it.
    pub(super) log: Log,
}

/// Adds the records of `scan` to what its life began with.
///
/// Up to what was synced, a record that is missing is damaged; it was an entry, or the replica must be
/// replaced. Behind it, the first one that is missing ends the journal: its write was torn.
///
/// # Errors
/// When something is lost that is no entry.
pub(super) fn replay(root: Root, mut scan: Scan) -> Result<State, StorageError> {
    // More than fit into the segments cannot be missing: keeps what follows bounded.
    let records_max = scan.length_bytes / HEADER_BYTES as u64;
    if scan.synced.number > records_max {
        return Err(fatal(scan.path_of(1), "it counts more records than it can hold"));
    }
    let state = State {
        purpose: root.purpose,
        owner: root.owner,
        promise: root.promise.map(Promise::from),
        checkpoint: root.checkpoint,
        log: Log::behind(root.base_op, root.base_digest),
    };
    let mut replay = Replay { state, number: 0, vital: 0 };
    let records = std::mem::take(&mut scan.records);
    let mut is_closed = false;
    for (number, record) in records {
        if !is_closed && number > scan.synced.number {
            replay.reach(scan.synced, scan.path_of(scan.synced.number))?;
            is_closed = true;
        }
        if is_closed && number != replay.number + 1 {
            break;
        }
        let path = scan.path_of(number);
        replay.reach(record.before, path)?;
        replay.take(&record, path)?;
        replay.number = number;
    }
    if !is_closed {
        replay.reach(scan.synced, scan.path_of(scan.synced.number))?;
    }
    let State { promise, log, .. } = &replay.state;
    if promise.is_none() && (log.head_op() > 0 || replay.number > 0) {
        return Err(fatal(scan.path_of(1), "there are entries, but no promises"));
    }
    if !log.holes().is_empty() {
        let count = log.holes().len();
        tracing::warn!(path = %scan.path_of(1).display(), count, "entries are lost");
    }
    Ok(replay.state)
}

struct Replay {
    state: State,
    /// Of the last record.
    number: u64,
    /// Of the last record that nothing can do without.
    vital: u64,
}

impl Replay {
    /// Comes to a mark. The records before it that are missing were entries: new ones as far as the log
    /// has grown, and ones that filled holes, which are holes again.
    fn reach(&mut self, mark: Mark, path: &Path) -> Result<(), StorageError> {
        if mark.vital != self.vital {
            return Err(fatal(path, "both copies of a promise or of an installed log are damaged"));
        }
        let log = &mut self.state.log;
        let missing = mark.number.checked_sub(self.number);
        let appended = mark.head_op.checked_sub(log.head_op());
        let (Some(missing), Some(appended)) = (missing, appended) else {
            return Err(fatal(path, "records do not follow one another"));
        };
        let repairs = missing.checked_sub(appended);
        if repairs.is_none_or(|repairs| repairs > log.holes().len() as u64 + appended) {
            return Err(fatal(path, "records are missing that were no entries"));
        }
        (0..appended).for_each(|_| log.append_hole());
        self.number = mark.number;
        Ok(())
    }

    fn take(&mut self, record: &Record, path: &Path) -> Result<(), StorageError> {
        let State { promise, log, .. } = &mut self.state;
        if record.kind.is_vital() {
            self.vital = record.before.number + 1;
        }
        match record.kind {
            Kind::Start | Kind::Seal => {}
            Kind::Hole => log.append_hole(),
            Kind::Append => match decode_entry(record.payload.clone()) {
                Some(entry) if belongs(log, &entry) => log.append(entry),
                _ => log.append_hole(),
            },
            // One that does not belong there leaves the hole.
            Kind::Repair => drop(decode_entry(record.payload.clone()).map(|entry| log.fill(entry))),
            Kind::Promise => {
                let read = decode_promise(&record.payload);
                *promise = Some(read.ok_or_else(|| fatal(path, "a promise is none"))?);
            }
            Kind::Install => {
                let wrong = || fatal(path, "an installed log is none");
                let install = decode_install(&record.payload).ok_or_else(wrong)?;
                if install.after < log.base_op() || install.after > log.head_op() {
                    return Err(wrong());
                }
                log.truncate(install.after);
                for entry in install.entries {
                    if !belongs(log, &entry) {
                        return Err(wrong());
                    }
                    log.append(entry);
                }
                *promise = Some(install.promise);
            }
        }
        Ok(())
    }
}

/// Whether an entry comes next.
fn belongs(log: &Log, entry: &Entry) -> bool {
    let follows = log.head_digest().is_none_or(|previous| entry.follows(previous));
    entry.op == log.head_op() + 1 && follows
}
