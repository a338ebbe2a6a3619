//! What runs on a laboratory's client: this test's executable once more.

use crate::{crowd, user, ways};
use ashlar_kernel::testing;
use ashlar_lab::{CLIENT, Lab};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs,
    process::{Child, Command, Stdio},
};

/// Names the test that is really the client's program.
const CLIENT_PROGRAM: &str = "program::client_program";
/// Tells it what to do.
const PROGRAM: &str = "ASHLAR_TEST_PROGRAM";
/// What stands before its report.
const REPORT: &str = "REPORT ";

/// What a client's program does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Program {
    /// Users of objects.
    Users(user::Campaign),
    /// Holds many connections.
    Crowd(crowd::Crowd),
    /// Reads over one connection.
    Reader(ways::Reader),
    /// Reads over one connection of which it changes the keys.
    Rekeyer(ways::Rekeyer),
    /// Counts the kernel programs that are attached to the host's interfaces.
    Attached,
}

impl Program {
    fn report(self) -> String {
        let reported = match self {
            Self::Users(campaign) => serde_json::to_string(&event_loop().block_on(campaign.run())),
            Self::Crowd(crowd) => serde_json::to_string(&event_loop().block_on(crowd.run())),
            Self::Reader(reader) => serde_json::to_string(&event_loop().block_on(reader.run())),
            Self::Rekeyer(rekeyer) => serde_json::to_string(&rekeyer.run()),
            Self::Attached => serde_json::to_string(&attached_programs()),
        };
        reported.unwrap()
    }
}

fn event_loop() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// How many kernel programs, at the driver or above, are attached to interfaces of this namespace.
fn attached_programs() -> usize {
    let interfaces = fs::read_dir("/sys/class/net").unwrap();
    let names = interfaces.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| testing::attached_programs(&name)).sum()
}

#[test]
#[ignore = "the program of a client, which other tests run inside of a laboratory"]
fn client_program() {
    let program: Program = serde_json::from_str(&std::env::var(PROGRAM).unwrap()).unwrap();
    println!("{REPORT}{}", program.report());
}

/// Runs a program on the laboratory's client, and returns its report.
pub(crate) fn run<Report: DeserializeOwned>(lab: &Lab, program: &Program) -> Report {
    run_on(lab, CLIENT, program)
}

/// Runs a program on a host, and returns its report.
pub(crate) fn run_on<Report: DeserializeOwned>(lab: &Lab, host: &str, program: &Program) -> Report {
    report(program, command(lab, host, program))
}

/// The command that runs a program on a host.
pub(crate) fn command(lab: &Lab, host: &str, program: &Program) -> Command {
    let mut command = lab.command(host, std::env::current_exe().unwrap()).unwrap();
    command.args(["--ignored", "--exact", CLIENT_PROGRAM, "--nocapture"]);
    command.env(PROGRAM, serde_json::to_string(program).unwrap());
    command
}

/// Runs the command of a program, and returns its report.
pub(crate) fn report<Report: DeserializeOwned>(program: &Program, mut command: Command) -> Report {
    finish(program, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for a program to end, and returns its report.
pub(crate) fn finish<Report: DeserializeOwned>(program: &Program, child: Child) -> Report {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}\n{text}\n{errors}");
    let report = text.lines().find_map(|line| line.split_once(REPORT)).unwrap().1;
    serde_json::from_str(report).unwrap()
}
