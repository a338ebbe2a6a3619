//! The machine that a figure was made on. Never its name, nor anybody's.

use serde::{Deserialize, Serialize};
use std::fs;

/// What a reader needs to judge a figure.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// The processor's model.
    pub cpu_model: String,
    /// Physical memory in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Looks at this machine. What it does not tell is `unknown` or 0.
    pub fn here() -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        }
    }

    /// What a page says of it first. `command` is the command line.
    pub fn sentence(&self, command: &str) -> String {
        format!(
            "Made by `{command}` on {} cores of {}, {:.0} GB of memory, kernel {}. Absolute figures \
             hold for this machine at that time. Both sides of a ratio were measured in turn, in the \
             same minutes, on the same machine: quote ratios.",
            self.cores,
            self.cpu_model,
            self.memory_bytes as f64 / 1e9,
            self.kernel
        )
    }
}

/// The model in the text of `/proc/cpuinfo`.
fn cpu_model(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned())
}

/// The total in the text of `/proc/meminfo`.
fn memory_bytes(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .map_or(0, |kibibytes: u64| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Example CPU @ 2.0GHz\n\nprocessor\t: 1\n";
        assert_eq!(cpu_model(cpuinfo), "Example CPU @ 2.0GHz");
        assert_eq!(cpu_model(""), "unknown");
        assert_eq!(memory_bytes("MemTotal:       16 kB\nMemFree: 1 kB\n"), 16 * 1024);
        assert_eq!(memory_bytes("MemTotal: lots\n"), 0);
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let machine = Machine::here();
        assert!(!machine.kernel.is_empty());
        assert!(machine.cores >= 1);
    }
}
