//! The world for the protocol cores, from one seed.
//!
//! A core without I/O takes time, messages and disks' answers as values, so a world can be put
//! around it in which all of these misbehave, and in which one seed decides how. A run has two
//! phases. In the *safety* phase faults of all kinds happen while clients work; in the *liveness*
//! phase everything is healed, and whatever was begun must come to its end. Oracles watch both:
//! each knows one property and nothing of how the core provides it.
//!
//! The frame: [`random`] (the seed), [`events`] (virtual time), [`network`], [`disk`],
//! [`linearizability`] (the judge of what clients saw), [`trace`], [`violation`], [`coverage`],
//! [`report`], [`simulation`] (one run), [`shrink`] (a smaller one), [`runner`] (many). The worlds: [`object`], [`handoff`] and [`vr`].

pub mod coverage;
pub mod disk;
pub mod events;
pub mod handoff;
pub mod linearizability;
pub mod network;
pub mod object;
pub mod random;
pub mod report;
pub mod runner;
pub mod shrink;
pub mod simulation;
pub mod trace;
pub mod violation;
pub mod vr;
