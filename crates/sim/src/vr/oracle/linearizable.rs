//! There is an order of all operations that explains what clients saw.

use super::super::world::{Checked, World};
use crate::linearizability::{Event, Verdict, check, register::Register};

/// The most placements that are tried for one key.
const STEPS_MAX: usize = 400_000;

impl World {
    pub(super) fn judge_histories(&mut self) -> Checked {
        for key in 0..self.plan.keys {
            let operations = self
                .operations
                .iter()
                .filter(|operation| operation.key == key && !operation.is_void);
            let event = |operation: &super::super::client::Operation| Event {
                invoked: operation.invoked,
                returned: operation.returned,
                operation: operation.what,
            };
            let history: Vec<_> = operations.map(event).collect();
            match check(&Register, &history, STEPS_MAX) {
                Verdict::Linearizable => self.coverage.histories_linearizable += 1,
                Verdict::Undecided => self.coverage.histories_undecided += 1,
                Verdict::Violated { placed_max } => {
                    let detail = format!(
                        "no order of key {key}'s {} operations explains them; {placed_max} could be placed",
                        history.len()
                    );
                    let mut violation = self.violation("linearizable", detail);
                    violation.context = history.iter().map(|event| format!("{event:?}")).collect();
                    return Err(violation);
                }
            }
        }
        Ok(())
    }
}
