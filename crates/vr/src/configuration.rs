//! Who replicates: members, quorums, epochs and views.

use std::{fmt, net::SocketAddr};

/// The most members of a group.
pub const MEMBERS_MAX: usize = 7;

/// Bits of a view that count views within an epoch; the others count epochs.
const NUMBER_BITS: u32 = 40;

/// A view: the epoch of a configuration, and a number within it. Ordered by epoch, then by number.
///
/// One word, so that frames, disks and kernel programs compare views with one comparison.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View(u64);

impl View {
    /// The view `number` of an epoch.
    ///
    /// # Panics
    /// When either does not fit: after 2^24 epochs or 2^40 views.
    pub fn new(epoch: u32, number: u64) -> Self {
        assert!(epoch >> (u64::BITS - NUMBER_BITS) == 0, "epochs are used up");
        assert!(number >> NUMBER_BITS == 0, "views are used up");
        Self(u64::from(epoch) << NUMBER_BITS | number)
    }

    /// As it is stored and sent.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it is stored and sent.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The configuration's epoch.
    pub fn epoch(self) -> u32 {
        (self.0 >> NUMBER_BITS) as u32
    }

    /// The number within the epoch.
    pub fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// The next view of the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.epoch(), self.number() + 1)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.epoch(), self.number())
    }
}

impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Places of members, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members(u8);

impl Members {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The first `count` places.
    pub fn first(count: usize) -> Self {
        assert!(count <= MEMBERS_MAX, "{count} places");
        Self(((1_u16 << count) - 1) as u8)
    }

    /// With `place`.
    #[must_use]
    pub fn with(self, place: usize) -> Self {
        assert!(place < MEMBERS_MAX, "place {place}");
        Self(self.0 | 1 << place)
    }

    /// Without `place`.
    #[must_use]
    pub fn without(self, place: usize) -> Self {
        assert!(place < MEMBERS_MAX, "place {place}");
        Self(self.0 & !(1 << place))
    }

    /// Whether `place` is among them.
    pub fn contains(self, place: usize) -> bool {
        place < MEMBERS_MAX && self.0 & 1 << place != 0
    }

    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The places in their order.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        (0..MEMBERS_MAX).filter(move |place| self.contains(*place))
    }
}

/// The members of a group during one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    epoch: u32,
    members: Vec<SocketAddr>,
}

/// Why members make no group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// None, or too many.
    #[error("a group has 1 to {MEMBERS_MAX} members, not {0}")]
    Count(usize),
    /// A replica has one place.
    #[error("{0} is a member twice")]
    Twice(SocketAddr),
}

impl Configuration {
    /// A configuration; the places of members are their order.
    ///
    /// # Errors
    /// When there are too few or too many members, or one twice.
    pub fn new(epoch: u32, members: Vec<SocketAddr>) -> Result<Self, ConfigurationError> {
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(ConfigurationError::Count(members.len()));
        }
        for (place, member) in members.iter().enumerate() {
            if members[..place].contains(member) {
                return Err(ConfigurationError::Twice(*member));
            }
        }
        Ok(Self { epoch, members })
    }

    /// Counts configurations from 0 on.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The members' addresses, by place.
    pub fn members(&self) -> &[SocketAddr] {
        &self.members
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The place of a member.
    pub fn place_of(&self, address: SocketAddr) -> Option<usize> {
        self.members.iter().position(|member| *member == address)
    }

    /// So many members decide: any two sets of this size share one.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// So many members that surely lack an entry prove that no quorum has it.
    pub fn blocking(&self) -> usize {
        self.members.len() - self.quorum() + 1
    }

    /// The place of a view's leader.
    pub fn leader_of(&self, view: View) -> usize {
        assert_eq!(view.epoch(), self.epoch, "a view of this configuration");
        (view.number() % self.members.len() as u64) as usize
    }

    /// Everybody but `place`.
    pub fn others(&self, place: usize) -> Members {
        Members::first(self.members.len()).without(place)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn group(count: u16) -> Configuration {
        let members = (1..=count).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        Configuration::new(3, members.collect()).unwrap()
    }

    #[test]
    fn views_are_ordered_by_epoch_then_by_number() {
        let early = View::new(1, 900);
        assert!(early < View::new(2, 0) && early < early.next());
        assert_eq!((early.next().epoch(), early.next().number()), (1, 901));
        assert_eq!(View::from_bits(early.bits()), early);
        assert_eq!(early.to_string(), "1.900");
    }

    #[test]
    fn any_two_quorums_share_a_member_and_a_blocking_set_meets_every_quorum() {
        for count in 1..=MEMBERS_MAX {
            let group = group(count as u16);
            assert!(2 * group.quorum() > count);
            assert!(group.quorum() + group.blocking() > count);
        }
        assert_eq!((group(3).blocking(), group(5).blocking(), group(7).blocking()), (2, 3, 4));
    }

    #[test]
    fn leaders_take_turns() {
        let group = group(3);
        let leaders: Vec<_> = (4..8).map(|number| group.leader_of(View::new(3, number))).collect();
        assert_eq!(leaders, [1, 2, 0, 1]);
        assert_eq!(group.others(1).iter().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_group_of_nobody_of_too_many_or_with_a_member_twice_is_refused() {
        let member = |port| SocketAddr::from(([10, 0, 0, 1], port));
        assert_eq!(Configuration::new(0, vec![]), Err(ConfigurationError::Count(0)));
        let many = (1..=8).map(member).collect();
        assert_eq!(Configuration::new(0, many), Err(ConfigurationError::Count(8)));
        let twice = vec![member(1), member(2), member(1)];
        assert_eq!(Configuration::new(0, twice), Err(ConfigurationError::Twice(member(1))));
    }
}
