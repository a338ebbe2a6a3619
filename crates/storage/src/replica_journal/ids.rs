//! Numbers that name lives and checkpoints.

/// Where they come from.
#[derive(Debug)]
pub(crate) enum Ids {
    /// The operating system: nothing that was ever written has the same.
    Random,
    /// A seed: a simulation's runs must be alike.
    #[cfg(any(test, feature = "simulation"))]
    Seeded(rand_pcg::Pcg64),
}

impl Ids {
    pub(super) fn draw(&mut self) -> u64 {
        match self {
            Self::Random => rand::random(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Seeded(random) => rand::RngExt::random(random),
        }
    }
}
