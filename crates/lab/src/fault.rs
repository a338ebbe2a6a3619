//! What can go wrong on purpose: with a node, and with the link of a host.

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest delay of a link.
pub const DELAY_MAX: Duration = Duration::from_secs(10);

/// Something to do to a node or to the link of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// Stops the node's process where it is (SIGSTOP); its connections stay open and silent.
    Pause,
    /// Lets a paused node go on.
    Resume,
    /// Ends the node at once (SIGKILL).
    Kill,
    /// Starts a node that has ended, and waits until it is ready.
    Start,
    /// Cuts the host off: the switch takes its port down.
    Partition,
    /// Joins a host that was cut off.
    Heal,
    /// Loses, duplicates and corrupts frames of the link, both ways. Replaces earlier chaos on the link.
    Chaos(Chaos),
    /// Delays frames of the link, both ways. Replaces an earlier delay on the link.
    Delay(Delay),
    /// Removes every fault of the link: partition, chaos, delay.
    Clear,
}

/// A fault of a link that is in force until it is cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LinkFault {
    /// The switch's port is down.
    Partition,
    /// Frames are lost, duplicated and corrupted.
    Chaos(Chaos),
    /// Frames are delayed.
    Delay(Delay),
}

impl LinkFault {
    /// One word for it, as in file names and messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Chaos(_) => "chaos",
            Self::Delay(_) => "delay",
        }
    }
}

/// How often frames of a link are lost, duplicated or corrupted, in each direction. At most one of these befalls a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chaos {
    /// The frame is lost.
    pub drop: Probability,
    /// The frame arrives twice.
    pub duplicate: Probability,
    /// One byte of the frame is changed.
    pub corrupt: Probability,
    /// Which frames may suffer.
    pub frames: FrameMatch,
    /// The same seed makes the same decisions about the same sequence of frames.
    pub seed: u64,
}

impl Chaos {
    /// Refuses probabilities whose sum exceeds one, and a fault that does nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let sum = u64::from(self.drop.0) + u64::from(self.duplicate.0) + u64::from(self.corrupt.0);
        if sum == 0 || sum > u64::from(Probability::PPM) {
            return Err(LabError::BadValue {
                field: "drop, duplicate and corrupt",
                reason: format!(
                    "they add up to {} %, which is not above 0 and at most 100",
                    sum as f64 / 1e4
                ),
            });
        }
        Ok(())
    }
}

/// How long frames of a link take, in each direction: a round trip takes twice as much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// The mean delay, at most [`DELAY_MAX`].
    pub delay: Duration,
    /// The delay varies evenly within this distance of the mean; at most the mean. Frames keep their order.
    pub jitter: Duration,
    /// How often a frame is not delayed at all, and so overtakes those before it.
    pub reorder: Probability,
    /// The same seed makes the same decisions about the same sequence of frames.
    pub seed: u64,
}

impl Delay {
    /// Refuses what cannot be kept.
    pub(crate) fn check(&self) -> Result<()> {
        if self.delay.is_zero() || self.delay > DELAY_MAX {
            return Err(LabError::BadValue {
                field: "delay",
                reason: format!("{:?} is not above 0 and at most {DELAY_MAX:?}", self.delay),
            });
        }
        if self.jitter > self.delay {
            return Err(LabError::BadValue {
                field: "jitter",
                reason: format!("{:?} is more than the delay of {:?}", self.jitter, self.delay),
            });
        }
        Ok(())
    }
}

/// A probability, in parts per million. As text, a percentage: `2%`, `0.1%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Probability(u32);

impl Probability {
    /// Parts in one.
    pub const PPM: u32 = 1_000_000;

    /// The probability in parts per million, 0 to 1,000,000.
    pub fn ppm(self) -> u32 {
        self.0
    }
}

impl FromStr for Probability {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || LabError::BadValue {
            field: "probability",
            reason: format!("{text:?} is not a percentage such as 2% or 0.1%, within 0% and 100%"),
        };
        let percent: f64 =
            text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).ok_or_else(bad)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(bad());
        }
        Ok(Self((percent * 10_000.0).round() as u32))
    }
}

impl TryFrom<String> for Probability {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Probability> for String {
    fn from(probability: Probability) -> Self {
        probability.to_string()
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// Which frames may suffer. As text: `any`, `tcp`, `udp`, `tcp:9001`, `udp:53` (the port on either side).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FrameMatch {
    /// Only this protocol; every frame, ARP too, when absent.
    pub protocol: Option<Protocol>,
    /// Only from or to this port; needs a protocol.
    pub port: Option<u16>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol's number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for FrameMatch {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || LabError::BadValue {
            field: "match",
            reason: format!("{text:?} is not any, tcp, udp, tcp:PORT or udp:PORT"),
        };
        if text == "any" {
            return Ok(Self::default());
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                (name, Some(port.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(bad)?))
            }
            None => (text, None),
        };
        let protocol = match name {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad()),
        };
        Ok(Self { protocol: Some(protocol), port })
    }
}

impl TryFrom<String> for FrameMatch {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<FrameMatch> for String {
    fn from(frames: FrameMatch) -> Self {
        frames.to_string()
    }
}

impl fmt::Display for FrameMatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, self.port) {
            (None, _) => formatter.write_str("any"),
            (Some(protocol), None) => formatter.write_str(protocol.name()),
            (Some(protocol), Some(port)) => write!(formatter, "{}:{port}", protocol.name()),
        }
    }
}

/// One line that names what was asked for and leaves out what was not.
impl fmt::Display for LinkFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |name: &str, share: Probability| match share {
            Probability(0) => String::new(),
            share => format!(" {name} {share}"),
        };
        formatter.write_str(self.kind())?;
        match self {
            Self::Partition => Ok(()),
            Self::Chaos(chaos) => write!(
                formatter,
                "{}{}{} match {} seed {}",
                share("drop", chaos.drop),
                share("duplicate", chaos.duplicate),
                share("corrupt", chaos.corrupt),
                chaos.frames,
                chaos.seed
            ),
            Self::Delay(delay) => {
                write!(formatter, " {:?}", delay.delay)?;
                if !delay.jitter.is_zero() {
                    write!(formatter, " jitter {:?}", delay.jitter)?;
                }
                write!(formatter, "{} seed {}", share("reorder", delay.reorder), delay.seed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn percentages_become_parts_per_million_and_back() {
        for (text, ppm) in
            [("2%", 20_000), ("0.1%", 1_000), ("0%", 0), ("100%", 1_000_000), ("0.0001%", 1)]
        {
            let probability: Probability = text.parse().unwrap();
            assert_eq!(probability.ppm(), ppm, "{text}");
            assert_eq!(probability.to_string(), text);
        }
        for text in ["2", "", "%", "-1%", "101%", "NaN%", "two%"] {
            assert!(text.parse::<Probability>().is_err(), "{text}");
        }
    }

    #[test]
    fn matches_name_a_protocol_and_perhaps_a_port() {
        let storage: FrameMatch = "tcp:9001".parse().unwrap();
        assert_eq!(storage, FrameMatch { protocol: Some(Protocol::Tcp), port: Some(9001) });
        for text in ["any", "tcp", "udp", "udp:53"] {
            assert_eq!(text.parse::<FrameMatch>().unwrap().to_string(), text);
        }
        for text in ["", "icmp", "tcp:", "tcp:0", "tcp:65536", "any:80", ":80"] {
            assert!(text.parse::<FrameMatch>().is_err(), "{text}");
        }
    }

    #[test]
    fn faults_survive_the_state_file() {
        let faults = [
            LinkFault::Partition,
            LinkFault::Chaos(Chaos {
                drop: "2%".parse().unwrap(),
                frames: "tcp:9001".parse().unwrap(),
                seed: u64::MAX,
                ..Chaos::default()
            }),
            LinkFault::Delay(Delay {
                delay: Duration::from_micros(10_500),
                jitter: Duration::from_millis(5),
                reorder: "1%".parse().unwrap(),
                seed: 7,
            }),
        ];
        for fault in faults {
            let text = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<LinkFault>(&text).unwrap(), fault, "{text}");
        }
    }

    #[test]
    fn a_fault_is_described_by_what_it_does() {
        let chaos = Chaos { corrupt: "0.1%".parse().unwrap(), seed: 3, ..Chaos::default() };
        assert_eq!(LinkFault::Chaos(chaos).to_string(), "chaos corrupt 0.1% match any seed 3");
        let mut delay = Delay {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            reorder: Probability::default(),
            seed: 1,
        };
        assert_eq!(LinkFault::Delay(delay).to_string(), "delay 10ms seed 1");
        delay.jitter = Duration::from_millis(2);
        delay.reorder = "1%".parse().unwrap();
        assert_eq!(LinkFault::Delay(delay).to_string(), "delay 10ms jitter 2ms reorder 1% seed 1");
        assert_eq!(LinkFault::Partition.to_string(), "partition");
    }

    #[test]
    fn faults_that_cannot_be_kept_are_refused() {
        assert!(Chaos::default().check().is_err());
        let half: Probability = "50%".parse().unwrap();
        assert!(Chaos { drop: half, duplicate: half, ..Chaos::default() }.check().is_ok());
        assert!(
            Chaos {
                drop: half,
                duplicate: half,
                corrupt: "1%".parse().unwrap(),
                ..Chaos::default()
            }
            .check()
            .is_err()
        );

        let delay = |delay, jitter| Delay {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            reorder: Probability::default(),
            seed: 0,
        };
        assert!(delay(10, 10).check().is_ok());
        assert!(delay(10, 11).check().is_err());
        assert!(delay(0, 0).check().is_err());
        assert!(delay(10_001, 0).check().is_err());
    }
}
