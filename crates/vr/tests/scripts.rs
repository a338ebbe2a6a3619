//! A group, step by step: scripts with golden output.
//!
//! Each file of `scripts/` is a story of replicas A to G and clients x, y, z. Lines that start at the margin
//! are commands, those behind a bar what came of them; `#` starts a comment. The commands:
//!
//! ```text
//! begin A B C                     a group begins, and its first words are heard; the others know no group.
//!                                 `begin durable A B C`: entries are on disks; `… lease 100`: leaders read
//!                                 alone for so many milliseconds; `… keeps 1000`: bytes of a log
//! x registers at A                x's session begins
//! x puts k=1 at A                 its next request; nothing is lost between clients and replicas
//! x repeats itself at B           its last request, once more
//! x wants A B D at A              its next request: the members of the next epoch
//! x reads k at A                  … `up to 100 ms old`: at a backup, too
//! deliver A B Prepare             the oldest message of that name from A to B, `any` for whoever it may be,
//!                                 `deliver all any B` all that are on their way to B
//! deliver all                     everything, and what comes of it
//! lose A B | lose all A any       what networks do; which ones as above
//! repeat A B | delay A B          …: delivered next and again at the end, or at the end only
//! cut A B                         what A sends to B from now on is lost
//! split A / B C                   … and likewise between all of one side and all of the other
//! mend                            cuts are no more
//! wait 100 | B waits 100          milliseconds pass, for all or for one, and what was due is done
//! B suspects                      time passes for B until it would leave its leader
//! B ends | B loses power          its process ends; its disk keeps what is written, or only what is synced
//! B starts                        … again: from its disk, or without memory in a group that is not durable
//! B loses 3                       while it is down: its disk cannot read entry 3, or tore it
//! B writes slowly | B syncs       … nothing until it is told to
//! status | status B               what replicas are and have
//! quietly …                       a command whose outcome is not worth a line
//! ```
//!
//! After a change that should change the output, run the tests with `REWRITE_SCRIPTS=1` and read the
//! difference: commit none that you do not understand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod script;

use std::{collections::BTreeSet, env, fmt::Write, fs, path::Path};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

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
    requests_are_executed
    a_view_changes
    a_memory_is_recovered
    a_log_is_fetched
    a_member_joins
    members_leave
    all_members_are_replaced
    the_last_normal_view_is_not_that_of_the_last_entry
    a_new_member_is_in_when_its_disk_says_so
    a_prepare_of_another_view_is_not_acknowledged
    a_log_is_kept_until_the_other_is_here
    a_backup_counts_once
    early_prepares_wait_for_their_predecessors
    a_leader_that_was_deposed_commits_nothing
    who_recovers_says_nothing_to_others
    an_old_nonce_does_not_count
    a_disk_lags
    a_leader_whose_disk_stands_still_gives_up
    a_disk_loses_entries
    tails_are_torn
    reads_are_never_old
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

/// The script with the output that its commands have now. A `begin` starts a new world.
fn output(script: &str) -> String {
    let mut world = script::World::default();
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.starts_with('|')) {
        writeln!(text, "{line}").unwrap();
        let command = line.split('#').next().unwrap().trim();
        if !command.is_empty() {
            // Where it ended, if a command cannot be done.
            println!("{line}");
            for outcome in world.perform(command) {
                writeln!(text, "| {outcome}").unwrap();
            }
        }
    }
    text
}
