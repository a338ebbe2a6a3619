//! Where the store is, and whom to believe.

use anyhow::{Context, bail, ensure};
use ashlar_bench::load::Trust;
use http::{HeaderValue, Uri, uri::Scheme};
use rustls_pki_types::ServerName;
use std::{fmt, path::PathBuf, sync::Arc};
use tokio_rustls::TlsConnector;

/// Options of every command that talks to a store.
#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// Where the store is
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ASHLAR_ENDPOINT",
        default_value = "http://127.0.0.1:8080"
    )]
    endpoint: String,
    /// Believe an https endpoint whose certificate is, or is signed by, one in this PEM file
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Believe any https endpoint
    #[arg(long, global = true)]
    insecure: bool,
}

/// An `http` or `https` URL without a path, and what TLS needs.
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl ConnectArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// When the URL is not an endpoint, or nothing says whom to believe over https.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        self.parse().with_context(|| format!("--endpoint {}", self.endpoint))
    }

    fn parse(&self) -> anyhow::Result<Endpoint> {
        let uri: Uri = self.endpoint.parse()?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => bail!("it must begin with http:// or https://"),
        };
        let authority = uri.authority().context("it names no host")?;
        ensure!(!authority.as_str().contains('@'), "user names have no meaning here");
        ensure!(matches!(uri.path(), "" | "/") && uri.query().is_none(), "it must not have a path");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Endpoint {
            host: host.to_string(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str())?,
            tls: if secure { Some(self.tls(host)?) } else { None },
        })
    }

    fn tls(&self, host: &str) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
        let trust = Trust::from_options(self.cacert.as_deref(), self.insecure);
        let config = trust.client_config()?;
        let name = ServerName::try_from(host.to_string())?;
        Ok((TlsConnector::from(Arc::new(config)), name))
    }
}

impl Endpoint {
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The value of the Host field.
    pub(super) fn authority(&self) -> HeaderValue {
        self.authority.clone()
    }

    pub(super) fn tls(&self) -> Option<(TlsConnector, ServerName<'static>)> {
        self.tls.clone()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parse(endpoint: &str, insecure: bool) -> anyhow::Result<Endpoint> {
        ConnectArgs { endpoint: endpoint.into(), cacert: None, insecure }.endpoint()
    }

    #[test]
    fn an_endpoint_is_a_scheme_and_a_host() {
        let endpoint = parse("http://[::1]:81/", false).unwrap();
        assert_eq!(endpoint.address(), ("::1", 81));
        assert_eq!(endpoint.authority(), "[::1]:81");
        assert_eq!(parse("http://a", false).unwrap().address(), ("a", 80));
        let secure = parse("https://localhost", true).unwrap();
        assert_eq!(secure.address(), ("localhost", 443));
        assert!(secure.tls().is_some());
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_option_and_the_reason() {
        for (endpoint, reason) in [
            ("127.0.0.1:80", "http://"),
            ("ftp://a", "http://"),
            ("http://a/b", "path"),
            ("http://a?b", "path"),
            ("http://me@a", "user names"),
            ("https://a", "--cacert"),
        ] {
            let error = format!("{:#}", parse(endpoint, false).err().unwrap());
            assert!(error.starts_with("--endpoint "), "{error}");
            assert!(error.contains(reason), "{endpoint}: {error}");
        }
    }
}
