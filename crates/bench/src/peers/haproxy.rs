//! HAProxy's configuration.

use super::ProxySpec;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Connections beside those of clients.
const SPARE_CONNECTIONS: usize = 64;
/// In percent of all descriptors: below this, idle connections to servers are kept. The default of
/// 20 would have it connect anew for most requests, because its limit on descriptors follows from
/// the limit on connections.
const POOL_LOW_PERCENT: usize = 90;
/// Above this, idle connections to servers are closed.
const POOL_HIGH_PERCENT: usize = 95;

/// The file that holds certificate and key together, as HAProxy wants them.
pub(super) fn certificate(directory: &Path) -> PathBuf {
    directory.join("site.pem")
}

/// The configuration file for `spec`.
pub(super) fn configuration(spec: &ProxySpec, directory: &Path) -> String {
    let threads = spec.threads;
    let connections = spec.connections_max + SPARE_CONNECTIONS;
    let mut binds = format!("  bind {} backlog 4096\n", spec.http);
    if let Some(https) = &spec.https {
        let _ = writeln!(
            binds,
            "  bind {} backlog 4096 ssl crt {} alpn http/1.1 no-tls-tickets",
            https.address,
            certificate(directory).display()
        );
    }
    let mut servers = String::new();
    for (index, upstream) in spec.upstreams.iter().enumerate() {
        let _ = writeln!(servers, "  server s{} {upstream}", index + 1);
    }
    format!(
        "global
  nbthread {threads}
  maxconn {connections}
  ssl-default-bind-options ssl-min-ver TLSv1.3
  tune.ssl.cachesize 0
  tune.bufsize 131072
  tune.pool-low-fd-ratio {POOL_LOW_PERCENT}
  tune.pool-high-fd-ratio {POOL_HIGH_PERCENT}
defaults
  mode http
  no log
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
frontend clients
{binds}  default_backend storage
backend storage
  balance roundrobin
{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ProxySpec, testing};
    use super::*;

    #[test]
    fn the_configuration_names_every_address() {
        let text = configuration(&testing::proxy("/elsewhere"), Path::new("/tmp/x"));
        testing::assert_says(
            &text,
            &[
                "bind 10.0.0.1:80 backlog 4096",
                "bind 10.0.0.1:443 backlog 4096 ssl crt /tmp/x/site.pem",
                "server s1 10.0.0.2:9000",
                "server s2 10.0.0.3:9000",
                "nbthread 2",
                "http-reuse always",
            ],
        );
    }

    #[test]
    fn without_https_there_is_no_listener_for_it() {
        let spec = ProxySpec { https: None, ..testing::proxy("/tmp") };
        assert!(!configuration(&spec, Path::new("/tmp")).contains(" crt "));
    }
}
