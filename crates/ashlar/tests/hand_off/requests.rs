//! Random requests.

use crate::{
    model::{Asked, Bytes, Content, Framing, Method, Slot, mix},
    user::Work,
};
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// The largest object.
pub(crate) const SIZE_MAX: u64 = 4 << 20;
/// The largest synthetic object: some hundred segments.
const SYNTHETIC_SIZE_MAX: f64 = 400_000.0;
/// The objects of a client.
pub(crate) const SLOTS: usize = 12;

/// Makes a client's requests, the same for the same seed.
pub(crate) struct Requests {
    pub(crate) random: Pcg64Mcg,
    client: u64,
    work: Work,
    /// The content written last.
    content: u64,
}

impl Requests {
    pub(crate) fn new(random: Pcg64Mcg, client: u64, work: Work) -> Self {
        Self { random, client, work, content: 0 }
    }

    /// The next request. The last of a burst may be one that ends the connection.
    pub(crate) fn next(&mut self, slots: &mut [Slot; SLOTS], is_last: bool, closes: bool) -> Asked {
        match self.work {
            Work::Objects => self.any(slots, is_last, closes),
            Work::Synthetic => self.read(slots, closes),
        }
    }

    /// Reads a synthetic object. It takes the place of the one that was read longest ago, so that those of one burst are all known.
    fn read(&mut self, slots: &mut [Slot; SLOTS], closes: bool) -> Asked {
        let slot = self.content as usize % SLOTS;
        self.content += 1;
        let size = self.random.random_range(0.0..SYNTHETIC_SIZE_MAX.ln()).exp() as u64;
        slots[slot].object = Some(Content { bytes: Bytes::Synthetic, size });
        let method = if self.random.random_bool(0.1) { Method::Head } else { Method::Get };
        let range = (method == Method::Get && self.random.random_bool(0.3)).then(|| {
            let first = self.random.random_range(0..size);
            format!("bytes={first}-{}", self.random.random_range(first..size))
        });
        let name = if method == Method::Head { "HEAD" } else { "GET" };
        // Zeros make other names for the same size: the objects of all nodes.
        let zeros = "0".repeat(self.random.random_range(0..12));
        let mut head = format!("{name} /{zeros}{size} HTTP/1.1\r\nHost: lab\r\n");
        if let Some(range) = &range {
            head += &format!("Range: {range}\r\n");
        }
        if closes {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let (generation, framing) = (slots[slot].generation, Framing::Length);
        Asked { method, slot, generation, only_if_absent: false, range, head, framing }
    }

    /// Asks for anything that can be asked of objects.
    fn any(&mut self, slots: &[Slot; SLOTS], is_last: bool, closes: bool) -> Asked {
        let slot = self.random.random_range(0..SLOTS);
        let only_if_absent = self.random.random_bool(0.04);
        let mut method = self.method(is_last && !closes);
        // Most of the time there is something to read.
        if method == Method::Get && slots[slot].object.is_none() && self.random.random_bool(0.7) {
            method = self.put();
        }
        let takes_range = method == Method::Get || method == Method::Head;
        let range = (takes_range && self.random.random_bool(0.3)).then(|| self.range());
        let framing = match self.random.random_range(0..100) {
            0..30 => Framing::Chunked,
            // Nothing may be sent behind a head whose body is not asked for yet.
            30..40 if is_last => Framing::Expect,
            _ => Framing::Length,
        };
        let name = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put(_) => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Unknown | Method::Malformed => "BREW",
        };
        let generation = slots[slot].generation;
        let mut head = format!("{name} /c{}/{slot}/{generation} HTTP/1.1\r\n", self.client);
        match method {
            Method::Malformed => head += self.flaw(),
            _ => head += "Host: lab\r\n",
        }
        if only_if_absent && !matches!(method, Method::Delete | Method::Unknown) {
            head += "If-None-Match: *\r\n";
        }
        if let Some(range) = &range {
            head += &format!("Range: {range}\r\n");
        }
        if let Method::Put(content) = method {
            head += "Content-Type: application/x-ashlar-test\r\nx-amz-meta-test: a b\r\n";
            head += &match framing {
                Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
                Framing::Length => format!("Content-Length: {}\r\n", content.size),
                Framing::Expect => {
                    format!("Content-Length: {}\r\nExpect: 100-continue\r\n", content.size)
                }
            };
        }
        if closes {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let only_if_absent = only_if_absent && method != Method::Delete;
        let generation = slots[slot].generation;
        Asked { method, slot, generation, only_if_absent, range, head, framing }
    }

    fn method(&mut self, may_be_malformed: bool) -> Method {
        match self.random.random_range(0..1_000) {
            0..680 => Method::Get,
            680..740 => Method::Head,
            740..930 => self.put(),
            930..960 => Method::Delete,
            960..980 => Method::Options,
            980..990 => Method::Unknown,
            _ if may_be_malformed => Method::Malformed,
            _ => Method::Get,
        }
    }

    fn put(&mut self) -> Method {
        self.content += 1;
        let number = mix(mix(self.client) ^ self.content);
        Method::Put(Content { bytes: Bytes::Numbered(number), size: self.size() })
    }

    /// Mostly small, up to [`SIZE_MAX`].
    fn size(&mut self) -> u64 {
        match self.random.random_range(0..100) {
            0..4 => 0,
            4..6 => SIZE_MAX,
            _ => {
                // Evenly in the logarithm, and small ones twice as likely.
                let share: f64 = self.random.random_range(0.0..1.0);
                let share = share.powf(1.5) * (SIZE_MAX as f64).ln();
                share.exp() as u64
            }
        }
    }

    fn range(&mut self) -> String {
        let near = self.size();
        let far = near + self.size();
        match self.random.random_range(0..100) {
            0..40 => format!("bytes={near}-{far}"),
            40..60 => format!("bytes={near}-"),
            60..80 => format!("bytes=-{near}"),
            80..85 => format!("bytes={near}-{far},{far}-"),
            85..90 => format!("bytes={}-{near}", near + 1),
            90..93 => "bytes=-0".to_owned(),
            93..96 => format!("lines={near}-{far}"),
            _ => "bytes=a-b".to_owned(),
        }
    }

    /// What is in the place of the `Host` field, which makes a head malformed.
    fn flaw(&mut self) -> &'static str {
        match self.random.random_range(0..3) {
            0 => "",
            1 => "Host: lab\r\nHost: lab\r\n",
            _ => "Host: lab\r\nbroken line\r\n",
        }
    }
}
