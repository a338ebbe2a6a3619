//! What would become of a frame, without sending it.

use ashlar_fastpath::steering::{FlowKey, FlowState, MacAddress, PassReason, Verdict};
use std::fmt;

/// A TCP frame from a client, addressed to the steering interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// From whom to which service.
    pub flow: FlowKey,
    /// The flags of its TCP header: `TCP_…`.
    pub tcp_flags: u8,
}

/// What would become of it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which flow it is of.
    pub flow: FlowKey,
    /// What the table holds about that flow.
    pub state: Option<FlowState>,
    /// What would be done with the frame.
    pub verdict: Verdict,
    /// Whether the flow would be known as ending from then on.
    pub closes: bool,
    /// The interface's own address.
    pub own: MacAddress,
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.flow)?;
        match self.verdict {
            Verdict::Pass(PassReason::NoFlow) => {
                write!(formatter, "passes to this host, the flow is not in the table")
            }
            Verdict::Pass(PassReason::OwnedHere) => {
                write!(formatter, "passes to this host, which owns the flow ({})", self.own)
            }
            Verdict::Steer(mac) => write!(formatter, "leaves for {mac}"),
            Verdict::PassAndForget => write!(
                formatter,
                "passes to this host, and the entry of the connection before it is removed"
            ),
        }?;
        if let Some(state) = self.state {
            let FlowState { owner, epoch, closing, .. } = state;
            let ending = if closing { ", ending" } else { "" };
            write!(formatter, "; owner {}, epoch {epoch}{ending}", owner.id)?;
        }
        if self.closes {
            write!(formatter, "; the flow would be ending from then on")?;
        }
        Ok(())
    }
}
