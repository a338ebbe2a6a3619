//! The processes of a group, ours or a peer's: started, killed, never left behind.

use crate::comparison::ComparisonError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a group may take to begin or to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a process may take to say what it counts.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The processes of a group's members, by their place.
pub(super) struct Processes {
    /// Where their logs lie.
    directory: PathBuf,
    children: Vec<Option<Child>>,
}

impl Processes {
    /// Nothing runs yet.
    pub(super) fn new(directory: &Path, members: usize) -> Self {
        Self { directory: directory.to_owned(), children: (0..members).map(|_| None).collect() }
    }

    /// Runs a member's process.
    pub(super) fn start(
        &mut self,
        place: usize,
        mut command: Command,
    ) -> Result<(), ComparisonError> {
        let path = self.log(place);
        let mut start = || {
            let log = File::options().create(true).append(true).open(&path)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            command.spawn()
        };
        let child = start().map_err(system("start a member".to_owned()))?;
        self.children[place] = Some(child);
        Ok(())
    }

    /// Ends a member's process at once.
    pub(super) fn kill(&mut self, place: usize) {
        let mut child = self.children[place].take().expect("who is killed runs");
        // Fails only if it has ended; then there is nothing to wait for either.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The processes' numbers.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.children.iter().flatten().map(Child::id).collect()
    }

    /// Waits until `look` finds something. Fails, with the end of a log, if a process ends before or nothing is found.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, ComparisonError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let mut running = self.children.iter_mut().enumerate();
            let ended = running.find_map(|(place, child)| {
                let status = child.as_mut()?.try_wait().ok()??;
                Some(format!("member {place} has ended ({status})"))
            });
            let late = || (Instant::now() >= deadline).then(|| "it takes too long".to_owned());
            if let Some(why) = ended.or_else(late) {
                let logs = (0..self.children.len()).map(|place| last_line(&self.log(place)));
                let logs: Vec<String> = logs.collect();
                let source = io::Error::other(format!("{why}: {}", logs.join(" | ")));
                return Err(system(what.to_owned())(source));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn log(&self, place: usize) -> PathBuf {
        self.directory.join(format!("member-{place}.log"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for place in 0..self.children.len() {
            if self.children[place].is_some() {
                self.kill(place);
            }
        }
    }
}

/// The machine's refusal of something.
pub(super) fn system(what: String) -> impl FnOnce(io::Error) -> ComparisonError {
    move |source| ComparisonError::System { what, source }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}

/// Addresses on this machine where nobody listens over UDP.
pub(super) fn free_udp(count: usize) -> io::Result<Vec<SocketAddr>> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let sockets: Vec<UdpSocket> = (0..count).map(bind).collect::<io::Result<_>>()?;
    sockets.iter().map(UdpSocket::local_addr).collect()
}

/// Addresses on this machine where nobody listens over TCP.
pub(super) fn free_tcp(count: usize) -> io::Result<Vec<SocketAddr>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect::<io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// The first value of a metric that begins with `name`, of a process that tells Prometheus.
pub(super) fn metric(address: SocketAddr, name: &str) -> io::Result<f64> {
    let answer = ask(address)?;
    let found = values(&answer, name).next();
    found.ok_or_else(|| io::Error::other(format!("{address} tells no {name}")))
}

/// All of its values.
pub(super) fn metrics(address: SocketAddr, name: &str) -> io::Result<Vec<f64>> {
    Ok(values(&ask(address)?, name).collect())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn values<'a>(text: &'a str, name: &str) -> impl Iterator<Item = f64> + use<'a> {
    let name = name.to_owned();
    let lines = text.lines().filter(move |line| line.starts_with(&name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_with_and_without_labels() {
        let text = "# HELP leads x\nashlar_leads{group=\"1\"} 1\netcd_leader 0\n";
        assert_eq!(values(text, "ashlar_leads").next(), Some(1.0));
        assert_eq!(values(text, "etcd_leader").next(), Some(0.0));
        assert_eq!(values(text, "other").next(), None);
    }

    #[test]
    fn a_process_that_ends_early_is_told_with_the_end_of_its_log() {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let mut processes = Processes::new(directory.path(), 1);
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo the reason; exit 3"]);
        processes.start(0, command).unwrap_or_else(|error| panic!("{error}"));
        let Err(error) = processes.wait_for("begin", || None::<()>) else {
            panic!("nothing was to be found")
        };
        let text = error.to_string();
        assert!(text.contains("begin") && text.contains("the reason"), "{text}");
    }
}
