//! Requests by curl.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
    thread,
};

/// The longest that one request may take, for `--max-time`.
const TIME_MAX_S: &str = "60";

/// A request to be made.
pub(crate) struct Curl {
    command: Command,
    input: Option<Vec<u8>>,
    /// Whether the test gives a type.
    is_typed: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// The fields, in order, with names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Curl {
    /// A GET of `url`, which is taken as it is.
    pub(crate) fn new(url: &str) -> Self {
        let mut command = Command::new("curl");
        // Neither the user's settings nor a proxy, and no meaning in brackets and dots.
        command.args(["-q", "-sS", "-i", "--noproxy", "*", "--globoff", "--path-as-is"]);
        command.args(["--max-time", TIME_MAX_S, url]);
        Self { command, input: None, is_typed: false }
    }

    /// More arguments.
    pub(crate) fn with(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// A header field.
    pub(crate) fn header(mut self, field: &str) -> Self {
        self.is_typed |= field.starts_with("Content-Type");
        self.with(["-H", field])
    }

    /// PUTs `bytes` with a Content-Length.
    pub(crate) fn put(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self.with(["-X", "PUT", "--data-binary", "@-"])
    }

    /// Makes another request of it.
    pub(crate) fn method(self, method: &str) -> Self {
        self.with(["-X", method])
    }

    /// Makes a HEAD of it.
    pub(crate) fn head(self) -> Self {
        self.with(["--head"])
    }

    /// Runs it; it has to come to an answer.
    pub(crate) fn run(self) -> Reply {
        self.attempt().unwrap_or_else(|error| panic!("curl: {error}"))
    }

    /// Runs it; without an answer, what curl said.
    pub(crate) fn attempt(self) -> Result<Reply, String> {
        let output = self.output();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_string());
        }
        Ok(Reply::last_of(&output.stdout))
    }

    fn output(mut self) -> Output {
        if self.input.is_some() && !self.is_typed {
            // curl would call it a form.
            self.command.args(["-H", "Content-Type:"]);
        }
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let command = self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("curl runs");
        let feeder = self.input.take().zip(child.stdin.take()).map(|(bytes, mut stdin)| {
            // curl may end before it has read everything.
            thread::spawn(move || drop(stdin.write_all(&bytes)))
        });
        let output = child.wait_with_output().unwrap();
        feeder.map(thread::JoinHandle::join).transpose().unwrap();
        output
    }
}

impl Reply {
    /// A field's value; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Reads a head; none if it is not complete. Gives how many bytes it has, too.
    pub(super) fn head(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(bytes).expect("a well-formed head");
        let httparse::Status::Complete(length) = parsed else { return None };
        let field = |field: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(field.value).into_owned();
            (field.name.to_lowercase(), value)
        };
        let fields = head.headers.iter().map(field).collect();
        Some((Self { status: head.code?, fields, body: Vec::new() }, length))
    }

    /// The last of several answers, such as the one after `100 Continue`.
    fn last_of(mut bytes: &[u8]) -> Self {
        loop {
            let (mut reply, length) = Self::head(bytes).expect("a complete head");
            bytes = &bytes[length..];
            if reply.status >= 200 {
                reply.body = bytes.to_vec();
                return reply;
            }
        }
    }
}
