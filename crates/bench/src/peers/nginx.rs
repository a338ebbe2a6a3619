//! nginx's configuration.

use super::ProxySpec;
use std::fmt::Write as _;
use std::path::Path;

/// Descriptors beside those of connections: listeners, logs, epoll.
const SPARE_CONNECTIONS: usize = 64;

/// The configuration file for `spec`, with every path under `directory`.
pub(super) fn configuration(spec: &ProxySpec, directory: &Path) -> String {
    let directory = directory.display();
    // A client connection may hold one to an upstream, and when fewer than a sixteenth are free
    // nginx closes idle ones. Not more: it allocates all at the start, which would count against
    // its memory.
    let connections = 2 * spec.connections_max + spec.connections_max / 4 + SPARE_CONNECTIONS;
    let files = 2 * connections;
    let threads = spec.threads;
    let idle_upstreams = spec.connections_max;
    let mut servers = String::new();
    for upstream in &spec.upstreams {
        let _ = writeln!(servers, "    server {upstream} max_fails=0;");
    }
    let listeners = listeners(spec);
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
  client_max_body_size 0;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
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
}}
"
    )
}

fn listeners(spec: &ProxySpec) -> String {
    let mut text = format!("    listen {} backlog=4096;\n", spec.http);
    if let Some(https) = &spec.https {
        let _ = write!(
            text,
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
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::{HttpsSpec, ProxySpec};
    use super::*;

    #[test]
    fn the_configuration_names_every_address_and_no_other_place() {
        let spec = ProxySpec {
            http: "10.0.0.1:80".parse().unwrap(),
            https: Some(HttpsSpec {
                address: "10.0.0.1:443".parse().unwrap(),
                certificate: "/tmp/x/certificate.pem".into(),
                private_key: "/tmp/x/key.pem".into(),
            }),
            upstreams: vec!["10.0.0.2:9000".parse().unwrap(), "10.0.0.3:9000".parse().unwrap()],
            threads: 2,
            connections_max: 100,
        };
        let text = configuration(&spec, Path::new("/tmp/x"));
        for line in [
            "listen 10.0.0.1:80 backlog=4096;",
            "listen 10.0.0.1:443 ssl backlog=4096;",
            "server 10.0.0.2:9000 max_fails=0;",
            "server 10.0.0.3:9000 max_fails=0;",
            "worker_processes 2;",
            "worker_connections 289;",
            "keepalive 100;",
            "pid /tmp/x/nginx.pid;",
        ] {
            assert!(text.contains(line), "{line} is missing");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn without_https_there_is_no_listener_for_it() {
        let spec = ProxySpec {
            http: "10.0.0.1:80".parse().unwrap(),
            https: None,
            upstreams: vec!["10.0.0.2:9000".parse().unwrap()],
            threads: 1,
            connections_max: 1,
        };
        assert!(!configuration(&spec, Path::new("/tmp")).contains("ssl"));
    }
}
