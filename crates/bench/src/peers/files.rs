//! nginx as a plain server of files over HTTPS: how fast a storage node could answer clients.

use super::{HttpsSpec, PeerError, nginx};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it is to do.
#[derive(Clone, Debug)]
pub struct FilesSpec {
    /// Where clients connect.
    pub https: HttpsSpec,
    /// The directory with the files.
    pub root: PathBuf,
    /// Single-threaded processes.
    pub threads: usize,
    /// The most client connections at one time.
    pub connections_max: usize,
}

impl FilesSpec {
    /// Writes the configuration into `directory` and returns the command that runs nginx in the
    /// foreground until SIGTERM.
    ///
    /// # Errors
    /// When it is not installed or a file cannot be written.
    pub fn prepare(&self, directory: &Path) -> Result<Command, PeerError> {
        fs::create_dir_all(directory)
            .map_err(|source| PeerError::Write { path: directory.to_owned(), source })?;
        nginx::prepare(&self.configuration(directory), directory)
    }

    fn configuration(&self, directory: &Path) -> String {
        let connections =
            self.connections_max + self.connections_max / 4 + nginx::SPARE_CONNECTIONS;
        let (listener, root) = (nginx::https_listener(&self.https), self.root.display());
        let http = format!(
            "  open_file_cache max=1024 inactive=1h;
  open_file_cache_valid 1h;
  output_buffers 2 128k;
  server {{
{listener}    root {root};
  }}
"
        );
        nginx::main_configuration(directory, self.threads, (connections, connections), &http)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_configuration_names_address_certificate_and_files() {
        let spec = FilesSpec {
            https: testing::https("10.0.0.21:9443", "/tmp/x"),
            root: "/tmp/x/files".into(),
            threads: 1,
            connections_max: 100,
        };
        let text = spec.configuration(Path::new("/tmp/x"));
        testing::assert_says(
            &text,
            &[
                "listen 10.0.0.21:9443 ssl backlog=4096;",
                "ssl_certificate /tmp/x/certificate.pem;",
                "root /tmp/x/files;",
                "worker_connections 189;",
            ],
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
