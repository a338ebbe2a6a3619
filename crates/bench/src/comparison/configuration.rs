//! The lab's configuration files: which node holds which name, and how the front end hands off.

use super::ComparisonError;
use crate::units::ByteSize;
use ashlar_lab::Mode;
use ashlar_object::map::Member;
use ashlar_object::{ClusterMap, Key};
use serde::Deserialize;
use toml::{Table, Value};

/// Partitions of a cluster whose configuration names no number.
const PARTITIONS_DEFAULT: usize = 64;
/// Weight of a storage node whose configuration names none.
const WEIGHT_DEFAULT: u32 = 1;
/// The most zeros before a size: the name must remain a key.
const ZEROS_MAX: usize = 1000;

#[derive(Deserialize)]
struct File {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    id: String,
    replicas: usize,
    partitions: Option<usize>,
    storage: Vec<Storage>,
}

#[derive(Deserialize)]
struct Storage {
    name: String,
    weight: Option<u32>,
}

/// Synthetic objects whose names spread them over the storage nodes.
#[derive(Debug)]
pub(crate) struct Spread(ClusterMap);

impl Spread {
    /// Reads the cluster from the configuration of one of its nodes.
    pub(crate) fn of(configuration: &str) -> Result<Self, ComparisonError> {
        let File { cluster } = toml::from_str(configuration).map_err(|error| unreadable(&error))?;
        let members = cluster.storage.into_iter().map(|storage| Member {
            name: storage.name,
            weight: storage.weight.unwrap_or(WEIGHT_DEFAULT),
        });
        let partitions = cluster.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let map = ClusterMap::new(&cluster.id, members.collect(), cluster.replicas, partitions);
        Ok(Self(map.map_err(|error| unreadable(&error))?))
    }

    /// One name for each storage node, in their order, of an object of `size` that this node is the
    /// first to hold: the size with as few leading zeros as it takes.
    pub(crate) fn names(&self, size: ByteSize) -> Result<Vec<String>, ComparisonError> {
        let mut names: Vec<Option<String>> = self.0.nodes().map(|_| None).collect();
        for zeros in 0..=ZEROS_MAX {
            let name = format!("{}{}", "0".repeat(zeros), size.bytes());
            let key = Key::new(&name).map_err(|error| unreadable(&error))?;
            let owner = self.0.chain(self.0.partition_of(&key))[0];
            names[usize::from(owner.0)].get_or_insert(name);
            if names.iter().all(Option::is_some) {
                break;
            }
        }
        names.into_iter().collect::<Option<_>>().ok_or_else(|| ComparisonError::Spec {
            field: "storage-nodes",
            reason: "some of them hold no partition; take fewer".to_owned(),
        })
    }
}

/// The front end's configuration with another way of handing off.
pub(crate) fn with_hand_off(
    configuration: &str,
    mode: Mode,
    threshold_bytes: Option<u64>,
) -> Result<String, ComparisonError> {
    let mut file: Table = configuration.parse().map_err(|error| unreadable(&error))?;
    let Some(front_end) = file.get_mut("front_end").and_then(Value::as_table_mut) else {
        return Err(unreadable(&"there is no front end in it"));
    };
    let mode = Value::try_from(mode).map_err(|error| unreadable(&error))?;
    front_end.insert("mode".to_owned(), mode);
    front_end.remove("threshold_bytes");
    if let Some(bytes) = threshold_bytes {
        let bytes = i64::try_from(bytes).map_err(|error| unreadable(&error))?;
        front_end.insert("threshold_bytes".to_owned(), Value::Integer(bytes));
    }
    Ok(file.to_string())
}

fn unreadable(reason: &dyn std::fmt::Display) -> ComparisonError {
    ComparisonError::Configuration(reason.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use ashlar_object::{NodeIndex, synthetic};

    /// A front end's file before five storage nodes.
    fn configuration() -> String {
        let mut text = "[cluster]\nid = \"lab-x\"\nreplicas = 1\n".to_owned();
        for node in 1..=5 {
            text +=
                &format!("[[cluster.storage]]\nname = \"s{node}\"\nhttp = \"10.0.0.{node}:9\"\n");
        }
        text + "[front_end]\nhttp = \"10.0.0.10:80\"\nmode = \"relay\"\nthreshold_bytes = 7\n"
    }

    #[test]
    fn every_storage_node_gets_a_name_of_the_same_size() {
        let spread = Spread::of(&configuration()).unwrap();
        for size in [64, 1 << 20] {
            let names = spread.names(ByteSize(size)).unwrap();
            assert_eq!(names.len(), 5);
            for (node, name) in names.iter().enumerate() {
                let key = Key::new(name).unwrap();
                assert_eq!(synthetic::size_of(&key), Some(size));
                let chain = spread.0.chain(spread.0.partition_of(&key));
                assert_eq!(chain, [NodeIndex(node as u16)]);
            }
        }
    }

    #[test]
    fn a_node_without_a_partition_cannot_be_asked() {
        let few = configuration().replace("replicas = 1", "replicas = 1\npartitions = 2");
        let error = Spread::of(&few).unwrap().names(ByteSize(1)).unwrap_err();
        assert!(error.to_string().starts_with("storage-nodes: "));
    }

    #[test]
    fn another_mode_leaves_the_rest_as_it_was() {
        let before: Table = configuration().parse().unwrap();
        let text = with_hand_off(&configuration(), Mode::Handoff, Some(0)).unwrap();
        let mut after: Table = text.parse().unwrap();
        assert_eq!(after["front_end"]["mode"].as_str(), Some("handoff"));
        assert_eq!(after["front_end"]["threshold_bytes"].as_integer(), Some(0));
        let text = with_hand_off(&text, Mode::Auto, None).unwrap();
        assert!(!text.contains("threshold_bytes") && text.contains("mode = \"auto\""));
        after.insert("front_end".to_owned(), before["front_end"].clone());
        assert_eq!(after, before);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(Spread::of("x").is_err());
        assert!(with_hand_off("[cluster]", Mode::Auto, None).is_err());
    }
}
