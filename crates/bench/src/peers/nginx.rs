//! nginx's configuration, and how it is run.

use super::{HttpsSpec, Peer, PeerError, ProxySpec, write_private};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Descriptors beside those of connections: listeners, logs, epoll.
pub(super) const SPARE_CONNECTIONS: usize = 64;

/// Writes its configuration into `directory` and returns the command that runs it in the foreground
/// until SIGTERM.
pub(super) fn prepare(text: &str, directory: &Path) -> Result<Command, PeerError> {
    let mut command = Command::new(Peer::Nginx.program()?);
    let configuration = directory.join("nginx.conf");
    write_private(&configuration, text)?;
    command.arg("-p").arg(directory).arg("-c").arg(&configuration);
    command.arg("-e").arg(directory.join("error.log"));
    Ok(command)
}

/// What every configuration says, with every path under `directory`; `http` is what else one says about HTTP.
pub(super) fn main_configuration(
    directory: &Path,
    threads: usize,
    (connections, files): (usize, usize),
    http: &str,
) -> String {
    let directory = directory.display();
    format!(
        "user root;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
worker_processes {threads};
worker_rlimit_nofile {files};
events {{
  worker_connections {connections};
}}
http {{
  access_log off;
  server_tokens off;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{http}}}
"
    )
}

/// The configuration file for `spec`, with every path under `directory`.
pub(super) fn configuration(spec: &ProxySpec, directory: &Path) -> String {
    // A client connection may hold one to an upstream, and when fewer than a sixteenth are free
    // nginx closes idle ones. Not more: it allocates all at the start, which would count against
    // its memory.
    let connections = 2 * spec.connections_max + spec.connections_max / 4 + SPARE_CONNECTIONS;
    let files = 2 * connections;
    let idle_upstreams = spec.connections_max;
    let mut servers = String::new();
    for upstream in &spec.upstreams {
        let _ = writeln!(servers, "    server {upstream} max_fails=0;");
    }
    let listeners = listeners(spec);
    let http = format!(
        "  client_max_body_size 0;
  upstream storage {{
{servers}    keepalive {idle_upstreams};
    keepalive_requests 1000000000;
    keepalive_timeout 75s;
  }}
  server {{
{listeners}    location / {{
      proxy_pass http://storage;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_request_buffering off;
      proxy_buffer_size 16k;
      proxy_buffers 8 32k;
      proxy_busy_buffers_size 64k;
      proxy_max_temp_file_size 0;
    }}
  }}
"
    );
    main_configuration(directory, spec.threads, (connections, files), &http)
}

fn listeners(spec: &ProxySpec) -> String {
    let mut text = format!("    listen {} backlog=4096;\n", spec.http);
    if let Some(https) = &spec.https {
        text += &https_listener(https);
    }
    text
}

pub(super) fn https_listener(https: &HttpsSpec) -> String {
    format!(
        "    listen {} ssl backlog=4096;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_session_cache off;
",
        https.address,
        https.certificate.display(),
        https.private_key.display()
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ProxySpec, testing};
    use super::*;

    #[test]
    fn the_configuration_names_every_address_and_no_other_place() {
        let text = configuration(&testing::proxy("/tmp/x"), Path::new("/tmp/x"));
        testing::assert_says(
            &text,
            &[
                "listen 10.0.0.1:80 backlog=4096;",
                "listen 10.0.0.1:443 ssl backlog=4096;",
                "server 10.0.0.2:9000 max_fails=0;",
                "server 10.0.0.3:9000 max_fails=0;",
                "worker_processes 2;",
                "worker_connections 289;",
                "keepalive 100;",
                "pid /tmp/x/nginx.pid;",
            ],
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn without_https_there_is_no_listener_for_it() {
        let spec = ProxySpec { https: None, ..testing::proxy("/tmp") };
        assert!(!configuration(&spec, Path::new("/tmp")).contains("ssl"));
    }
}
