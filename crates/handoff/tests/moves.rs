//! A move, step by step: scripts with golden output.
//!
//! Each file of `moves/` is a story of an exporter E, an importer I and steering S. Lines that start
//! at the margin are commands, those behind a bar what came of them; `#` starts a comment. The
//! commands:
//!
//! ```text
//! begin [away]                  a move begins at epoch 7; E's host gets the frames of flows without
//!                               an entry, or with `away` S has one that points at E
//! freeze ok|fails               E's shell has frozen the socket, or cannot
//! export ok|fails|moved         … has exported it, may not, or saw bytes arrive behind the export
//! check same|N|more             … has looked what the socket has received since: nothing, N bytes, or
//!                               what cannot be passed on
//! E receives N|more             … and finds that whenever it looks again, which it does at once when asked
//! import ok|fails               I's shell has made the socket, or cannot
//! leave ok|fails                … has brought it to life, or cannot
//! deliver E I                   the oldest message on its way from E to I; likewise `E S`, `S I` …
//! lose E I | lose all E S       what networks do
//! repeat I S | delay I S        …, to the back of the queue
//! reach claimed                 what a move does by itself up to here (`script/mod.rs` has the steps)
//! wait 100                      milliseconds pass, and what was due is done
//! channel breaks                between E and I, with all that is on it
//! E dies | I dies               a process is gone, its sockets with it
//! S is full                     it makes no new entries
//! S follows another 12          somebody has pointed the flow elsewhere
//! S forgets                     the flow's entry has aged out
//! cancel                        E's shell wants the connection back
//! flow returns                  the flow is imported at E's host again
//! status                        where everybody stands
//! ```
//!
//! After a change that should change the output, run the tests with `REWRITE_SCRIPTS=1` and read
//! the difference: commit none that you do not understand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod script;

use std::{collections::BTreeSet, env, fmt::Write, fs, path::Path};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/moves");

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
    a_claim_is_contested
    a_connection_moves
    a_connection_moves_back_within_the_linger
    a_lost_claim_is_repeated
    a_move_is_cancelled
    a_socket_that_cannot_be_frozen_or_exported_stays
    an_introduction_is_not_answered
    bytes_that_slipped_through_are_passed_on
    what_slipped_through_and_cannot_be_passed_on_resets_the_connection
    steering_follows_somebody_else
    steering_forgets
    steering_has_no_room
    steering_is_silent_for_the_exporter
    steering_is_silent_for_the_importer
    the_channel_breaks_after_taken
    the_channel_breaks_after_the_offer
    the_channel_breaks_before_the_offer
    the_exporter_dies
    the_importer_dies
    the_importer_refuses
    the_importers_kernel_refuses_at_the_end
    the_shells_take_too_long
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
        if command.starts_with("begin") {
            world = script::World::default();
        }
        if !command.is_empty() {
            for outcome in world.perform(command) {
                writeln!(text, "| {outcome}").unwrap();
            }
        }
    }
    text
}
