//! Metrics of the lab's nodes, read from inside of its network.

use super::ComparisonError;
use super::moves::MoveCounts;
use ashlar_lab::{ADMIN_PORT, CLIENT, FRONT_END, Host, Lab, Role};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// Where ip(8) keeps the names of network namespaces.
const NAMESPACES: &str = "/run/netns";
/// How long a busy node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What the front end and all storage nodes have counted of moves so far.
pub(crate) fn move_counts(lab: &Lab) -> Result<MoveCounts, ComparisonError> {
    let nodes = lab.hosts().filter(|host| host.name == FRONT_END || host.role == Role::Storage);
    let nodes: Vec<&Host> = nodes.collect();
    let namespace = lab.hosts().find(|host| host.name == CLIENT).map(|host| &host.namespace);
    let namespace = Path::new(NAMESPACES).join(namespace.expect("a lab has a client"));
    // All at once, so that they speak of the same moment.
    let texts: Vec<io::Result<String>> = std::thread::scope(|scope| {
        let readers = nodes.iter().map(|host| {
            let (namespace, address) = (&namespace, host.address);
            scope.spawn(move || metrics_from(namespace, address.expect("a node has an address")))
        });
        let readers: Vec<_> = readers.collect();
        let joined = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect()
    });
    let mut counts = MoveCounts::default();
    for (host, text) in nodes.iter().zip(texts) {
        let text = text.map_err(|source| ComparisonError::System {
            what: format!("read the metrics of {}", host.name),
            source,
        })?;
        counts.add(&MoveCounts::parse(&text));
    }
    Ok(counts)
}

/// Moves this thread into a namespace, for good, and asks a node there for its metrics.
fn metrics_from(namespace: &Path, node: Ipv4Addr) -> io::Result<String> {
    let namespace = File::open(namespace)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let address = SocketAddr::from((node, ADMIN_PORT));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        let status = answer.lines().next().unwrap_or("nothing");
        return Err(io::Error::other(format!("it answered {status}")));
    }
    Ok(answer)
}
