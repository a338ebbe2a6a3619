//! Counting what runs exercise, so that nobody takes an idle simulation for a clean one.

use serde::Serialize;

/// How often what happened, of one world.
pub trait Exercised: Copy + Default + Serialize {
    /// Adds what another run exercised.
    fn add(&mut self, other: &Self);

    /// The names and counts, in a fixed order.
    fn rows(&self) -> Vec<(&'static str, u64)>;
}

/// Makes the structure of a world's counts.
macro_rules! counts {
    ($($(#[$text:meta])+ $name:ident,)+) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Coverage {
            $($(#[$text])+ pub $name: u64,)+
        }

        impl crate::coverage::Exercised for Coverage {
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

pub(crate) use counts;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unreachable_pub, reason = "a world's counts are public")]
    mod fruit {
        counts! {
            /// One thing.
            apples,
            /// Another.
            pears,
        }
    }

    #[test]
    fn runs_add_up() {
        let one = fruit::Coverage { apples: 2, pears: 0 };
        let mut sum = one;
        sum.add(&one);
        assert_eq!(sum.rows(), [("apples", 4), ("pears", 0)]);
    }
}
