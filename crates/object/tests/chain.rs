//! The chain, step by step: scripts with golden output.
//!
//! Each file of `chain/` is a story. Lines that start at the margin are commands, those behind a
//! bar what came of them; `#` starts a comment. The commands:
//!
//! ```text
//! chain 3 [joined] [window-entries N] [window-bytes N]
//!                                               replicas A, B, C with empty disks; with `joined`
//!                                               also connected, and at rest
//! connect A | disconnect A | connect all        the link from A to its successor
//! put A x=1 [staged] [if-none-match *] [if-match 1]
//! delete A x                                    a client's write at A
//! sync A                                        A's disk does all that waits, and A hears of it
//! deliver A B [N]                               all messages from A to B, or the first N
//! lose A B | repeat A B | reverse A B           what a network does
//! ship A B                                      the bodies that A holds reach B
//! shipped A B                                   the bodies that A was told to ship have reached B
//! wait 100                                      milliseconds pass
//! settle                                        disks and messages go on until nothing is left
//! crash A [after write]                         what was not synced is lost, or kept
//! start A                                       with what its disk holds
//! replace A                                     its disk by an empty one
//! fill A | free A                               its disk has no room for objects, or has room again
//! read A x                                      a read at A, with the tail's word if it takes one
//! status                                        where everybody stands
//! ```
//!
//! After a change that should change the output, run the tests with `REWRITE_SCRIPTS=1` and read
//! the difference: commit none that you do not understand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod script;

use std::{collections::BTreeSet, env, fmt::Write, fs, path::Path};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chain");

macro_rules! scripts {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            play(stringify!($name));
        })+

        #[test]
        fn every_script_is_played() {
            let names = BTreeSet::from([$(stringify!($name).to_owned()),+]);
            let file_name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_owned();
            let files = fs::read_dir(SCRIPTS).unwrap().map(|entry| file_name(entry.unwrap()));
            let files: BTreeSet<_> = files.map(|name| name.into_string().unwrap()).collect();
            assert_eq!(files, names);
        }
    };
}

scripts! {
    a_chain_of_one
    a_failed_condition_waits_for_what_it_rests_on
    a_fresh_replica_does_not_serve_before_it_holds_all
    a_full_disk_takes_deletions
    a_full_window_refuses
    a_link_breaks_in_mid_write
    a_lost_answer_to_a_probe_is_asked_for_again
    a_middle_replica_restarts_with_dirty_entries
    a_new_chain_joins
    a_missing_body_is_fetched
    a_repeated_entry_and_a_gap
    a_replaced_disk_is_noticed_by_the_predecessor
    a_replaced_disk_is_noticed_by_the_successor
    a_restarted_replica_keeps_to_its_window
    a_write_goes_through_three_replicas
    the_head_restarts_with_dirty_entries
    the_tail_restarts_with_dirty_entries
    the_word_that_a_chain_is_writable_again_is_lost
    the_word_that_there_is_space_again_is_lost
    two_replaced_disks_do_not_vouch_for_each_other
}

fn play(name: &str) {
    let path = Path::new(SCRIPTS).join(name).with_extension("txt");
    let expected = fs::read_to_string(&path).unwrap();
    let played = output(&expected);
    if env::var_os("REWRITE_SCRIPTS").is_some() {
        fs::write(&path, played).unwrap();
    } else {
        assert_eq!(played, expected, "{} has another outcome", path.display());
    }
}

/// The script with the output that its commands have now.
fn output(script: &str) -> String {
    let mut world = script::World::default();
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.starts_with('|')) {
        writeln!(text, "{line}").unwrap();
        let command = line.split('#').next().unwrap().trim();
        if !command.is_empty() {
            for outcome in world.perform(command) {
                writeln!(text, "| {outcome}").unwrap();
            }
        }
    }
    text
}
