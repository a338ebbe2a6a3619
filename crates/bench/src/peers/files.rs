//! nginx as a plain server of files over HTTPS: how fast a storage node could answer clients.

use super::{HttpsSpec, Peer, PeerError, write_private};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Descriptors beside those of connections: listeners, logs, epoll.
const SPARE_CONNECTIONS: usize = 64;

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
        let mut command = Command::new(Peer::Nginx.program()?);
        fs::create_dir_all(directory)
            .map_err(|source| PeerError::Write { path: directory.to_owned(), source })?;
        let configuration = directory.join("nginx.conf");
        write_private(&configuration, &self.configuration(directory))?;
        command.arg("-p").arg(directory).arg("-c").arg(&configuration);
        command.arg("-e").arg(directory.join("error.log"));
        Ok(command)
    }

    fn configuration(&self, directory: &Path) -> String {
        let directory = directory.display();
        let threads = self.threads;
        let connections = self.connections_max + self.connections_max / 4 + SPARE_CONNECTIONS;
        let (address, root) = (self.https.address, self.root.display());
        let certificate = self.https.certificate.display();
        let private_key = self.https.private_key.display();
        format!(
            "user root;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
worker_processes {threads};
worker_rlimit_nofile {connections};
events {{
  worker_connections {connections};
}}
http {{
  access_log off;
  server_tokens off;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  open_file_cache max=1024 inactive=1h;
  open_file_cache_valid 1h;
  output_buffers 2 128k;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {address} ssl backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {private_key};
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_session_cache off;
    root {root};
  }}
}}
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_address_certificate_and_files() {
        let spec = FilesSpec {
            https: HttpsSpec {
                address: "10.0.0.21:9443".parse().expect("it is an address"),
                certificate: "/tmp/x/certificate.pem".into(),
                private_key: "/tmp/x/key.pem".into(),
            },
            root: "/tmp/x/files".into(),
            threads: 1,
            connections_max: 100,
        };
        let text = spec.configuration(Path::new("/tmp/x"));
        for line in [
            "listen 10.0.0.21:9443 ssl backlog=4096;",
            "ssl_certificate /tmp/x/certificate.pem;",
            "root /tmp/x/files;",
            "worker_connections 189;",
        ] {
            assert!(text.contains(line), "{line} is missing");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
