//! Full disks: objects are refused before they can block what makes room.

use super::*;
use ashlar_object::Key;

/// Nothing is under way when the disk fills.
const RESERVE: usize = 3;

#[test]
fn a_full_disk_anywhere_in_the_chain_refuses_objects_and_takes_deletions() {
    for full in 0..3 {
        let cluster = Cluster::start(3, 0);
        cluster.wait_until_complete();
        let keys = cluster.keys_of(&[0, 1, 2], 2);
        // Other chains have the full disk at other places.
        let others = [cluster.keys_of(&[1], 1), cluster.keys_of(&[2], 1)].concat();
        let put = |head: usize, key: &str, body: &[u8]| {
            cluster.request(head, &format!("PUT /{key}"), body).0
        };
        assert_eq!(put(0, &keys[0], b"small"), 201);
        cluster.nodes[full].disk.set_reserve(Some(RESERVE));
        let map = cluster.identity(0).cluster.map;
        let hears = |head: usize, key: &String| {
            let partition = map.partition_of(&Key::new(key).unwrap());
            !cluster.nodes[head].service.shared.views.has_space(partition)
        };
        wait_for("the heads to hear of it", || {
            keys.iter().all(|key| hears(0, key)) && hears(1, &others[0]) && hears(2, &others[1])
        });
        // Far more than the reserve takes.
        let mut answers = Vec::new();
        for number in 0..4 * RESERVE {
            answers.push(put(0, &keys[number % 2], b"small"));
            answers.push(put(0, &keys[number % 2], &[7; 100_000]));
            answers.push(put(1, &others[0], b"small"));
            answers.push(put(2, &others[1], b"small"));
        }
        assert!(answers.iter().all(|status| *status == 507), "{answers:?}");
        assert_eq!(cluster.request(0, &format!("DELETE /{}", keys[0]), b"").0, 204);
        assert_eq!(cluster.request(0, &format!("GET /{}", keys[0]), b"").0, 404);
        cluster.nodes[full].disk.set_reserve(None);
        wait_for("objects to be taken again", || put(0, &keys[0], b"small") == 201);
    }
}
