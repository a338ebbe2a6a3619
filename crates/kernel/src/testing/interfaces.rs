//! What is attached to interfaces of the calling thread's network namespace, as the kernel tells it.

use aya::programs::{SchedClassifier, TcAttachType};
use std::process::Command;

/// The identifier of the XDP program on an interface, whoever attached it.
///
/// # Panics
///
/// If `ip` fails: the test cannot go on.
pub fn xdp_program(interface: &str) -> Option<u32> {
    let arguments = ["-details", "link", "show", "dev", interface];
    let output = Command::new("ip").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("ip: {error}"));
    assert!(output.status.success(), "{interface}: {output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("prog/xdp id ")?;
    let digits = rest.split_whitespace().next().unwrap_or_default();
    Some(digits.parse().unwrap_or_else(|error| panic!("{digits:?}: {error}: {text}")))
}

/// How many programs of any kind are attached to an interface, whoever attached them.
///
/// # Panics
///
/// If the kernel cannot be asked: the test cannot go on.
pub fn attached_programs(interface: &str) -> usize {
    let tcx = |hook| match SchedClassifier::query_tcx(interface, hook) {
        Ok((_, programs)) => programs.len(),
        Err(error) => panic!("{interface}: {error}"),
    };
    tcx(TcAttachType::Ingress)
        + tcx(TcAttachType::Egress)
        + usize::from(xdp_program(interface).is_some())
}
