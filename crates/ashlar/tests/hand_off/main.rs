//! Connections that move between real processes, in namespaces, with clients that look at every byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crowd;
mod http_client;
mod laboratory;
mod leftovers;
mod model;
mod moves;
mod objects;
mod program;
mod readers;
mod requests;
mod secrets;
mod sending;
mod storms;
mod switch;
mod uploads;
mod user;
mod ways;
