//! What a control frame does to the table.

use super::control::{ControlFrame, OperationCode, ResultCode};
use super::flow::{Entry, EntryOrNone};

/// What to do with the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A new entry: [`Decision::after`].
    Insert,
    /// Owner, epoch and time of [`Decision::after`] into the entry, and `closing` if it is set; never unset it, the client's FIN may
    /// come at the same moment.
    Update,
    /// The entry goes.
    Remove,
}

/// What a request leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to answer.
    pub result: ResultCode,
    /// What to do.
    pub effect: Effect,
    /// What the table holds about the flow afterwards.
    pub after: EntryOrNone,
}

impl Decision {
    #[inline(always)]
    const fn new(result: ResultCode, effect: Effect, after: EntryOrNone) -> Self {
        Self { result, effect, after }
    }
}

/// Decides about a request that was checked and is fresh. `found` is what the table holds for its flow, `identity` what an entry of
/// that flow says of itself.
#[inline(always)]
pub fn decide(found: &EntryOrNone, request: &ControlFrame, identity: u32, now_ns: u64) -> Decision {
    let operation = request.operation_byte();
    let claims = operation == OperationCode::Claim as u8 && found.is_present;
    if operation == OperationCode::Point as u8 || claims {
        return point(found, request, identity, now_ns);
    }
    if !found.is_present {
        return Decision::new(ResultCode::UnknownFlow, Effect::None, EntryOrNone::NONE);
    }
    if operation == OperationCode::Query as u8 {
        return Decision::new(ResultCode::Same, Effect::None, *found);
    }
    let entry = &found.entry;
    let may_remove = if operation == OperationCode::Forget as u8 {
        request.epoch() >= entry.epoch
    } else {
        request.epoch() == entry.epoch && request.last_seen_ns() == entry.last_seen_ns
    };
    if may_remove {
        Decision::new(ResultCode::Applied, Effect::Remove, EntryOrNone::NONE)
    } else {
        Decision::new(ResultCode::StaleEpoch, Effect::None, *found)
    }
}

#[inline(always)]
fn point(found: &EntryOrNone, request: &ControlFrame, identity: u32, now_ns: u64) -> Decision {
    let pointed = Entry {
        identity,
        closing: u32::from(request.is_closing()) | found.entry.closing,
        owner: request.owner().to_bits(),
        epoch: request.epoch(),
        last_seen_ns: now_ns,
    };
    if !found.is_present {
        return Decision::new(ResultCode::Applied, Effect::Insert, EntryOrNone::some(pointed));
    }
    if pointed.epoch > found.entry.epoch {
        return Decision::new(ResultCode::Applied, Effect::Update, EntryOrNone::some(pointed));
    }
    let same = pointed.epoch == found.entry.epoch && pointed.owner == found.entry.owner;
    let result = if same { ResultCode::Same } else { ResultCode::StaleEpoch };
    Decision::new(result, Effect::None, *found)
}
