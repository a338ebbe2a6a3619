//! A whole store in one process: `ashlar up`.

use super::{Curl, Process, Wire, ashlar, eventually};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A store; dropping it kills it and removes its data.
pub(crate) struct Store {
    /// The process, killed before the directory goes.
    pub(crate) process: Process,
    /// Where it serves HTTP: `http://…`.
    pub(crate) http: String,
    /// Where it serves HTTPS, if it does.
    pub(crate) https: Option<String>,
    /// Where it tells how it is.
    pub(crate) admin: String,
    directory: TempDir,
    options: Vec<String>,
}

impl Store {
    /// A store with three replicas, ready to serve.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// A store with more options of `ashlar up`.
    pub(crate) fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| option.to_string()).collect();
        Self::run(tempfile::tempdir().unwrap(), options)
    }

    fn run(directory: TempDir, options: Vec<String>) -> Self {
        let data = directory.path().join("data");
        let mut command =
            ashlar(&["up", "--json", "--http", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
        command.args(&options);
        let mut process = Process::start(&mut command, &directory.path().join("log"));
        let line = process.line();
        let endpoints: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let url = |name: &str| endpoints[name].as_str().map(str::to_string);
        let store = Self {
            http: url("http").expect("an http endpoint"),
            https: url("https"),
            admin: url("admin").expect("an admin endpoint"),
            process,
            directory,
            options,
        };
        store.is_ready();
        store
    }

    /// Waits until it is ready.
    fn is_ready(&self) {
        eventually("the store is ready", || {
            let reply = Curl::new(&format!("{}/readyz", self.admin)).run();
            (reply.status == 200).then_some(())
        });
    }

    /// Kills it with `kill -9` and starts it again on the same data.
    pub(crate) fn crash_and_restart(self) -> Self {
        let mut store = self;
        store.process.kill();
        store.restart()
    }

    /// Starts it again on the same data; it has ended.
    pub(crate) fn restart(self) -> Self {
        let Self { mut process, directory, options, .. } = self;
        assert!(!process.is_running());
        Self::run(directory, options)
    }

    /// A request of curl for a path, which begins with a slash.
    pub(crate) fn curl(&self, path: &str) -> Curl {
        Curl::new(&format!("{}{path}", self.http))
    }

    /// A connection of our own.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address())
    }

    /// Where it serves HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory for the files of the test.
    pub(crate) fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// Writes a file of the test.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.scratch().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
