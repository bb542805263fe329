//! X.509 certificates: authorities, and what they issue. Knows nothing of Sigstore.

use jiff::Timestamp;
use x509_cert::der::asn1::{BitString, GeneralizedTime, OctetString, UtcTime};
use x509_cert::der::oid::db::rfc5280::{
    ID_KP_CODE_SIGNING, ID_KP_SERVER_AUTH, ID_KP_TIME_STAMPING,
};
use x509_cert::der::oid::db::rfc5912::ECDSA_WITH_SHA_384;
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::{Decode as _, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

use super::encoding::{built, der, random, sha256};
use super::keys::AuthorityKey;

/// From when to when something is valid, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Window {
    /// The window that starts at `start` and lasts `seconds`.
    pub(super) fn lasting(start: Timestamp, seconds: i64) -> Self {
        Self {
            start,
            end: moved(start, seconds),
        }
    }
}

/// `time` moved by a number of seconds.
pub(super) fn moved(time: Timestamp, seconds: i64) -> Timestamp {
    built(time.checked_add(jiff::SignedDuration::from_secs(seconds)))
}

/// The usages of a key beyond its algorithm.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    CodeSigning,
    TimeStamping,
    ServerAuthentication,
}

impl Purpose {
    pub(super) fn extension(self, critical: bool) -> Extension {
        let usage = match self {
            Self::CodeSigning => ID_KP_CODE_SIGNING,
            Self::TimeStamping => ID_KP_TIME_STAMPING,
            Self::ServerAuthentication => ID_KP_SERVER_AUTH,
        };
        extension(critical, &ExtendedKeyUsage(vec![usage]))
    }
}

/// A certificate authority: a certificate and its key.
pub(super) struct Authority {
    key: AuthorityKey,
    name: Name,
    /// Its own certificate, DER.
    pub(super) certificate: Vec<u8>,
}

impl Authority {
    /// A self-signed authority.
    pub(super) fn root(common_name: &str, window: Window) -> Self {
        let key = AuthorityKey::generate();
        let name = distinguished_name(common_name);
        let mut extensions = authority_extensions(None);
        extensions.push(subject_key(&key.public_key_der()));
        let spki = key.public_key_der();
        let tbs = to_be_signed(&name, name.clone(), &spki, window, extensions);
        let certificate = sealed(tbs, &key);
        Self {
            key,
            name,
            certificate,
        }
    }

    /// An authority below this one, which issues for one purpose only.
    pub(super) fn intermediate(&self, common_name: &str, purpose: Purpose, window: Window) -> Self {
        let mut extensions = authority_extensions(Some(0));
        extensions.push(purpose.extension(false));
        self.below(common_name, window, extensions)
    }

    /// An authority below this one, with any extensions beside the key identifiers.
    pub(super) fn below(
        &self,
        common_name: &str,
        window: Window,
        extensions: Vec<Extension>,
    ) -> Self {
        let key = AuthorityKey::generate();
        let name = distinguished_name(common_name);
        let spki = key.public_key_der();
        let tbs = self.to_be_issued(name.clone(), &spki, window, extensions);
        let certificate = self.seal(tbs);
        Self {
            key,
            name,
            certificate,
        }
    }

    /// What a certificate for `public_key` would say, with the two key identifiers before
    /// the given extensions.
    pub(super) fn to_be_issued(
        &self,
        subject: Name,
        public_key: &[u8],
        window: Window,
        extensions: Vec<Extension>,
    ) -> TbsCertificate {
        let mut all = vec![
            subject_key(public_key),
            extension(
                false,
                &AuthorityKeyIdentifier {
                    key_identifier: Some(key_identifier(&self.key.public_key_der())),
                    ..AuthorityKeyIdentifier::default()
                },
            ),
        ];
        all.extend(extensions);
        to_be_signed(&self.name, subject, public_key, window, all)
    }

    /// Signs a certificate.
    pub(super) fn seal(&self, tbs: TbsCertificate) -> Vec<u8> {
        sealed(tbs, &self.key)
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        self.key.public_key_der()
    }
}

/// The name of one of the sandbox's authorities.
pub(super) fn distinguished_name(common_name: &str) -> Name {
    // RFC 4514 writes the most specific part first.
    built(format!("CN={common_name},O=sandbox.test").parse())
}

/// The extension that says what a key which is no authority's may do.
pub(super) fn may_sign() -> Extension {
    extension(true, &KeyUsage(KeyUsages::DigitalSignature.into()))
}

/// One extension of a type that knows its own identifier.
pub(super) fn extension<T: AssociatedOid + Encode>(critical: bool, value: &T) -> Extension {
    raw_extension(T::OID, critical, der(value))
}

/// One extension with any bytes in it.
pub(super) fn raw_extension(
    extn_id: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
) -> Extension {
    Extension {
        extn_id,
        critical,
        extn_value: built(OctetString::new(value)),
    }
}

/// The extension that says what an authority's key may do.
pub(super) fn authority_usage() -> Extension {
    extension(true, &KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))
}

fn authority_extensions(path_length: Option<u8>) -> Vec<Extension> {
    vec![
        authority_usage(),
        extension(
            true,
            &BasicConstraints {
                ca: true,
                path_len_constraint: path_length,
            },
        ),
    ]
}

fn subject_key(public_key: &[u8]) -> Extension {
    extension(false, &SubjectKeyIdentifier(key_identifier(public_key)))
}

/// RFC 7093, method 1: the first 160 bits of the key's SHA-256.
fn key_identifier(public_key: &[u8]) -> OctetString {
    let info = built(SubjectPublicKeyInfoOwned::from_der(public_key));
    let hash = sha256(&[info.subject_public_key.raw_bytes()]);
    built(OctetString::new(&hash[..20]))
}

fn to_be_signed(
    issuer: &Name,
    subject: Name,
    public_key: &[u8],
    window: Window,
    extensions: Vec<Extension>,
) -> TbsCertificate {
    let mut serial = random::<20>();
    // A positive number without a leading zero.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    TbsCertificate {
        version: Version::V3,
        serial_number: built(SerialNumber::new(&serial)),
        signature: ecdsa_with_sha384(),
        issuer: issuer.clone(),
        validity: Validity {
            not_before: certificate_time(window.start),
            not_after: certificate_time(window.end),
        },
        subject,
        subject_public_key_info: built(SubjectPublicKeyInfoOwned::from_der(public_key)),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    }
}

fn sealed(tbs_certificate: TbsCertificate, key: &AuthorityKey) -> Vec<u8> {
    let signature = key.sign(&der(&tbs_certificate));
    der(&Certificate {
        tbs_certificate,
        signature_algorithm: ecdsa_with_sha384(),
        signature: built(BitString::from_bytes(&signature)),
    })
}

fn ecdsa_with_sha384() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: ECDSA_WITH_SHA_384,
        parameters: None,
    }
}

/// RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime after.
fn certificate_time(time: Timestamp) -> Time {
    let since_epoch = since_epoch(time);
    UtcTime::from_unix_duration(since_epoch).map_or_else(
        |_| Time::GeneralTime(built(GeneralizedTime::from_unix_duration(since_epoch))),
        Time::UtcTime,
    )
}

/// Whole seconds since 1970.
pub(super) fn since_epoch(time: Timestamp) -> std::time::Duration {
    std::time::Duration::from_secs(built(u64::try_from(time.as_second())))
}
