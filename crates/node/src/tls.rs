//! TLS for listeners: certificates from files or self-signed, replaced without a restart.

use crate::config::CertificateFiles;
use arc_swap::ArcSwap;
use rcgen::{CertifiedKey, KeyPair, SanType};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::ProducesTickets,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a listener's certificate comes from.
#[derive(Clone, Debug)]
pub(crate) enum CertificateSource {
    /// These files.
    Files(CertificateFiles),
    /// A self-signed certificate, made on first use and kept in a directory.
    SelfSigned {
        /// The directory.
        directory: PathBuf,
        /// The address that the certificate is good for, besides those of loopback.
        address: IpAddr,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A self-signed certificate cannot be kept.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A self-signed certificate cannot be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit each other or the library does not know their kind.
    #[error("cannot use {path}: {source}")]
    Refused {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The system gives no randomness.
    #[error("cannot make ticket keys: {0}")]
    Tickets(rustls::Error),
}

/// A listener's TLS settings. New connections take the current ones.
pub(crate) struct ServerTls {
    source: CertificateSource,
    current: ArcSwap<ServerConfig>,
    /// Kept over reloads, so that clients can resume their sessions.
    tickets: Arc<dyn ProducesTickets>,
}

impl ServerTls {
    /// Reads the certificate, or makes it if it is to be self-signed and does not exist.
    ///
    /// # Errors
    /// When it cannot be read, made or used.
    pub(crate) fn load(source: CertificateSource) -> Result<Self, TlsError> {
        let tickets = ring::Ticketer::new().map_err(TlsError::Tickets)?;
        let current = ArcSwap::from_pointee(server_config(&source, &tickets)?);
        Ok(Self { source, current, tickets })
    }

    /// Reads the certificate again for connections to come. After an error the old one stays.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let config = server_config(&self.source, &self.tickets)?;
        self.current.store(Arc::new(config));
        Ok(())
    }

    /// The settings for a new connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn server_config(
    source: &CertificateSource,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let files = match source {
        CertificateSource::Files(files) => files.clone(),
        CertificateSource::SelfSigned { directory, address } => self_signed(directory, *address)?,
    };
    let (chain, key) = read(&files)?;
    let refused = |source| TlsError::Refused { path: files.certificate.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Arc::clone(tickets);
    Ok(config)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(files: &CertificateFiles) -> Result<Identity, TlsError> {
    let unreadable = |path: &Path, problem: String| TlsError::Read { path: path.into(), problem };
    let certificate = &files.certificate;
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, "it holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|error| unreadable(&files.private_key, error.to_string()))?;
    Ok((chain, key))
}

/// The files of the self-signed certificate in `directory`, made if one of them is missing.
fn self_signed(directory: &Path, address: IpAddr) -> Result<CertificateFiles, TlsError> {
    let files = CertificateFiles {
        certificate: directory.join("certificate.pem"),
        private_key: directory.join("private-key.pem"),
    };
    if files.certificate.exists() && files.private_key.exists() {
        return Ok(files);
    }
    let CertifiedKey { cert, signing_key } = make(address)?;
    fs::create_dir_all(directory)
        .map_err(|source| TlsError::Write { path: directory.into(), source })?;
    // The key comes first: a crash in between leaves no certificate, and both are made again.
    write(&files.private_key, signing_key.serialize_pem().as_bytes(), 0o600)?;
    write(&files.certificate, cert.pem().as_bytes(), 0o644)?;
    Ok(files)
}

fn make(address: IpAddr) -> Result<CertifiedKey<KeyPair>, rcgen::Error> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into()])?;
    let names = &mut parameters.subject_alt_names;
    names.extend(loopback.map(SanType::IpAddress));
    // An unspecified address means every address of the host: there is no one name to give.
    if !loopback.contains(&address) && !address.is_unspecified() {
        names.push(SanType::IpAddress(address));
    }
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "Ashlar self-signed");
    parameters.distinguished_name = name;
    let signing_key = KeyPair::generate()?;
    let cert = parameters.self_signed(&signing_key)?;
    Ok(CertifiedKey { cert, signing_key })
}

/// Writes a file that is either whole or not there, readable as `mode` says from its first byte.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    let temporary = path.with_extension("new");
    let written = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().map_err(|source| TlsError::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn source(directory: &Path) -> CertificateSource {
        CertificateSource::SelfSigned {
            directory: directory.join("tls"),
            address: "10.1.2.3".parse().unwrap(),
        }
    }

    #[test]
    fn a_self_signed_certificate_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        ServerTls::load(source(directory.path())).unwrap();
        let key = directory.path().join("tls/private-key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&key).unwrap();
        ServerTls::load(source(directory.path())).unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
    }

    #[test]
    fn a_half_made_certificate_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        ServerTls::load(source(directory.path())).unwrap();
        fs::remove_file(directory.path().join("tls/certificate.pem")).unwrap();
        ServerTls::load(source(directory.path())).unwrap();
    }

    #[test]
    fn a_bad_new_certificate_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let tls = ServerTls::load(source(directory.path())).unwrap();
        let before = tls.config();
        let path = directory.path().join("tls/certificate.pem");
        fs::write(&path, "no certificate").unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("certificate.pem"), "{error}");
        assert!(Arc::ptr_eq(&before, &tls.config()));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let one = self_signed(&directory.path().join("1"), Ipv4Addr::LOCALHOST.into()).unwrap();
        let two = self_signed(&directory.path().join("2"), Ipv4Addr::LOCALHOST.into()).unwrap();
        let mixed = CertificateSource::Files(CertificateFiles {
            certificate: one.certificate,
            private_key: two.private_key,
        });
        assert!(matches!(ServerTls::load(mixed), Err(TlsError::Refused { .. })));
    }
}
