//! When a replica may answer a read alone.
//!
//! The rule is CRAQ's (Terrace and Freedman, USENIX ATC 2009, section 2.3), restated for versions
//! that are numbered per partition. Every write passes through every replica before the tail
//! commits it. Hence a replica whose newest version of a key is committed knows that nothing newer
//! has been committed, and serves it; one that holds a newer, uncommitted version cannot know, and
//! asks the tail how far it has committed.

use crate::Version;

/// What a replica does with a read of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadDecision {
    /// Serve this version.
    Serve(Version),
    /// The key names nothing.
    Absent,
    /// Ask the tail how far it has committed, then call [`decide_at`].
    AskTail,
}

/// Decides from the versions of one key that the replica holds, ascending, taken in one snapshot,
/// and from how far the replica knows the partition to be committed.
///
/// That mark may be taken before or after the snapshot: committed never falls, so an older mark
/// only asks the tail more often. Taken afterwards, a version that was committed in the meantime is
/// served without asking.
pub fn decide(versions: &[Version], committed: Version) -> ReadDecision {
    match versions.last() {
        Some(newest) if *newest > committed => ReadDecision::AskTail,
        newest => serve(newest),
    }
}

/// Decides with the tail's word, which must have been asked for **after** the snapshot was taken.
///
/// The answer is the value at some moment between the snapshot and the tail's word: every version
/// up to `tail_committed` is committed by then, and one that is missing from the snapshot had not
/// passed this replica when it was taken. An older word would not do: the version that was current
/// when it was given may have been superseded and released before the snapshot was taken, and the
/// key would seem to name nothing.
pub fn decide_at(versions: &[Version], tail_committed: Version) -> ReadDecision {
    serve(versions.iter().rev().find(|version| **version <= tail_committed))
}

fn serve(version: Option<&Version>) -> ReadDecision {
    version.map_or(ReadDecision::Absent, |version| ReadDecision::Serve(*version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_key_is_served_alone() {
        assert_eq!(decide(&[], Version(9)), ReadDecision::Absent);
        assert_eq!(decide(&[Version(3)], Version(3)), ReadDecision::Serve(Version(3)));
        assert_eq!(decide(&[Version(2), Version(3)], Version(5)), ReadDecision::Serve(Version(3)));
    }

    #[test]
    fn a_dirty_key_asks_the_tail() {
        assert_eq!(decide(&[Version(3), Version(7)], Version(6)), ReadDecision::AskTail);
        assert_eq!(decide(&[Version(1)], Version::NONE), ReadDecision::AskTail);
    }

    #[test]
    fn the_tails_word_settles_it() {
        let versions = [Version(3), Version(7)];
        assert_eq!(decide_at(&versions, Version(7)), ReadDecision::Serve(Version(7)));
        assert_eq!(decide_at(&versions, Version(6)), ReadDecision::Serve(Version(3)));
        assert_eq!(decide_at(&[Version(7)], Version(6)), ReadDecision::Absent);
    }
}
