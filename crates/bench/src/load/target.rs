//! Where the load goes: a URL resolved once, and the trust that HTTPS needs.

use super::trust::{Trust, TrustError};
use http::Uri;
use http::uri::Scheme;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Why there is nowhere to send the load.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The URL cannot be read.
    #[error("url: `{url}`: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host has no address.
    #[error("url: `{host}` has no address: {source}")]
    Resolve {
        /// Host and port.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Whom to believe over HTTPS is not said or cannot be read.
    #[error("url: {0}")]
    Trust(#[from] TrustError),
}

/// Where the load goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The addresses that connections go to, in turn; at least one.
    pub(super) addresses: Vec<SocketAddr>,
    /// The value of the Host header.
    pub(super) authority: String,
    /// The URL's path and query.
    pub(super) path: String,
    /// Present for `https`.
    pub(super) tls: Option<TlsTarget>,
}

/// The TLS side of a target.
#[derive(Clone, Debug)]
pub(super) struct TlsTarget {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

/// What a handshake negotiated: two subjects compare only if they agree in it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct TlsFacts {
    /// Such as `TLSv1_3`.
    pub version: String,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
}

impl Target {
    /// Reads an `http` or `https` URL and resolves its host.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(url: &str, trust: &Trust) -> Result<Self, TargetError> {
        let refuse =
            |reason: &str| TargetError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|error| refuse(&format!("{error}")))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(refuse("it must begin with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| refuse("it names no host"))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("a user name in it is not supported"));
        }
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = if secure {
            let server_name = ServerName::try_from(bare_host.to_owned())
                .map_err(|_| refuse("its host is not a valid server name"))?;
            let mut config = trust.client_config()?;
            // Every connection makes the same, full handshake.
            config.resumption = Resumption::disabled();
            Some(TlsTarget { config: Arc::new(config), server_name })
        } else {
            None
        };
        Ok(Self {
            addresses: vec![resolve(bare_host, port)?],
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls,
        })
    }

    /// The same target, but connections go to these addresses in turn, in place of the URL's. Host
    /// header and certificate remain those of the URL.
    ///
    /// # Panics
    /// Without an address.
    pub fn connect_to(self, addresses: Vec<SocketAddr>) -> Self {
        assert!(!addresses.is_empty(), "there is an address to connect to");
        Self { addresses, ..self }
    }

    /// The address of the connection with this number.
    pub(super) fn address(&self, connection: usize) -> SocketAddr {
        self.addresses[connection % self.addresses.len()]
    }

    /// The URL's path and query; `/` if it has none.
    pub fn path(&self) -> &str {
        &self.path
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, TargetError> {
    let unresolved = |source| TargetError::Resolve { host: format!("{host}:{port}"), source };
    let mut addresses = (host, port).to_socket_addrs().map_err(unresolved)?;
    addresses.next().ok_or_else(|| unresolved(std::io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn plain(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, &Trust::Nobody)
    }

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        let target = plain("http://127.0.0.1:8080/a/b?c=d").unwrap();
        assert_eq!(target.address(7), "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.path(), "/a/b?c=d");
        assert!(target.tls.is_none());
    }

    #[test]
    fn ports_and_paths_have_defaults() {
        let target = plain("http://127.0.0.1").unwrap();
        assert_eq!((target.address(0).port(), target.path()), (80, "/"));
        let target = Target::parse("https://[::1]/", &Trust::Everybody).unwrap();
        assert_eq!(target.address(0), "[::1]:443".parse().unwrap());
        assert!(target.tls.is_some());
    }

    #[test]
    fn connections_may_go_to_other_addresses_in_turn() {
        let addresses: Vec<SocketAddr> =
            ["127.0.0.1:1", "127.0.0.2:2"].map(|address| address.parse().unwrap()).to_vec();
        let target = plain("http://127.0.0.1:8080").unwrap().connect_to(addresses.clone());
        assert_eq!([0, 1, 2].map(|number| target.address(number)), [0, 1, 0].map(|i| addresses[i]));
        assert_eq!(target.authority, "127.0.0.1:8080");
    }

    #[test]
    fn what_cannot_be_loaded_is_refused_with_the_field() {
        let refused = |url: &str| plain(url).unwrap_err().to_string();
        assert!(refused("127.0.0.1:80").starts_with("url: "));
        assert!(refused("ftp://127.0.0.1/").contains("http://"));
        assert!(refused("http://user@127.0.0.1/").contains("user name"));
        assert!(refused("https://127.0.0.1/").contains("--cacert"));
        let missing = Trust::Certificates("/nonexistent/ca.pem".into());
        let error = Target::parse("https://127.0.0.1/", &missing).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"));
    }
}
