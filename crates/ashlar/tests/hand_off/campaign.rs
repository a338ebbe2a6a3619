//! Random requests on several connections, every byte of every answer looked at.

use super::connection::{Connection, Head};
use ashlar_object::synthetic::byte_at;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use std::{io, net::Ipv4Addr, ops::Range, thread, time::Duration};

/// The largest object asked for: some hundred segments.
const SIZE_MAX: f64 = 400_000.0;
/// Requests that are sent before the first is answered.
const PIPELINE_MAX: usize = 4;

/// Before a client tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What a client does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Campaign {
    pub(crate) address: Ipv4Addr,
    /// HTTPS.
    pub(crate) secure: bool,
    pub(crate) connections: u64,
    /// Requests on each connection.
    pub(crate) requests: usize,
    pub(crate) seed: u64,
    /// Connections may end early or stall, and temporary errors may come. Wrong bytes never.
    pub(crate) may_break: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Requests answered, and rightly.
    pub(crate) answered: usize,
    /// Requests refused with a temporary error.
    pub(crate) refused: usize,
    /// Connections that ended before the answer did.
    pub(crate) broken: usize,
}

impl Campaign {
    pub(crate) fn run(&self) -> Report {
        let threads: Vec<_> = (0..self.connections)
            .map(|number| {
                let campaign = *self;
                thread::spawn(move || Client::new(campaign, number).run())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(
            Report::default(),
            |sum, one| Report {
                answered: sum.answered + one.answered,
                refused: sum.refused + one.refused,
                broken: sum.broken + one.broken,
            },
        )
    }
}

/// One request.
struct Asked {
    to_head: bool,
    size: u64,
    range: Option<Range<u64>>,
    text: String,
}

/// One connection's user; it opens another one when the first has ended.
struct Client {
    campaign: Campaign,
    random: Pcg64Mcg,
    connection: Option<Connection>,
    report: Report,
}

impl Client {
    fn new(campaign: Campaign, number: u64) -> Self {
        let random = Pcg64Mcg::seed_from_u64(campaign.seed << 32 | number);
        Self { campaign, random, connection: None, report: Report::default() }
    }

    fn run(mut self) -> Report {
        let mut left = self.campaign.requests;
        while left > 0 {
            let burst = match self.random.random_range(0..100) {
                0..15 => self.random.random_range(2..=PIPELINE_MAX).min(left),
                _ => 1,
            };
            left -= burst;
            if let Err(error) = self.burst(burst) {
                assert!(self.campaign.may_break, "{error}");
                self.report.broken += 1;
                self.connection = None;
                // Nobody may be there for a moment.
                thread::sleep(RECONNECT_PAUSE);
            }
        }
        self.report
    }

    /// Sends some requests at once, and receives their answers, or some of them.
    fn burst(&mut self, count: usize) -> io::Result<()> {
        let ending = match self.random.random_range(0..100) {
            0..4 => Ending::Abort,
            4..8 => Ending::HalfClose,
            8..12 => Ending::Close,
            _ => Ending::None,
        };
        let asked: Vec<_> = (0..count)
            .map(|place| self.ask(place + 1 == count && ending == Ending::Close))
            .collect();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.campaign.address, self.campaign.secure)?,
        };
        let text: String = asked.iter().map(|asked| asked.text.as_str()).collect();
        connection.send(text.as_bytes())?;
        if ending == Ending::HalfClose {
            connection.finish()?;
        }
        for asked in &asked {
            let head = connection.head()?;
            if ending == Ending::Abort {
                let mut some = vec![0; (head.length / 2) as usize];
                if !asked.to_head {
                    connection.body(&mut some)?;
                }
                return Ok(());
            }
            self.receive(asked, &head, &mut connection)?;
            if head.closes && ending == Ending::None {
                return Ok(());
            }
        }
        match ending {
            Ending::None => self.connection = Some(connection),
            Ending::HalfClose | Ending::Close => assert!(connection.is_at_end()?, "more came"),
            Ending::Abort => {}
        }
        Ok(())
    }

    fn receive(
        &mut self,
        asked: &Asked,
        head: &Head,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let part = asked.range.clone().unwrap_or(0..asked.size);
        let status = if asked.range.is_some() { 206 } else { 200 };
        if head.status == 503 && self.campaign.may_break {
            let mut text = vec![0; if asked.to_head { 0 } else { head.length as usize }];
            connection.body(&mut text)?;
            self.report.refused += 1;
            return Ok(());
        }
        assert_eq!((head.status, head.length), (status, part.end - part.start), "{}", asked.text);
        let mut body = vec![0; if asked.to_head { 0 } else { head.length as usize }];
        connection.body(&mut body)?;
        let wrong = body.iter().zip(part).position(|(byte, offset)| *byte != byte_at(offset));
        assert_eq!(wrong, None, "{}", asked.text);
        self.report.answered += 1;
        Ok(())
    }

    fn ask(&mut self, close: bool) -> Asked {
        let size = self.random.random_range(0.0..SIZE_MAX.ln()).exp() as u64;
        let to_head = self.random.random_bool(0.1);
        // Zeros make other names for the same size: the objects of all nodes.
        let zeros = "0".repeat(self.random.random_range(0..12));
        let method = if to_head { "HEAD" } else { "GET" };
        let mut text = format!("{method} /{zeros}{size} HTTP/1.1\r\nHost: lab\r\n");
        let range = (!to_head && self.random.random_bool(0.3)).then(|| {
            let first = self.random.random_range(0..size);
            first..self.random.random_range(first..size) + 1
        });
        if let Some(range) = &range {
            text += &format!("Range: bytes={}-{}\r\n", range.start, range.end - 1);
        }
        if close {
            text += "Connection: close\r\n";
        }
        text += "\r\n";
        Asked { to_head, size, range, text }
    }
}

/// How a burst ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The connection goes on.
    None,
    /// The client is gone in the middle of an answer.
    Abort,
    /// The client sends its last byte before the answers come.
    HalfClose,
    /// The client asks for the connection's end.
    Close,
}
