//! The certificate authority that every host of a cluster derives for itself.

use super::{COMMON_DNS_NAME, ClusterKey, IdentityError, NODE_URI_PREFIX};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
    SanType, SignatureAlgorithm, SigningKey,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the authority's private key is derived for.
const KEY_LABEL: &str = "channel certificate authority";

/// What the name of the authority is derived for. Clusters then differ in their authority's name already, and the library says
/// that it does not know the issuer.
const NAME_LABEL: &str = "channel certificate authority's name";

/// The same on every host of a cluster, bit for bit.
pub(super) struct Authority {
    issuer: Issuer<'static, AuthorityKey>,
    parameters: CertificateParams,
}

impl Authority {
    pub(super) fn derive(cluster_key: &ClusterKey) -> Result<Self, IdentityError> {
        let seed = cluster_key.derive::<32>(KEY_LABEL);
        let key =
            Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("the seed is long enough");
        let name = u64::from_be_bytes(*cluster_key.derive::<8>(NAME_LABEL));
        // The default validity is the widest that the format can say, nearly: clocks of hosts may differ as they like.
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(format!("ashlar cluster {name:016x}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = Issuer::new(parameters.clone(), AuthorityKey(key));
        Ok(Self { issuer, parameters })
    }

    /// What peers must be signed by.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, IdentityError> {
        let certificate = self.parameters.self_signed(self.issuer.key())?;
        Ok(certificate.der().clone())
    }

    /// A fresh key and a certificate for a node, good for both ends of a channel.
    pub(super) fn issue(
        &self,
        node_name: &str,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(node_name.to_owned());
        parameters.subject_alt_names = vec![
            SanType::DnsName(COMMON_DNS_NAME.try_into()?),
            SanType::URI(format!("{NODE_URI_PREFIX}{node_name}").try_into()?),
        ];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate: Certificate = parameters.signed_by(&key, &self.issuer)?;
        let private_key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((certificate.der().clone(), private_key.into()))
    }
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// Signs without a copy of the private key in an encoded form.
struct AuthorityKey(Ed25519KeyPair);

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}
