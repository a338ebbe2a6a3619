//! What is asked of the target: which operations, of which sizes, on which keys.

use super::content::Content;
use super::keys::{KeyChoice, KeyChooser, Population};
use crate::units::ByteSize;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

/// The name that keyed objects share, before their number.
const KEY_PREFIX: &str = "bench/";

/// What a run asks for.
#[derive(Clone, Debug)]
pub enum Workload {
    /// GET of the URL's own path, whatever it answers.
    Path(String),
    /// GET of synthetic objects, each of the sizes equally often.
    Synthetic(Vec<ByteSize>),
    /// GET of objects of one size, by their names.
    Named(Named),
    /// Operations on objects that the run put there before.
    Keyed(Keyed),
}

/// Objects of one size under several names, such as the same synthetic object with leading zeros.
/// Connections begin with another name each.
#[derive(Clone, Debug)]
pub struct Named {
    /// The names: at least one, of visible ASCII characters.
    pub names: Vec<String>,
    /// The size of every object.
    pub size: ByteSize,
    /// Whether a connection stays with the name that it began with. Otherwise it goes on to the
    /// next name with each request.
    pub stays: bool,
}

/// Operations on numbered objects of one size.
#[derive(Clone, Copy, Debug)]
pub struct Keyed {
    /// The shares of reads, updates and inserts, and the choice of keys.
    pub mix: Mix,
    /// How many objects are put there before the run; at least 1.
    pub keys: u64,
    /// The size of every object.
    pub size: ByteSize,
}

/// Shares of operations, in percent; what is missing to 100 are reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mix {
    /// PUT of an object that exists.
    pub update_percent: u8,
    /// PUT of a new object.
    pub insert_percent: u8,
    /// Which objects are read and updated.
    pub choice: KeyChoice,
}

impl Mix {
    /// Nothing but PUTs, spread evenly.
    pub const PUT: Self =
        Self { update_percent: 100, insert_percent: 0, choice: KeyChoice::Uniform };
    /// YCSB A: half reads, half updates.
    pub const YCSB_A: Self =
        Self { update_percent: 50, insert_percent: 0, choice: KeyChoice::Zipfian };
    /// YCSB B: 95 % reads, 5 % updates.
    pub const YCSB_B: Self =
        Self { update_percent: 5, insert_percent: 0, choice: KeyChoice::Zipfian };
    /// YCSB C: reads only.
    pub const YCSB_C: Self =
        Self { update_percent: 0, insert_percent: 0, choice: KeyChoice::Zipfian };
    /// YCSB D: 95 % reads of the latest objects, 5 % inserts.
    pub const YCSB_D: Self =
        Self { update_percent: 0, insert_percent: 5, choice: KeyChoice::Latest };
}

/// The mixes that have names.
const NAMED_MIXES: [(&str, Mix); 5] = [
    ("ycsb-a", Mix::YCSB_A),
    ("ycsb-b", Mix::YCSB_B),
    ("ycsb-c", Mix::YCSB_C),
    ("ycsb-d", Mix::YCSB_D),
    ("put", Mix::PUT),
];

/// A text that names no mix.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a mix: ycsb-a, ycsb-b, ycsb-c, ycsb-d or put")]
pub struct NotAMix(String);

impl FromStr for Mix {
    type Err = NotAMix;

    fn from_str(text: &str) -> Result<Self, NotAMix> {
        NAMED_MIXES
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, mix)| mix)
            .ok_or_else(|| NotAMix(text.to_owned()))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMED_MIXES.iter().find(|(_, mix)| mix == self);
        match named {
            Some((name, _)) => formatter.write_str(name),
            None => write!(
                formatter,
                "{} % updates, {} % inserts",
                self.update_percent, self.insert_percent
            ),
        }
    }
}

/// One request, and what its answer must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    /// GET of the fixed path.
    Path,
    /// GET of the synthetic object of that many bytes.
    Synthetic(u64),
    /// GET of the object of that many bytes that has the name at this place.
    Named { place: usize, bytes: u64 },
    /// GET of a numbered object of that many bytes.
    Read { key: u64, bytes: u64 },
    /// PUT of a numbered object of that many bytes; a new one if it is an insert.
    Write { key: u64, bytes: u64, insert: bool },
}

impl Operation {
    /// The body that a correct answer has: where its content begins in the pattern, and how many
    /// bytes. `None`: nothing is known of it.
    pub(super) fn expected_body(self) -> Option<(u64, u64)> {
        match self {
            Self::Path | Self::Write { .. } => None,
            Self::Synthetic(bytes) | Self::Named { bytes, .. } => Some((0, bytes)),
            Self::Read { key, bytes } => Some((Content::origin(key), bytes)),
        }
    }

    /// The body to send: where its content begins in the pattern, and how many bytes.
    pub(super) fn body(self) -> Option<(u64, u64)> {
        match self {
            Self::Write { key, bytes, .. } => Some((Content::origin(key), bytes)),
            _ => None,
        }
    }
}

/// Draws the operations of one thread and writes their request heads.
#[derive(Debug)]
pub(super) struct OperationSource {
    workload: Workload,
    /// Present for keyed workloads.
    keys: Option<KeyChooser>,
    random: Pcg64Mcg,
    /// What follows the path in every head without a body.
    head_end: String,
}

impl OperationSource {
    /// The operations of a thread with a seed of its own, against `authority` (the Host header).
    pub(super) fn new(
        workload: Workload,
        population: &Population,
        authority: &str,
        seed: u64,
    ) -> Self {
        let keys = match &workload {
            Workload::Keyed(keyed) => Some(KeyChooser::new(keyed.mix.choice, population.clone())),
            _ => None,
        };
        Self {
            workload,
            keys,
            random: Pcg64Mcg::new(u128::from(seed)),
            head_end: format!(" HTTP/1.1\r\nHost: {authority}\r\n"),
        }
    }

    /// Draws the next operation of a connection. `turn` is the connection's own: its number at
    /// first, and moved on here.
    pub(super) fn draw(&mut self, turn: &mut usize) -> Operation {
        match (&self.workload, &self.keys) {
            (Workload::Path(_), _) => Operation::Path,
            (Workload::Synthetic(sizes), _) => {
                let index =
                    if sizes.len() == 1 { 0 } else { self.random.random_range(0..sizes.len()) };
                Operation::Synthetic(sizes[index].bytes())
            }
            (Workload::Named(named), _) => {
                let place = *turn % named.names.len();
                if !named.stays {
                    *turn = place + 1;
                }
                Operation::Named { place, bytes: named.size.bytes() }
            }
            (Workload::Keyed(keyed), Some(keys)) => {
                let bytes = keyed.size.bytes();
                let percent = self.random.random_range(0..100u8);
                if percent < keyed.mix.insert_percent {
                    Operation::Write { key: keys.insert(), bytes, insert: true }
                } else if percent < keyed.mix.insert_percent + keyed.mix.update_percent {
                    Operation::Write { key: keys.draw(&mut self.random), bytes, insert: false }
                } else {
                    Operation::Read { key: keys.draw(&mut self.random), bytes }
                }
            }
            (Workload::Keyed(_), None) => unreachable!("a keyed workload has a chooser"),
        }
    }

    /// Notes that an insert was answered, well or badly: later keys must not wait for it.
    pub(super) fn answered(&self, operation: Operation) {
        if let (Operation::Write { key, insert: true, .. }, Some(keys)) = (operation, &self.keys) {
            keys.inserted(key);
        }
    }

    /// Writes the head of `operation`'s request into `head`, in place of what it held.
    pub(super) fn write_head(&self, operation: Operation, head: &mut Vec<u8>) {
        head.clear();
        let end = &self.head_end;
        match operation {
            Operation::Path => {
                let Workload::Path(path) = &self.workload else {
                    unreachable!("only a path workload draws it");
                };
                append(head, format_args!("GET {path}{end}\r\n"));
            }
            Operation::Synthetic(bytes) => append(head, format_args!("GET /{bytes}{end}\r\n")),
            Operation::Named { place, .. } => {
                let Workload::Named(named) = &self.workload else {
                    unreachable!("only a workload with names draws it");
                };
                append(head, format_args!("GET /{}{end}\r\n", named.names[place]));
            }
            Operation::Read { key, .. } => {
                append(head, format_args!("GET /{KEY_PREFIX}{key}{end}\r\n"));
            }
            Operation::Write { key, bytes, .. } => append(
                head,
                format_args!("PUT /{KEY_PREFIX}{key}{end}Content-Length: {bytes}\r\n\r\n"),
            ),
        }
    }
}

fn append(head: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    head.write_fmt(text).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const DRAWS: usize = 10_000;

    fn source(workload: Workload) -> OperationSource {
        let keys = match &workload {
            Workload::Keyed(keyed) => keyed.keys,
            _ => 1,
        };
        OperationSource::new(workload, &Population::new(keys), "example:80", 1)
    }

    fn keyed(mix: Mix) -> OperationSource {
        let size = ByteSize(100);
        source(Workload::Keyed(Keyed { mix, keys: 50, size }))
    }

    fn head(source: &OperationSource, operation: Operation) -> String {
        let mut head = b"left over".to_vec();
        source.write_head(operation, &mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn heads_are_what_a_server_expects() {
        let path = source(Workload::Path("/a?b".to_owned()));
        let text = "GET /a?b HTTP/1.1\r\nHost: example:80\r\n\r\n";
        assert_eq!(head(&path, Operation::Path), text);
        let text = "GET /1024 HTTP/1.1\r\nHost: example:80\r\n\r\n";
        assert_eq!(head(&path, Operation::Synthetic(1024)), text);
        let text = "GET /bench/7 HTTP/1.1\r\nHost: example:80\r\n\r\n";
        assert_eq!(head(&path, Operation::Read { key: 7, bytes: 1 }), text);
        let write = Operation::Write { key: 7, bytes: 9, insert: true };
        let text = "PUT /bench/7 HTTP/1.1\r\nHost: example:80\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(head(&path, write), text);
    }

    #[test]
    fn a_mix_keeps_its_shares() {
        for (mix, updates, inserts) in [
            (Mix::YCSB_A, 0.5, 0.0),
            (Mix::YCSB_B, 0.05, 0.0),
            (Mix::YCSB_C, 0.0, 0.0),
            (Mix::YCSB_D, 0.0, 0.05),
            (Mix::PUT, 1.0, 0.0),
        ] {
            let mut source = keyed(mix);
            let drawn: Vec<Operation> = (0..DRAWS).map(|_| source.draw(&mut 0)).collect();
            let share = |wanted: bool| {
                let hits = drawn.iter().filter(|operation| {
                    matches!(operation, Operation::Write { insert, .. } if *insert == wanted)
                });
                hits.count() as f64 / DRAWS as f64
            };
            assert!((share(false) - updates).abs() < 0.02, "{mix:?}");
            assert!((share(true) - inserts).abs() < 0.02, "{mix:?}");
        }
    }

    #[test]
    fn only_keys_that_exist_are_read() {
        let mut source = keyed(Mix::YCSB_D);
        let mut inserted = 50;
        for _ in 0..DRAWS {
            let operation = source.draw(&mut 0);
            match operation {
                Operation::Write { key, insert: true, .. } => {
                    assert_eq!(key, inserted);
                    inserted += 1;
                }
                Operation::Read { key, .. } => assert!(key < inserted),
                other => panic!("{other:?} is not in the mix"),
            }
            source.answered(operation);
        }
        assert!(inserted > 50);
    }

    #[test]
    fn sizes_are_drawn_equally_often() {
        let sizes = vec![ByteSize(1), ByteSize(2)];
        let mut source = source(Workload::Synthetic(sizes));
        let ones = (0..DRAWS).filter(|_| source.draw(&mut 0) == Operation::Synthetic(1)).count();
        assert!(ones.abs_diff(DRAWS / 2) < DRAWS / 20);
    }

    /// The heads of a connection's first requests for the objects `7`, `07` and `007`.
    fn named_requests(stays: bool, connection: usize) -> Vec<String> {
        let names = ["7", "07", "007"].map(str::to_owned).to_vec();
        let mut source = source(Workload::Named(Named { names, size: ByteSize(7), stays }));
        let mut turn = connection;
        let operations: Vec<Operation> = (0..4).map(|_| source.draw(&mut turn)).collect();
        assert!(operations.iter().all(|operation| operation.expected_body() == Some((0, 7))));
        let heads = operations.into_iter().map(|operation| head(&source, operation));
        heads.map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_connection_takes_names_in_turn_and_begins_with_its_own() {
        assert_eq!(named_requests(false, 0), ["/7", "/07", "/007", "/7"]);
        assert_eq!(named_requests(false, 5), ["/007", "/7", "/07", "/007"]);
    }

    #[test]
    fn a_connection_may_stay_with_one_name() {
        assert_eq!(named_requests(true, 4), ["/07"; 4]);
    }

    #[test]
    fn a_mix_has_a_name() {
        assert_eq!("ycsb-b".parse::<Mix>().unwrap(), Mix::YCSB_B);
        let error = "ycsb-z".parse::<Mix>().unwrap_err();
        assert!(error.to_string().contains("ycsb-z"));
    }
}
