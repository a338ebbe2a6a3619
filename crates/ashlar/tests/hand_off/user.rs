//! Users of the store: each works on objects of its own, over one connection after the other, and looks at every byte.

use crate::{
    http_client::{Head, Incoming, Outgoing, Server, too_long},
    model::{Asked, Body, Bytes, Content, Framing, Method, Slot},
    requests::{Requests, SLOTS},
    sending::{Ending, Sent, Writer},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap, fs, future::pending, io, ops::AddAssign, path::PathBuf, time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// The most bytes of a refused upload that a server reads to keep its connection.
const REST_BYTES_MAX: u64 = 64 << 10;
/// Requests that are sent before the first is answered.
const PIPELINE_MAX: usize = 6;
/// Before a user tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Response fields that differ from store to store or from moment to moment.
const PASSING_FIELDS: [&str; 4] =
    ["date", "last-modified", "x-ashlar-version", "x-ashlar-request-id"];

/// What users do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Campaign {
    pub(crate) server: Server,
    pub(crate) work: Work,
    pub(crate) users: u64,
    /// Requests altogether.
    pub(crate) requests: u64,
    pub(crate) seed: u64,
    /// Users abort, half-close and stall.
    pub(crate) rude: bool,
    /// Connections may end early, and temporary errors may come. Wrong bytes never.
    pub(crate) may_break: bool,
    /// How long an answer may take, from the last byte that came.
    pub(crate) patience: Duration,
    /// Where each answer is written down, one line each, in files by user.
    pub(crate) transcript: Option<PathBuf>,
}

/// What users work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Objects of their own, which they write and read.
    Objects,
    /// Synthetic objects, which they can only read.
    Synthetic,
}

impl Work {
    /// What a server may answer that can do nothing at the moment.
    fn temporary_statuses(self) -> &'static [u16] {
        match self {
            Self::Objects => &[408, 503, 504],
            Self::Synthetic => &[503],
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Requests answered, and rightly.
    pub(crate) answered: u64,
    /// Requests answered with a temporary error.
    pub(crate) refused: u64,
    /// Connections that ended before the answer did.
    pub(crate) broken: u64,
    /// Connections without a word for longer than users are patient.
    pub(crate) silent: u64,
    /// Connections that users ended in the middle.
    pub(crate) aborted: u64,
    pub(crate) connections: u64,
    pub(crate) puts: u64,
    /// Of bodies of objects.
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// What users were told when something went wrong, and how often.
    pub(crate) told: BTreeMap<String, u64>,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.broken += other.broken;
        self.silent += other.silent;
        self.aborted += other.aborted;
        self.connections += other.connections;
        self.puts += other.puts;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        for (what, times) in other.told {
            *self.told.entry(what).or_default() += times;
        }
    }
}

impl Campaign {
    pub(crate) async fn run(self) -> Report {
        let mut users = tokio::task::JoinSet::new();
        for number in 0..self.users {
            users.spawn(User::new(self.clone(), number).run());
        }
        let mut sum = Report::default();
        while let Some(report) = users.join_next().await {
            sum += report.unwrap();
        }
        sum
    }
}

struct Connection {
    incoming: Incoming,
    outgoing: Outgoing,
}

struct User {
    campaign: Campaign,
    number: u64,
    requests: Requests,
    slots: [Slot; SLOTS],
    connection: Option<Connection>,
    report: Report,
    transcript: String,
}

impl User {
    fn new(campaign: Campaign, number: u64) -> Self {
        let random = Pcg64Mcg::seed_from_u64(campaign.seed << 32 | number);
        // Another seed's objects must not be there already.
        let client = campaign.seed << 16 | number;
        Self {
            number,
            requests: Requests::new(random, client, campaign.work),
            slots: [Slot::default(); SLOTS],
            connection: None,
            campaign,
            report: Report::default(),
            transcript: String::new(),
        }
    }

    async fn run(mut self) -> Report {
        let mut left = self.campaign.requests / self.campaign.users;
        while left > 0 {
            let count = match self.requests.random.random_range(0..100) {
                0..20 => self.requests.random.random_range(2..=PIPELINE_MAX).min(left as usize),
                _ => 1,
            };
            left -= count as u64;
            if let Err(error) = self.burst(count).await {
                assert!(self.campaign.may_break, "user {}: {error}", self.number);
                *self.report.told.entry(error.to_string()).or_default() += 1;
                if error.kind() == io::ErrorKind::TimedOut {
                    self.report.silent += 1;
                } else {
                    self.report.broken += 1;
                }
                // Nobody may be there for a moment.
                sleep(RECONNECT_PAUSE).await;
            }
        }
        if let Some(directory) = &self.campaign.transcript {
            fs::write(directory.join(self.number.to_string()), &self.transcript).unwrap();
        }
        self.report
    }

    fn ending(&mut self) -> Ending {
        match self.requests.random.random_range(0..100) {
            0..3 => Ending::Close,
            3..6 => Ending::HalfClose,
            6..9 if self.campaign.rude => Ending::Abort,
            9..12 if self.campaign.rude => Ending::AbortSending,
            _ => Ending::None,
        }
    }

    /// Sends some requests at once, and receives their answers.
    async fn burst(&mut self, count: usize) -> io::Result<()> {
        let ending = self.ending();
        let asked: Vec<Asked> = (0..count)
            .map(|place| {
                let is_last = place + 1 == count;
                self.requests.next(&mut self.slots, is_last, is_last && ending == Ending::Close)
            })
            .collect();
        let seed = self.requests.random.random();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.report.connections += 1;
                let (incoming, outgoing) =
                    self.campaign.server.connect(self.campaign.patience).await?;
                Connection { incoming, outgoing }
            }
        };
        let done = self.exchange(&asked, ending, seed, &mut connection).await;
        if !matches!(done, Ok(Done { answered, .. }) if answered == asked.len()) {
            let answered =
                done.as_ref().map_or_else(|(_, answered)| *answered, |done| done.answered);
            self.doubt(&asked[answered..]);
        }
        match done {
            Ok(Done { keeps: true, .. }) => self.connection = Some(connection),
            Ok(_) => {}
            Err((error, _)) => return Err(error),
        }
        Ok(())
    }

    /// Nobody knows what becomes of requests without an answer.
    fn doubt(&mut self, unanswered: &[Asked]) {
        for asked in unanswered {
            if matches!(asked.method, Method::Put(_) | Method::Delete) {
                self.slots[asked.slot].abandon();
            }
        }
    }

    /// Sends and receives at the same time. On failure, also how many requests were answered.
    async fn exchange(
        &mut self,
        asked: &[Asked],
        ending: Ending,
        seed: u64,
        connection: &mut Connection,
    ) -> Result<Done, (io::Error, usize)> {
        let Connection { incoming, outgoing } = connection;
        let (go_on, gate) = oneshot::channel();
        let mut writer = Writer {
            random: Pcg64Mcg::seed_from_u64(seed),
            outgoing,
            rude: self.campaign.rude,
            gate: Some(gate),
        };
        let called_off = async {
            match writer.send(asked, ending).await {
                Ok(Sent::CalledOff) => {}
                // A server that refuses what it is being sent still answers.
                Ok(Sent::All) | Err(_) => pending().await,
            }
        };
        let mut answered = 0;
        let receiving = self.receive(asked, ending, incoming, go_on, &mut answered);
        let result = tokio::select! {
            biased;
            received = receiving => received,
            () = called_off => Ok(false),
        };
        match result {
            Ok(keeps) => {
                let aborts = matches!(ending, Ending::Abort | Ending::AbortSending);
                self.report.aborted += u64::from(aborts);
                Ok(Done { answered, keeps: keeps && !aborts })
            }
            Err(error) => Err((error, answered)),
        }
    }

    /// Receives the answers, and says whether the connection goes on.
    async fn receive(
        &mut self,
        asked: &[Asked],
        ending: Ending,
        incoming: &mut Incoming,
        go_on: oneshot::Sender<()>,
        answered: &mut usize,
    ) -> io::Result<bool> {
        let patience = self.campaign.patience;
        let (mut go_on, count) = (Some(go_on), asked.len());
        for (place, asked) in asked.iter().enumerate() {
            let mut head = within(patience, "before an answer", incoming.head()).await?;
            let mut asked_for_body = asked.framing != Framing::Expect;
            while head.status < 200 {
                assert_eq!(head.status, 100, "{asked:?}");
                asked_for_body = true;
                if let Some(go_on) = go_on.take() {
                    // The writer may have gone meanwhile.
                    let _ = go_on.send(());
                }
                head = within(patience, "before an answer", incoming.head()).await?;
            }
            if ending == Ending::Abort && place + 1 == count {
                self.some_of(asked, &head, incoming).await?;
                return Ok(false);
            }
            self.answer(asked, &head, incoming).await?;
            *answered += 1;
            // A refused upload ends the connection if its rest is long, or of unknown length.
            let unsent = match &asked.method {
                Method::Put(content) => {
                    let is_known = asked.framing != Framing::Chunked;
                    let is_long = content.size > REST_BYTES_MAX || !is_known;
                    !asked_for_body || head.status >= 400 && is_long
                }
                _ => false,
            };
            if head.closes() || unsent {
                let closes = ending != Ending::None || asked.method == Method::Malformed;
                assert!(closes || unsent || self.campaign.may_break, "{asked:?}\n{head:?}");
                return Ok(false);
            }
        }
        if matches!(ending, Ending::Close | Ending::HalfClose) {
            let ended = within(patience, "at the end", incoming.is_at_end()).await?;
            assert!(ended, "more came than was asked for");
            return Ok(false);
        }
        Ok(true)
    }

    /// Looks at one answer.
    async fn answer(
        &mut self,
        asked: &Asked,
        head: &Head,
        incoming: &mut Incoming,
    ) -> io::Result<()> {
        let length = head.body_bytes(asked.method == Method::Head);
        let is_temporary = self.campaign.work.temporary_statuses().contains(&head.status);
        if is_temporary && self.campaign.may_break {
            if head.status == 504 && !matches!(asked.method, Method::Get | Method::Head) {
                self.slots[asked.slot].abandon();
            }
            let words = read_words(incoming, length, self.campaign.patience).await?;
            let closes = if head.closes() { ", closes" } else { "" };
            let told = format!("{}{closes}: {}", head.status, words.trim_end());
            *self.report.told.entry(told).or_default() += 1;
            self.report.refused += 1;
            return Ok(());
        }
        if asked.generation != self.slots[asked.slot].generation {
            // What became of a write that was sent together with it nobody knows.
            return within(
                self.campaign.patience * 2,
                "in the middle of what nobody can know",
                incoming.body(length, |_| {}),
            )
            .await;
        }
        // An answer counts when it has come whole, but what it says about a write is true at once.
        let body = self.slots[asked.slot].answered(asked, head);
        self.note(asked, head, length);
        match body {
            Body::Words => {
                let words = read_words(incoming, length, self.campaign.patience).await?;
                self.transcript += &format!("{words:?}\n");
            }
            Body::Part(content, part) => {
                assert_eq!(part.end - part.start, length);
                self.report.received_bytes += length;
                let mut looking = Looking { content, offset: part.start, asked };
                let coming = incoming.body(length, |bytes| looking.look(bytes));
                // Slow, but not silent: stalls of users are within it, too.
                within(self.campaign.patience * 2, "in the middle of a body", coming).await?;
            }
        }
        if let Method::Put(content) = asked.method {
            self.report.puts += 1;
            self.report.sent_bytes += content.size;
        }
        self.report.answered += 1;
        Ok(())
    }

    /// Looks at the first half of an answer.
    async fn some_of(
        &mut self,
        asked: &Asked,
        head: &Head,
        incoming: &mut Incoming,
    ) -> io::Result<()> {
        let is_known = asked.generation == self.slots[asked.slot].generation;
        if head.status >= 400 || !is_known {
            return Ok(());
        }
        if let Body::Part(content, part) = self.slots[asked.slot].answered(asked, head) {
            let mut looking = Looking { content, offset: part.start, asked };
            let half = (part.end - part.start) / 2;
            let coming = incoming.body(half, |bytes| looking.look(bytes));
            within(self.campaign.patience * 2, "in the middle of a body", coming).await?;
        }
        Ok(())
    }

    /// Writes an answer down, as far as it is the same everywhere and always.
    fn note(&mut self, asked: &Asked, head: &Head, length: u64) {
        if self.campaign.transcript.is_none() {
            return;
        }
        let mut fields: Vec<_> = head
            .fields
            .iter()
            .filter(|(name, _)| !PASSING_FIELDS.contains(&name.as_str()))
            // How much of a refused upload was read is a matter of moments.
            .filter(|(name, _)| head.status < 400 || name != "connection")
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        fields.sort_unstable();
        let line = asked.head.split("\r\n").collect::<Vec<_>>().join("|");
        self.transcript += &format!("{line} -> {} {length} {}\n", head.status, fields.join("|"));
    }
}

/// A burst that was exchanged.
struct Done {
    answered: usize,
    keeps: bool,
}

/// Compares what comes with what must come.
struct Looking<'a> {
    content: Content,
    offset: u64,
    asked: &'a Asked,
}

impl Looking<'_> {
    fn look(&mut self, bytes: &[u8]) {
        let mut expected = vec![0; bytes.len()];
        self.content.fill(self.offset, &mut expected);
        if expected != bytes {
            let wrong = expected.iter().zip(bytes).position(|(one, other)| one != other);
            let place = wrong.map(|place| self.offset + place as u64);
            panic!("a wrong byte at {place:?} of {:?}: {:?}", self.content, self.asked);
        }
        self.offset += bytes.len() as u64;
    }
}

async fn read_words(
    incoming: &mut Incoming,
    length: u64,
    patience: Duration,
) -> io::Result<String> {
    let mut words = Vec::new();
    within(
        patience,
        "in the middle of an error",
        incoming.body(length, |bytes| words.extend_from_slice(bytes)),
    )
    .await?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}

async fn within<T>(
    patience: Duration,
    place: &str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, work).await.map_err(|_| too_long(place))?
}

#[test]
#[should_panic(expected = "a wrong byte at Some(12)")]
fn a_repeated_byte_is_noticed() {
    let content = Content { bytes: Bytes::Numbered(1), size: 100 };
    let (mut slots, random) = ([Slot::default(); SLOTS], Pcg64Mcg::seed_from_u64(1));
    let asked = Requests::new(random, 1, Work::Objects).next(&mut slots, true, false);
    let mut bytes = [0; 20];
    content.fill(5, &mut bytes);
    bytes.copy_within(6..19, 7);
    Looking { content, offset: 5, asked: &asked }.look(&bytes);
}
