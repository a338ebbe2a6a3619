//! What a disk damages is told: as holes, or as an error. Never as another entry or an older promise.

use super::{
    SEGMENT_BYTES,
    model::{Model, Workload},
    open,
};
use crate::{
    replica_journal::{Contents, folder::Folder as _, format, fuzz, replay::replay, scan::Scan},
    simulation::{
        file::Power,
        folder::{SECTOR_BYTES, SimulatedFolder},
    },
};
use ashlar_vr::{Restored, Write};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use redb::{StorageBackend, backends::InMemoryBackend};
use std::{io, path::Path};

/// How many entries of the last batch [`fill`] writes.
const LAST_BATCH: usize = 3;

/// How a journal's writing ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With a seal.
    Seal,
    /// With a batch of entries.
    Entries,
    /// With a batch of entries and a promise behind them.
    Promise,
}

/// A journal with a checkpoint, promises, installed logs, and entries smaller and larger than a sector; and
/// what it holds.
fn fill(end: End) -> (SimulatedFolder, Model) {
    let folder = SimulatedFolder::new(Power::for_operations(i64::MAX));
    let mut workload = Workload::new(5);
    let (mut journal, _) = open(&folder).unwrap();
    let promise = workload.next_write();
    let mut put = |workload: &mut Workload, write: Write, syncs: bool| {
        workload.model.apply(&write);
        journal.append(&write).unwrap();
        if syncs {
            journal.sync().unwrap();
        }
    };
    put(&mut workload, promise, true);
    for (count, bytes, syncs) in [(4, 64, true), (1, 9000, true), (2, 1500, false), (9, 30, true)] {
        let entries = workload.entries(workload.model.head(), count, bytes);
        put(&mut workload, Write::Append(entries), syncs);
    }
    let checkpoint = workload.checkpoint((5, workload.model.digest_at(5)), false);
    put(&mut workload, checkpoint, true);
    for (count, bytes, syncs) in [(5, 64, false), (1, 5000, true), (7, 700, false)] {
        let entries = workload.entries(workload.model.head(), count, bytes);
        put(&mut workload, Write::Append(entries), syncs);
    }
    let promise = workload.promise();
    put(&mut workload, Write::Promise(promise), true);
    let (head_op, _) = workload.model.head();
    let entries = workload.entries((head_op - 2, workload.model.digest_at(head_op - 2)), 4, 300);
    let promise = workload.promise();
    put(&mut workload, Write::Install { after: head_op - 2, entries, promise }, false);
    let entries = workload.entries(workload.model.head(), 40, 64);
    put(&mut workload, Write::Append(entries), true);
    let entries = workload.entries(workload.model.head(), LAST_BATCH, 64);
    put(&mut workload, Write::Append(entries), end != End::Promise);
    if end == End::Promise {
        let promise = workload.promise();
        put(&mut workload, Write::Promise(promise), true);
    }
    if end == End::Seal {
        journal.seal().unwrap();
    }
    (folder, workload.model)
}

fn reopen(folder: &SimulatedFolder) -> Result<Restored, String> {
    match open(folder) {
        Ok((_, Contents::Kept(restored))) => Ok(restored),
        Ok((_, Contents::Created(_))) => panic!("everything vanished"),
        Err(error) => {
            assert!(error.is_corruption(), "{error}");
            Err(error.to_string())
        }
    }
}

fn segments(folder: &SimulatedFolder) -> Vec<String> {
    let names = folder.names().unwrap();
    names.into_iter().filter(|name| name.starts_with("segment-")).collect()
}

/// Copies of a journal, each with one sector of one file damaged.
fn with_damaged_sectors(folder: &SimulatedFolder, visit: &mut dyn FnMut(&str, SimulatedFolder)) {
    let mut random = Pcg64::seed_from_u64(2);
    for name in folder.names().unwrap() {
        let bytes = folder.bytes(&name);
        for at in (0..bytes.len()).step_by(SECTOR_BYTES) {
            let sector = bytes[at..bytes.len().min(at + SECTOR_BYTES)].to_vec();
            let mut flipped = sector.clone();
            flipped[random.random_range(0..sector.len())] ^= 1 << random.random_range(0..8);
            let zeros = vec![0; sector.len()];
            let noise = sector.iter().map(|_| random.random()).collect();
            // What was meant for somewhere else.
            let from = random.random_range(0..=(bytes.len() - sector.len()) / SECTOR_BYTES);
            let from = from * SECTOR_BYTES;
            let astray = bytes[from..from + sector.len()].to_vec();
            for damaged in [flipped, zeros, noise, astray] {
                let copy = folder.copy();
                copy.damage(&name, at, &damaged);
                visit(&name, copy);
            }
        }
    }
}

#[test]
fn a_damaged_sector_of_a_sealed_journal_makes_holes() {
    let (folder, model) = fill(End::Seal);
    assert_eq!(
        reopen(&folder.copy()).map(|found| model.assert_found_with_losses(&found, 0)),
        Ok([0; 2])
    );
    let (mut most_holes, mut cases) = (0, 0);
    with_damaged_sectors(&folder, &mut |name, copy| {
        let found = reopen(&copy);
        cases += 1;
        if name.starts_with("checkpoint-") {
            let is_same = found.as_ref().is_ok_and(|found| found.checkpoint == model.checkpoint);
            let says_so =
                || found.as_ref().is_err_and(|error| error.contains("replace this replica"));
            assert!(is_same || says_so(), "{found:?}");
            return;
        }
        let found = found.unwrap();
        let [holes, _] = model.assert_found_with_losses(&found, 0);
        most_holes = most_holes.max(holes);
        // What was lost stays lost, and nothing else is.
        let again = reopen(&copy).unwrap();
        assert_eq!(again.entries, found.entries);
    });
    assert!(most_holes > 2 && cases > 200, "{most_holes} holes in {cases} cases");
}

#[test]
fn a_block_that_is_damaged_anywhere_hides_no_loss() {
    let (folder, model) = fill(End::Seal);
    let block = vec![0xa5; format::BLOCK_BYTES as usize];
    let mut most_holes = 0;
    for name in segments(&folder) {
        let length = folder.bytes(&name).len();
        for at in (0..=length - block.len()).step_by(SECTOR_BYTES) {
            let copy = folder.copy();
            copy.damage(&name, at, &block);
            // It may say that it has lost more than entries.
            let Ok(found) = reopen(&copy) else { continue };
            let [holes, _] = model.assert_found_with_losses(&found, 0);
            most_holes = most_holes.max(holes);
        }
    }
    assert!(most_holes > 2, "{most_holes} holes");
}

#[test]
fn a_damaged_sector_behind_the_last_seal_is_a_torn_write() {
    let (folder, model) = fill(End::Entries);
    let mut most_cut = 0;
    with_damaged_sectors(&folder, &mut |_, copy| {
        if let Ok(found) = reopen(&copy) {
            let [_, cut] = model.assert_found_with_losses(&found, LAST_BATCH);
            most_cut = most_cut.max(cut);
        }
    });
    assert_eq!(most_cut, LAST_BATCH);
}

#[test]
fn a_synced_promise_stays_whatever_sector_is_damaged() {
    let (folder, model) = fill(End::Promise);
    let mut most_holes = 0;
    with_damaged_sectors(&folder, &mut |name, copy| {
        if name.starts_with("segment-") {
            let found = reopen(&copy).unwrap();
            most_holes = most_holes.max(model.assert_found_with_losses(&found, 0)[0]);
        }
    });
    assert!(most_holes > 0);
}

#[test]
fn what_cannot_be_read_is_lost_and_nothing_else() {
    /// A file with a block that the disk gives an error for.
    #[derive(Debug)]
    struct Unreadable(InMemoryBackend, std::ops::Range<u64>);

    impl StorageBackend for Unreadable {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            if offset < self.1.end && self.1.start < offset + out.len() as u64 {
                return Err(io::Error::other("a bad block"));
            }
            self.0.read(offset, out)
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            unreachable!("it is read")
        }
        fn sync_data(&self) -> io::Result<()> {
            unreachable!("it is read")
        }
        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            unreachable!("it is read")
        }
    }

    let (folder, model) = fill(End::Seal);
    let bytes = folder.bytes(&segments(&folder)[0]);
    for at in (0..bytes.len() as u64).step_by(format::BLOCK_BYTES as usize) {
        let file = InMemoryBackend::new();
        file.set_len(bytes.len() as u64).unwrap();
        file.write(0, &bytes).unwrap();
        let mut scan = Scan::default();
        let file = Unreadable(file, at..at + format::BLOCK_BYTES);
        let start = scan.read(&file, Path::new("segment")).unwrap();
        let state = replay(start.root.unwrap(), scan).unwrap();
        assert_eq!(state.log.head_op(), model.head().0);
        assert_eq!(state.promise, model.promise);
    }
}

#[test]
fn more_damage_never_gives_a_wrong_entry() {
    let (folder, model) = fill(End::Seal);
    let names = segments(&folder);
    let mut random = Pcg64::seed_from_u64(3);
    let mut refused = 0;
    for _ in 0..400 {
        let copy = folder.copy();
        for _ in 0..random.random_range(2..12) {
            let name = &names[random.random_range(0..names.len())];
            let at = random.random_range(0..folder.bytes(name).len() / SECTOR_BYTES) * SECTOR_BYTES;
            copy.damage(name, at, &[random.random(); SECTOR_BYTES]);
        }
        match open(&copy) {
            Ok((_, Contents::Kept(found))) => {
                for (expected, entry) in model.entries.values().zip(&found.entries) {
                    // Its last batches may look torn, and what they had installed is gone with them then.
                    let is_old = found.promise != model.promise.clone().unwrap();
                    assert!(is_old || entry.as_ref().is_none_or(|entry| entry == expected));
                }
            }
            Ok((_, Contents::Created(_))) => panic!("everything vanished"),
            Err(error) => refused += usize::from(error.is_corruption()),
        }
    }
    assert!(refused > 0);
}

#[test]
fn both_copies_of_a_promise_are_needed_to_lose_it() {
    let (folder, model) = fill(End::Seal);
    let name = segments(&folder).pop().unwrap();
    let bytes = folder.bytes(&name);
    let header = |at: usize| format::Header::decode(&bytes[at..], at as u64);
    let vital: Vec<_> = (0..bytes.len())
        .step_by(8)
        .filter(|at| header(*at).is_some_and(|header| header.kind.is_vital()))
        .collect();
    assert_eq!(vital.len(), 4, "two copies of a promise and of an installed log");
    for (index, first) in vital.iter().enumerate() {
        let numbers = |at: usize| header(at).unwrap().before.number;
        let damage = |copy: &SimulatedFolder, at| copy.damage(&name, at, &[7; 100]);
        let copy = folder.copy();
        damage(&copy, *first);
        model.assert_found_with_losses(&reopen(&copy).unwrap(), 0);
        for second in &vital[index + 1..] {
            let copy = folder.copy();
            damage(&copy, *first);
            damage(&copy, *second);
            // Holes do not explain what is missing: repairs could have filled them.
            damage(&copy, format::FIRST_BATCH_AT as usize + 512);
            let found = reopen(&copy);
            if numbers(*first) == numbers(*second) {
                assert!(second - first >= format::BLOCK_BYTES as usize);
                let error = found.unwrap_err();
                assert!(error.contains(&name) && error.contains("replace this replica"), "{error}");
            } else {
                model.assert_found_with_losses(&found.unwrap(), 0);
            }
        }
    }
}

#[test]
fn what_was_lost_is_repaired_and_may_be_lost_again() {
    let (folder, model) = fill(End::Seal);
    let name = segments(&folder).pop().unwrap();
    let bytes = folder.bytes(&name);
    // Of the journal as it begins anew: its first segment repeats the entries behind the checkpoint.
    folder.damage(&name, format::FIRST_BATCH_AT as usize + 512, &[0; 2560]);
    let (mut journal, Contents::Kept(found)) = open(&folder).unwrap() else { panic!("new") };
    let [holes, _] = model.assert_found_with_losses(&found, 0);
    assert!(holes > 1 && folder.bytes(&segments(&folder)[0]) != bytes);
    let is_lost = |op: &u64| found.entries[(op - model.base.0 - 1) as usize].is_none();
    let lost: Vec<_> = model.entries.values().filter(|entry| is_lost(&entry.op)).cloned().collect();
    journal.append(&Write::Repair(lost)).unwrap();
    journal.sync().unwrap();
    journal.seal().unwrap();
    drop(journal);
    let repaired = reopen(&folder.copy()).unwrap();
    assert_eq!(model.assert_found_with_losses(&repaired, 0), [0, 0]);
    let mut seen = std::collections::BTreeSet::new();
    with_damaged_sectors(&folder, &mut |name, copy| {
        if name.starts_with("segment-") {
            seen.insert(model.assert_found_with_losses(&reopen(&copy).unwrap(), 0)[0]);
        }
    });
    assert!(seen.contains(&0) && seen.len() > 1);
}

#[test]
fn what_an_earlier_life_left_behind_is_not_read() {
    let (folder, model) = fill(End::Seal);
    let old = folder.bytes(&segments(&folder)[0]);
    drop(open(&folder).unwrap());
    let name = segments(&folder).pop().unwrap();
    let end = folder.bytes(&name).len();
    folder.damage(&name, end, &old[end.min(old.len())..]);
    folder.damage(&name, end + old.len(), &old);
    assert_eq!(model.assert_found_with_losses(&reopen(&folder).unwrap(), 0), [0, 0]);
}

#[test]
fn a_missing_segment_or_checkpoint_is_told() {
    let (folder, _) = fill(End::Seal);
    let mut workload = Workload::new(8);
    let (mut journal, Contents::Kept(found)) = open(&folder).unwrap() else { panic!("new") };
    let last = found.entries.last().unwrap().clone().unwrap();
    for entry in workload.entries((last.op, last.digest), 60, 5000) {
        journal.append(&Write::Append(vec![entry])).unwrap();
        journal.sync().unwrap();
    }
    drop(journal);
    let names = folder.names().unwrap();
    assert!(segments(&folder).len() > 2, "{names:?}");
    for name in &names[..names.len() - 1] {
        assert!(folder.bytes(name).len() < 2 * SEGMENT_BYTES as usize);
        let copy = folder.copy();
        copy.remove(name).unwrap();
        let error = reopen(&copy).unwrap_err();
        assert!(error.contains("replace this replica"), "{error}");
    }
    let copy = folder.copy();
    segments(&copy).iter().for_each(|name| copy.remove(name).unwrap());
    reopen(&copy).unwrap_err();
}

#[test]
fn promises_alone_do_not_fill_the_disk() {
    let folder = SimulatedFolder::new(Power::for_operations(i64::MAX));
    let (mut journal, _) = open(&folder).unwrap();
    let mut workload = Workload::new(1);
    for _ in 0..100 {
        journal.append(&Write::Promise(workload.promise())).unwrap();
        journal.sync().unwrap();
    }
    assert_eq!(segments(&folder).len(), 1);
    assert!((folder.bytes(&segments(&folder)[0]).len() as u64) < 2 * SEGMENT_BYTES);
    let found = reopen(&folder).unwrap();
    assert!(found.entries.is_empty() && found.checkpoint.is_none());
    assert_eq!(found.promise.view.number(), 100);
}

#[test]
fn an_installed_log_that_is_too_long_for_a_record_is_one_step() {
    let folder = SimulatedFolder::new(Power::for_operations(i64::MAX));
    let (mut journal, _) = open(&folder).unwrap();
    let mut workload = Workload::new(1);
    let write = Write::Promise(workload.promise());
    workload.model.apply(&write);
    journal.append(&write).unwrap();
    let entries = workload.entries((0, 0), 9, 1 << 20);
    let write = Write::Install { after: 0, entries, promise: workload.promise() };
    workload.model.apply(&write);
    journal.append(&write).unwrap();
    journal.sync().unwrap();
    let found = reopen(&folder).unwrap();
    assert_eq!(workload.model.assert_found_with_losses(&found, 0), [0, 0]);
}

#[test]
fn headers_keep_their_form() {
    let mark = |number| format::Mark { number, head_op: number + 1, vital: number + 2 };
    let header = format::Header {
        kind: format::Kind::Append,
        payload_bytes: 0x0102,
        payload_checksum: 3,
        life: 4,
        offset: 4096,
        before: mark(5),
        synced: mark(8),
    };
    let bytes = header.encode();
    assert_eq!(format::Header::decode(&bytes, 4096), Some(header));
    assert_eq!(format::Header::decode(&bytes, 4104), None, "it went astray");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((&bytes[..4], &bytes[4..8], bytes[8]), (&b"avj1"[..], &[2, 1, 0, 0][..], 3));
    let words: Vec<_> = (16..88).step_by(8).map(word).collect();
    assert_eq!(words, [4, 4096, 5, 6, 7, 8, 9, 10, 3]);
    for at in 0..bytes.len() {
        let mut flipped = bytes;
        flipped[at] ^= 1;
        assert_eq!(format::Header::decode(&flipped, 4096), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Changed at random and its checksums set right, a segment gives something or an error.
    #[test]
    fn any_segment_is_read(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40)) {
        let (folder, _) = fill(End::Seal);
        let mut bytes = folder.bytes(&segments(&folder)[0]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz(&bytes, true);
        fuzz(&bytes, false);
    }
}
