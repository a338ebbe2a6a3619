//! What travels between the two ends.

use std::fmt;

/// A segment of a flow, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Whose connection it is of: stands for both addresses and ports.
    pub(crate) flow: usize,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: Option<u32>,
    pub(crate) window: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// A segment without payload and flags.
    pub(super) fn new(
        flow: usize,
        sequence: u32,
        acknowledgement: Option<u32>,
        window: u32,
    ) -> Self {
        let payload = Vec::new();
        Self {
            flow,
            sequence,
            acknowledgement,
            window,
            syn: false,
            fin: false,
            rst: false,
            payload,
        }
    }

    /// The same as a reset.
    #[must_use]
    pub(super) fn reset(self) -> Self {
        Self { rst: true, ..self }
    }

    /// How many sequence numbers it takes.
    pub(crate) fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.syn) + u32::from(self.fin)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [(self.syn, " SYN"), (self.fin, " FIN"), (self.rst, " RST")];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let (flow, sequence, bytes) = (self.flow, self.sequence, self.payload.len());
        write!(formatter, "c{flow}{flags} {sequence:08x}+{bytes}")?;
        match self.acknowledgement {
            Some(acknowledgement) => write!(formatter, " ack {acknowledgement:08x}"),
            None => Ok(()),
        }
    }
}

/// Whether one sequence number lies behind another.
pub(crate) fn after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

/// What a host without a socket answers (RFC 9293, section 3.10.7.1); nothing to a reset.
pub(crate) fn refusal(segment: &Segment) -> Option<Segment> {
    let (sequence, acknowledgement) = match segment.acknowledgement {
        Some(acknowledgement) => (acknowledgement, None),
        None => (0, Some(segment.sequence.wrapping_add(segment.length()))),
    };
    (!segment.rst).then(|| Segment::new(segment.flow, sequence, acknowledgement, 0).reset())
}
