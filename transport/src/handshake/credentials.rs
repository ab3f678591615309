//! What TLS needs to know to prove who we are and to judge who they are: raw Ed25519 keys (RFC
//! 7250) both ways, no names, no tickets, no clock. The dialler takes only the key it dialled; the
//! responder takes any key whose owner signs, and leaves policy to others.

use std::fmt;
use std::sync::Arc;

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ClientConfig, Resumption};
use rustls::crypto::ring as provider;
use rustls::crypto::{CryptoProvider, ring::cipher_suite};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, SignatureScheme, SupportedCipherSuite, version,
};

use super::{ALPN, HandshakeError};
use crate::identity::{Identity, PublicKey};
use crate::keys::Suite;

/// An identity made ready for handshakes. Cheap to clone; one serves every dial and answer of an
/// identity.
#[derive(Clone)]
pub struct Credentials {
    public_key: PublicKey,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Prepares `identity`. Done once per identity: it copies the private key into TLS's own form.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Tls`] when TLS refuses the key, which it does to no key that `Identity`
    /// accepted.
    pub fn new(identity: &Identity) -> Result<Self, HandshakeError> {
        Self::with_suites(identity, &cipher_suites())
    }

    /// As [`Credentials::new`], with these suites in this order.
    pub(super) fn with_suites(
        identity: &Identity,
        suites: &[SupportedCipherSuite],
    ) -> Result<Self, HandshakeError> {
        let key = provider::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(identity.pkcs8()))?;
        let public = CertificateDer::from(encode_public_key(&identity.public_key()).to_vec());
        let certified = Arc::new(CertifiedKey::new(vec![public], key));
        let provider = Arc::new(CryptoProvider {
            cipher_suites: suites.to_vec(),
            kx_groups: vec![provider::kx_group::X25519],
            ..provider::default_provider()
        });
        Ok(Self {
            public_key: identity.public_key(),
            client: Arc::new(client_config(&provider, &certified)?),
            server: Arc::new(server_config(&provider, &certified)?),
        })
    }

    /// The identity's public key.
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.public_key.fingerprint())
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
) -> Result<ClientConfig, Error> {
    let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(certified));
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(NoClock))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(DialledKey))
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
) -> Result<ServerConfig, Error> {
    let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::clone(certified));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(NoClock))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The suites in our order of preference. Without AES instructions AES is several times slower than
/// `ChaCha20`, and hard to keep from leaking through caches.
fn cipher_suites() -> [SupportedCipherSuite; 3] {
    let aes128 = cipher_suite::TLS13_AES_128_GCM_SHA256;
    let aes256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let chacha20 = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    if cpu_has_aes() { [aes128, aes256, chacha20] } else { [chacha20, aes128, aes256] }
}

#[cfg(target_arch = "x86_64")]
fn cpu_has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn cpu_has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const fn cpu_has_aes() -> bool {
    false
}

/// The suite of lanes that goes with TLS's.
pub(super) const fn suite_of(tls: CipherSuite) -> Option<Suite> {
    match tls {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Suite::Aes128Gcm),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Suite::Aes256Gcm),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Suite::ChaCha20Poly1305),
        _ => None,
    }
}

/// The name under which TLS hands the dialled key to [`DialledKey`]. SNI is off: it never leaves
/// the process.
pub(super) fn server_name_of(key: &PublicKey) -> Result<ServerName<'static>, HandshakeError> {
    ServerName::try_from(key.to_string())
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding).into())
}

/// The public key in an Ed25519 `SubjectPublicKeyInfo` (RFC 8410, section 4).
pub(super) fn decode_public_key(info: &[u8]) -> Option<PublicKey> {
    let key = info.strip_prefix(&PUBLIC_KEY_PREFIX)?;
    Some(PublicKey::from_bytes(key.try_into().ok()?))
}

fn encode_public_key(key: &PublicKey) -> [u8; PUBLIC_KEY_PREFIX.len() + 32] {
    let mut info = [0; PUBLIC_KEY_PREFIX.len() + 32];
    info[..PUBLIC_KEY_PREFIX.len()].copy_from_slice(&PUBLIC_KEY_PREFIX);
    info[PUBLIC_KEY_PREFIX.len()..].copy_from_slice(key.as_bytes());
    info
}

/// Checks that a raw key is one of Ed25519 and came alone, as RFC 7250 demands.
fn sole_key(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<PublicKey, Error> {
    decode_public_key(end_entity)
        .filter(|_| intermediates.is_empty())
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let key = sole_key(certificate, &[])?;
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadSignature))
}

fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

/// Takes the key that was dialled, which is the server name that TLS was given, and no other.
#[derive(Debug)]
struct DialledKey;

impl ServerCertVerifier for DialledKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let answered = sole_key(end_entity, intermediates)?;
        let dialled: PublicKey = server_name
            .to_str()
            .parse()
            .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        if answered == dialled {
            return Ok(ServerCertVerified::assertion());
        }
        let (dialled, answered) = (dialled.fingerprint(), answered.fingerprint());
        let error = HandshakeError::WrongKey { dialled, answered };
        Err(CertificateError::Other(OtherError(Arc::new(error))).into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes every Ed25519 key whose owner signs. Whether that key may do anything is decided after the
/// handshake.
#[derive(Debug)]
struct AnyKey;

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        sole_key(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Raw keys have no dates and tickets are off, so TLS gets a clock that stands still and this crate
/// stays without one.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

const PUBLIC_KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
