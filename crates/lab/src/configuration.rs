//! The configuration file of each node. Pure.

use crate::spec::{Engine, FrontEnd, LabSpec, Mode};
use crate::topology::{CLIENT, Host, Role};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// The port on which clients speak HTTP to the front end.
pub const HTTP_PORT: u16 = 80;
/// The port on which clients speak HTTPS to the front end.
pub const HTTPS_PORT: u16 = 443;
/// The port on which a storage node serves objects over HTTP.
pub const STORAGE_HTTP_PORT: u16 = 9000;
/// The port on which storage nodes speak to each other.
pub const STORAGE_PEER_PORT: u16 = 9001;
/// The port on which a storage node takes clients' connections over from other nodes.
pub const STORAGE_HANDOFF_PORT: u16 = 9002;
/// The port on which a switch takes control frames, if it steers.
pub(crate) const SWITCH_CONTROL_PORT: u16 = 7471;
/// The port of health, readiness and metrics of every node.
pub const ADMIN_PORT: u16 = 9900;

/// The file as the node reads it.
#[derive(Serialize)]
struct File<'a> {
    cluster: Cluster<'a>,
    node: Node<'a>,
    admin: Admin,
    log: Log,
    #[serde(skip_serializing_if = "Option::is_none")]
    front_end: Option<FrontEndSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<Storage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    switch: Option<Switch>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    id: String,
    replicas: u8,
    key_file: &'a Path,
    storage: Vec<StorageEntry<'a>>,
}

#[derive(Serialize)]
struct StorageEntry<'a> {
    name: &'a str,
    http: SocketAddrV4,
    peer: SocketAddrV4,
    handoff: SocketAddrV4,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    data: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<u16>,
}

#[derive(Serialize)]
struct Admin {
    listen: SocketAddrV4,
}

#[derive(Serialize)]
struct Log {
    format: &'static str,
    level: &'static str,
}

#[derive(Serialize)]
struct FrontEndSection {
    http: SocketAddrV4,
    #[serde(skip_serializing_if = "Option::is_none")]
    https: Option<SocketAddrV4>,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steering: Option<Steering>,
}

#[derive(Serialize)]
struct Steering {
    switch: SocketAddrV4,
}

#[derive(Serialize)]
struct Storage {
    engine: Engine,
}

#[derive(Serialize)]
struct Switch {
    interfaces: Vec<&'static str>,
    control: SocketAddrV4,
}

/// Whether the lab runs a process of `ashlar` on this host.
pub(crate) fn runs_node(spec: &LabSpec, host: &Host) -> bool {
    match host.role {
        Role::Storage => true,
        Role::FrontEnd => spec.front_end == FrontEnd::Ashlar,
        Role::Client => false,
        Role::Switch => spec.switch,
    }
}

/// The configuration of the node on `host` in TOML, or `None` where no node runs.
pub(crate) fn render(
    spec: &LabSpec,
    hosts: &[Host],
    host: &Host,
    data: &Path,
    key_file: &Path,
) -> Option<String> {
    let address = host.address.filter(|_| runs_node(spec, host))?;
    let file = File {
        cluster: Cluster {
            id: format!("lab-{}", spec.name),
            replicas: spec.chain_length(),
            key_file,
            storage: hosts.iter().filter_map(storage_entry).collect(),
        },
        node: Node { name: &host.name, data, threads: spec.threads },
        admin: Admin { listen: SocketAddrV4::new(address, ADMIN_PORT) },
        log: Log { format: "human", level: "info" },
        front_end: (host.role == Role::FrontEnd).then(|| front_end(spec, hosts, address)),
        storage: (host.role == Role::Storage).then_some(Storage { engine: spec.engine }),
        switch: (host.role == Role::Switch).then(|| Switch {
            // The port is called like the host at its other end.
            interfaces: vec![CLIENT],
            control: SocketAddrV4::new(address, SWITCH_CONTROL_PORT),
        }),
    };
    // Plain strings, numbers and tables always have a TOML form.
    Some(toml::to_string(&file).expect("the configuration has a TOML form"))
}

fn storage_entry(host: &Host) -> Option<StorageEntry<'_>> {
    let address = host.address.filter(|_| host.role == Role::Storage)?;
    Some(StorageEntry {
        name: &host.name,
        http: SocketAddrV4::new(address, STORAGE_HTTP_PORT),
        peer: SocketAddrV4::new(address, STORAGE_PEER_PORT),
        handoff: SocketAddrV4::new(address, STORAGE_HANDOFF_PORT),
    })
}

fn front_end(spec: &LabSpec, hosts: &[Host], address: Ipv4Addr) -> FrontEndSection {
    let switch = hosts.iter().find(|host| host.role == Role::Switch).and_then(|host| host.address);
    FrontEndSection {
        http: SocketAddrV4::new(address, HTTP_PORT),
        https: spec.https.then(|| SocketAddrV4::new(address, HTTPS_PORT)),
        mode: spec.mode,
        threshold_bytes: spec.threshold_bytes,
        steering: switch
            .map(|address| Steering { switch: SocketAddrV4::new(address, SWITCH_CONTROL_PORT) }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::topology;

    fn rendered(spec: &LabSpec, name: &str) -> Option<toml::Table> {
        let hosts = topology::hosts(spec);
        let host = hosts.iter().find(|host| host.name == name).unwrap();
        let data = Path::new("/data dir/\"quoted\"");
        let text = render(spec, &hosts, host, data, Path::new("/cluster.key"))?;
        Some(text.parse().unwrap())
    }

    fn spec() -> LabSpec {
        LabSpec::new("demo".parse().unwrap())
    }

    #[test]
    fn every_node_gets_the_same_cluster_section() {
        let spec = spec().storage_nodes(3).replicas(2);
        let front_end = rendered(&spec, "fe").unwrap();
        assert_eq!(front_end["cluster"], rendered(&spec, "s3").unwrap()["cluster"]);
        let cluster = front_end["cluster"].as_table().unwrap();
        assert_eq!(cluster["id"].as_str(), Some("lab-demo"));
        assert_eq!(cluster["replicas"].as_integer(), Some(2));
        let storage = cluster["storage"].as_array().unwrap();
        assert_eq!(storage.len(), 3);
        assert_eq!(storage[1]["name"].as_str(), Some("s2"));
        assert_eq!(storage[1]["http"].as_str(), Some("10.77.0.22:9000"));
        assert_eq!(storage[1]["peer"].as_str(), Some("10.77.0.22:9001"));
    }

    #[test]
    fn the_front_end_listens_where_it_was_told_to() {
        let plain = rendered(&spec(), "fe").unwrap();
        assert_eq!(plain["front_end"]["http"].as_str(), Some("10.77.0.10:80"));
        assert!(plain["front_end"].get("https").is_none());
        assert!(plain.get("storage").is_none());
        assert!(plain["node"].get("threads").is_none());
        assert_eq!(plain["node"]["data"].as_str(), Some("/data dir/\"quoted\""));

        let secure = rendered(&spec().https(true).threads(2), "fe").unwrap();
        assert_eq!(secure["front_end"]["https"].as_str(), Some("10.77.0.10:443"));
        assert_eq!(secure["node"]["threads"].as_integer(), Some(2));
    }

    #[test]
    fn a_storage_node_names_its_engine() {
        let storage = rendered(&spec().engine(Engine::Synthetic), "s1").unwrap();
        assert_eq!(storage["storage"]["engine"].as_str(), Some("synthetic"));
        assert_eq!(storage["admin"]["listen"].as_str(), Some("10.77.0.21:9900"));
        assert!(storage.get("front_end").is_none());
    }

    #[test]
    fn a_switch_that_steers_is_the_one_that_the_front_end_asks() {
        let spec = spec().switch(true);
        let switch = rendered(&spec, "switch").unwrap();
        assert_eq!(switch["switch"]["interfaces"][0].as_str(), Some("client"));
        let front_end = rendered(&spec, "fe").unwrap();
        let asked = front_end["front_end"]["steering"]["switch"].as_str();
        assert_eq!(asked, Some("10.77.0.3:7471"));
        assert_eq!(asked, switch["switch"]["control"].as_str());
        assert_eq!(switch["cluster"], front_end["cluster"]);
        assert_eq!(switch["admin"]["listen"].as_str(), Some("10.77.0.3:9900"));
    }

    #[test]
    fn hosts_without_a_node_get_no_configuration() {
        assert!(rendered(&spec(), "client").is_none());
        assert!(rendered(&spec(), "switch").is_none());
        assert!(rendered(&spec().front_end(FrontEnd::None), "fe").is_none());
        assert!(rendered(&spec().front_end(FrontEnd::None), "s1").is_some());
    }
}
