//! Programs are attached as long as their owner lives, and never in another's place.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ashlar_kernel::Error;
use ashlar_kernel::chaos::{Attachment, Chaos, Hook, XdpMode};
use ashlar_kernel::testing::{NamespacePair, RIGHT_INTERFACE, Side, ledger};
use std::process::{Command, Stdio};
use support::interfaces::{attached_programs, xdp_program};
use support::{REQUIREMENTS, child};

const ALL_ATTACHMENTS: [Attachment; 3] =
    [Attachment::Xdp(XdpMode::Native), Attachment::TcxIngress, Attachment::TcxEgress];

fn attach_on_the_right(pair: &NamespacePair, attachments: &[Attachment]) -> Result<Chaos, Error> {
    pair.run(Side::Right, || {
        let mut chaos = Chaos::load()?;
        attachments.iter().try_for_each(|&attachment| chaos.attach(RIGHT_INTERFACE, attachment))?;
        Ok(chaos)
    })
}

fn programs_on_the_right(pair: &NamespacePair) -> usize {
    attached_programs(pair, Side::Right, RIGHT_INTERFACE)
}

#[test]
fn dropping_the_owner_detaches_everything() {
    if !ledger("dropping_the_owner_detaches_everything", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    assert_eq!(programs_on_the_right(&pair), 0);
    let mut chaos = attach_on_the_right(&pair, &ALL_ATTACHMENTS).unwrap();
    assert_eq!(programs_on_the_right(&pair), 3);
    chaos.detach(Hook::TcxEgress);
    assert_eq!(programs_on_the_right(&pair), 2);
    pair.run(Side::Right, || chaos.attach(RIGHT_INTERFACE, Attachment::TcxEgress)).unwrap();
    assert_eq!(programs_on_the_right(&pair), 3);
    drop(chaos);
    assert_eq!(programs_on_the_right(&pair), 0);
}

#[test]
fn another_xdp_program_is_not_replaced() {
    if !ledger("another_xdp_program_is_not_replaced", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    for (first, second) in [
        (XdpMode::Native, XdpMode::Native),
        (XdpMode::Generic, XdpMode::Generic),
        (XdpMode::Native, XdpMode::Generic),
        (XdpMode::Generic, XdpMode::Native),
    ] {
        let _other = attach_on_the_right(&pair, &[Attachment::Xdp(first)]).unwrap();
        let program = xdp_program(&pair, Side::Right, RIGHT_INTERFACE);
        assert!(program.is_some());
        let error = attach_on_the_right(&pair, &[Attachment::Xdp(second)]).unwrap_err();
        assert!(
            matches!(error, Error::ForeignXdpProgram { .. }),
            "{first:?} then {second:?}: {error}"
        );
        assert!(error.errno().is_some(), "{error:?}");
        assert_eq!(
            xdp_program(&pair, Side::Right, RIGHT_INTERFACE),
            program,
            "{first:?} then {second:?}"
        );
    }
}

/// A file system to pin programs in, unmounted when dropped.
struct ProgramFileSystem(tempfile::TempDir);

impl ProgramFileSystem {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()));
        Self(directory)
    }
}

impl Drop for ProgramFileSystem {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0.path()));
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[test]
fn an_xdp_program_attached_without_a_link_is_not_replaced() {
    if !ledger("an_xdp_program_attached_without_a_link_is_not_replaced", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let pins = ProgramFileSystem::mount();
    let pin = pins.0.path().join("program");
    let mut ebpf =
        aya::Ebpf::load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ashlar.bpf.o")))
            .unwrap();
    let program: &mut aya::programs::Xdp =
        ebpf.program_mut("chaos_xdp").unwrap().try_into().unwrap();
    program.load().unwrap();
    program.pin(&pin).unwrap();
    for (ip_mode, mode) in [("xdpdrv", XdpMode::Native), ("xdpgeneric", XdpMode::Generic)] {
        let namespace = pair.namespace(Side::Right);
        let set = |arguments: &[&str]| {
            run(Command::new("ip")
                .args(["-n", &namespace, "link", "set", "dev", RIGHT_INTERFACE, ip_mode])
                .args(arguments));
        };
        set(&["pinned", pin.to_str().unwrap()]);
        let before = xdp_program(&pair, Side::Right, RIGHT_INTERFACE);
        assert!(before.is_some());
        let error = attach_on_the_right(&pair, &[Attachment::Xdp(mode)]).unwrap_err();
        assert!(matches!(error, Error::ForeignXdpProgram { .. }), "{error}");
        assert_eq!(xdp_program(&pair, Side::Right, RIGHT_INTERFACE), before);
        set(&["off"]);
    }
}

#[test]
fn programs_of_two_owners_share_tcx() {
    if !ledger("programs_of_two_owners_share_tcx", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let both = [Attachment::TcxIngress, Attachment::TcxEgress];
    let first = attach_on_the_right(&pair, &both).unwrap();
    let _second = attach_on_the_right(&pair, &both).unwrap();
    assert_eq!(programs_on_the_right(&pair), 4);
    drop(first);
    assert_eq!(programs_on_the_right(&pair), 2);
}

#[test]
fn attaching_names_what_is_wrong() {
    if !ledger("attaching_names_what_is_wrong", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let mut chaos = attach_on_the_right(&pair, &[Attachment::TcxIngress]).unwrap();
    let error = pair
        .run(Side::Right, || chaos.attach(RIGHT_INTERFACE, Attachment::TcxIngress))
        .unwrap_err();
    assert_eq!(error.to_string(), "TcxIngress: already attached to right");

    let error =
        pair.run(Side::Left, || chaos.attach(RIGHT_INTERFACE, Attachment::TcxEgress)).unwrap_err();
    assert_eq!(error.to_string(), "right: no such network interface here");
    assert_eq!(error.errno(), Some(libc::ENODEV));

    let error =
        pair.run(Side::Right, || chaos.attach("lo", Attachment::Xdp(XdpMode::Native))).unwrap_err();
    assert!(matches!(error, Error::Attach { .. }), "{error}");
    assert!(error.to_string().contains("try generic mode"), "{error}");
    assert_eq!(error.errno(), Some(libc::EOPNOTSUPP));
    assert_eq!(programs_on_the_right(&pair), 1, "a failed attachment leaves the others alone");
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "runs as a child of a_killed_owner_leaves_nothing_attached"]
fn child_that_waits_to_be_killed() {
    child::attach_until_killed(|_| {
        let mut chaos = Chaos::load().unwrap();
        ALL_ATTACHMENTS
            .into_iter()
            .for_each(|attachment| chaos.attach(RIGHT_INTERFACE, attachment).unwrap());
        chaos
    });
}

#[test]
fn a_killed_owner_leaves_nothing_attached() {
    if !ledger("a_killed_owner_leaves_nothing_attached", &REQUIREMENTS) {
        return;
    }
    let pair = NamespacePair::create();
    let child = child::start("child_that_waits_to_be_killed", &pair, 0);
    assert_eq!(programs_on_the_right(&pair), 3);
    child::kill(child, || programs_on_the_right(&pair));
}
