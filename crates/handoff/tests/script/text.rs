//! How the scripts say what happens.

use ashlar_handoff::protocol::{ExporterOutput, ImporterOutput, Message, Outcome, Owner, Steered};

pub(crate) fn exporter_output(output: &ExporterOutput) -> String {
    match output {
        ExporterOutput::Freeze => "E freezes its socket".into(),
        ExporterOutput::Export => "E exports its socket".into(),
        ExporterOutput::Send(text) => format!("E -> I: {}", message(text)),
        ExporterOutput::CheckReceived => "E looks what it has received".into(),
        ExporterOutput::Introduce { epoch } => format!("E -> S: introduce, epoch {epoch}"),
        ExporterOutput::Claim { epoch } => format!("E -> S: claim, epoch {epoch}"),
        ExporterOutput::Thaw => "E thaws its socket".into(),
        ExporterOutput::Reset => "E resets the client".into(),
        ExporterOutput::CloseSilently => "E closes its socket silently".into(),
        ExporterOutput::Report(result) => format!("E reports: {}", outcome(result)),
    }
}

pub(crate) fn importer_output(output: &ImporterOutput) -> String {
    match output {
        ImporterOutput::Import(_) => "I imports a socket".into(),
        ImporterOutput::Claim { epoch } => format!("I -> S: claim, epoch {epoch}"),
        ImporterOutput::Send(text) => format!("I -> E: {}", message(text)),
        ImporterOutput::LeaveRepair => "I leaves repair mode".into(),
        ImporterOutput::Serve { epoch } => format!("I serves, epoch {epoch}"),
        ImporterOutput::Receive(bytes) => format!("I receives {} late bytes", bytes.len()),
        ImporterOutput::CloseSilently => "I closes its socket silently".into(),
        ImporterOutput::Reset => "I resets the client".into(),
        ImporterOutput::Report(result) => format!("I reports: {}", outcome(result)),
    }
}

pub(crate) fn steered(asker: &str, steered: &Steered) -> String {
    let to = format!("(to epoch {})", steered.answers_epoch);
    match steered.owner {
        Owner::Nobody => format!("S -> {asker}: knows no entry {to}"),
        follows => {
            format!("S -> {asker}: follows {}, epoch {} {to}", owner(follows), steered.epoch)
        }
    }
}

pub(crate) fn owner(owner: Owner) -> &'static str {
    match owner {
        Owner::Exporter => "E",
        Owner::Importer => "I",
        Owner::Other => "another",
        Owner::Nobody => "nobody",
    }
}

pub(crate) fn owner_named(name: &str) -> Owner {
    let all = [Owner::Exporter, Owner::Importer, Owner::Other, Owner::Nobody];
    all.into_iter().find(|candidate| owner(*candidate) == name).unwrap()
}

fn message(message: &Message) -> String {
    match message {
        Message::Offer { .. } => "offer".into(),
        Message::Refused { reason, claimed: false } => format!("refused, {reason}"),
        Message::Refused { reason, claimed: true } => format!("refused after a claim, {reason}"),
        Message::Taken => "taken".into(),
        Message::Cut => "cut".into(),
        Message::Late { bytes } => format!("late, {} bytes", bytes.len()),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Moved { epoch } => format!("moved, epoch {epoch}"),
        Outcome::Kept { epoch, cause } => format!("kept at epoch {epoch}: {cause}"),
        Outcome::Ended { cause } => format!("ended: {cause}"),
    }
}
