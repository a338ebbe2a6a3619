//! Uploads whose heads and bodies come in pieces, while their connections move.

use crate::laboratory::{is_possible, moved, output, spec};
use ashlar_lab::{CLIENT, FRONT_END, Lab};
use std::{fs, path::Path};

const OBJECTS: usize = 500;
const ROUNDS: usize = 4;

/// A piece of an upload may come to the old owner's kernel after the connection has moved, if its
/// processor does not run for a while; whoever has the connection then waited for it in vain.
#[test]
fn uploads_of_many_small_objects_all_arrive() {
    if !is_possible("uploads_of_many_small_objects_all_arrive") {
        return;
    }
    let spec = spec('r').storage_nodes(5).threshold_bytes(0);
    let lab = Lab::up(&spec).unwrap().down_on_drop();
    let directory = tempfile::tempdir().unwrap();
    let (tree, back) = (directory.path().join("tree"), directory.path().join("back"));
    fs::create_dir(&tree).unwrap();
    for number in 0..OBJECTS {
        let bytes: Vec<u8> =
            (0..number * 7919 % 40_000).map(|at| (at * 31 + number) as u8).collect();
        fs::write(tree.join(number.to_string()), bytes).unwrap();
    }
    for secure in [false, true] {
        let scheme = if secure { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", lab.address(FRONT_END).unwrap());
        let obj = |arguments: &[&str]| {
            let common = ["obj", "--endpoint", &endpoint, "--insecure"];
            let arguments = [&common[..], arguments].concat();
            let output = output(&lab, CLIENT, env!("CARGO_BIN_EXE_ashlar"), &arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let before = moved(&lab);
        for _ in 0..ROUNDS {
            obj(&["put", "--recursive", text(&tree), scheme]);
        }
        let moves = moved(&lab) - before;
        assert!(moves as usize > OBJECTS, "{moves} moves");
        let _ = fs::remove_dir_all(&back);
        obj(&["get", "--recursive", scheme, text(&back)]);
        for number in 0..OBJECTS {
            let name = number.to_string();
            assert!(fs::read(back.join(&name)).unwrap() == fs::read(tree.join(&name)).unwrap());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
