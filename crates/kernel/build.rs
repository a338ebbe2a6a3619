//! Embeds the compiled kernel programs, if they have been built.
//!
//! `ASHLAR_KERNEL_PROGRAMS` names another object; an empty value leaves the programs out on purpose.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

const VARIABLE: &str = "ASHLAR_KERNEL_PROGRAMS";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let bytes = match env::var_os(VARIABLE) {
        Some(path) if path.is_empty() => Vec::new(),
        Some(path) => read_required(Path::new(&path)),
        None => read_if_built(),
    };
    let embedded =
        PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("ashlar.bpf.o");
    fs::write(embedded, bytes).expect("OUT_DIR is writable");
}

fn read_required(path: &Path) -> Vec<u8> {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read(path).unwrap_or_else(|error| {
        println!("cargo::error={VARIABLE}: {}: {error}", path.display());
        process::exit(1)
    })
}

/// Empty if scripts/build-kernel-programs.sh did not run, or could not build.
fn read_if_built() -> Vec<u8> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let directory = manifest.join("../../target/kernel-programs");
    let object = directory.join("ashlar.bpf.o");
    if let Ok(bytes) = fs::read(&object) {
        println!("cargo::rerun-if-changed={}", object.display());
        return bytes;
    }
    // Cargo takes a missing file for a changed one and would rebuild for ever: watch the directory, where the object will appear.
    let _ = fs::create_dir_all(&directory);
    println!("cargo::rerun-if-changed={}", directory.display());
    println!(
        "cargo::warning=kernel programs are left out of this build: scripts/build-kernel-programs.sh makes them"
    );
    Vec::new()
}
