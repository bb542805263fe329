//! Fulcio and the certificate transparency log that it submits to (RFC 6962).

use jiff::Timestamp;
use x509_cert::der::asn1::{Ia5String, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::certificate::{
    Authority, Purpose, Window, extension, may_sign, moved, raw_extension, since_epoch,
};
use super::encoding::{built, der, sha256, tlv};
use super::fault::{Fault, flip};
use super::identity::Identity;
use super::keys::KeyPair;

/// How long a certificate lasts.
const LEAF_SECONDS: i64 = 600;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const PRECERTIFICATE_SCTS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
const DEPRECATED_ISSUER_ARC: u8 = 1;
const ISSUER_ARC: u8 = 8;
/// What the issuer extension says under [`Fault::IssuersDisagree`].
const LYING_ISSUER: &str = "https://accounts.mallory.test";
/// The second name under [`Fault::SecondIdentity`].
const SECOND_IDENTITY: &str = "mallory@mallory.test";

/// The certificate authority.
pub(super) struct Fulcio {
    pub(super) root: Authority,
    pub(super) issuing: Authority,
    /// Issues certificates although its own has expired.
    pub(super) expired: Authority,
}

impl Fulcio {
    /// An authority that is valid in `window`; `now` lies within it.
    pub(super) fn new(window: Window, now: Timestamp) -> Self {
        let root = Authority::root("sandbox-fulcio", window);
        let issuing =
            root.intermediate("sandbox-fulcio-intermediate", Purpose::CodeSigning, window);
        let ended = Window {
            start: window.start,
            end: moved(now, -30 * DAY),
        };
        let expired = root.intermediate("sandbox-fulcio-retired", Purpose::CodeSigning, ended);
        Self {
            root,
            issuing,
            expired,
        }
    }

    /// A certificate for `public_key`, with an SCT by `log`.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        public_key: &[u8],
        time: Timestamp,
        log: &TransparencyLog,
        faults: &[Fault],
    ) -> Vec<u8> {
        let authority = if faults.contains(&Fault::ExpiredAuthority) {
            &self.expired
        } else {
            &self.issuing
        };
        let start = if faults.contains(&Fault::ExpiredCertificate) {
            moved(time, -HOUR)
        } else if faults.contains(&Fault::FutureCertificate) {
            moved(time, HOUR)
        } else {
            time
        };
        let window = Window::lasting(start, LEAF_SECONDS);
        let extensions = leaf_extensions(identity, faults);
        let mut tbs = authority.to_be_issued(Name::default(), public_key, window, extensions);
        let timestamps = log.timestamps(&der(&tbs), &authority.public_key_der(), time, faults);
        if !timestamps.is_empty() {
            let list = raw_extension(PRECERTIFICATE_SCTS, false, sct_list(&timestamps));
            tbs.extensions.get_or_insert_default().push(list);
        }
        authority.seal(tbs)
    }
}

fn leaf_extensions(identity: &Identity, faults: &[Fault]) -> Vec<Extension> {
    let mut extensions = vec![may_sign()];
    if !faults.contains(&Fault::NoCodeSigning) {
        extensions.push(Purpose::CodeSigning.extension(false));
    }
    let mut names = vec![general_name(&identity.subject)];
    if faults.contains(&Fault::SecondIdentity) {
        names.push(general_name(SECOND_IDENTITY));
    }
    // Critical, since the subject is empty (RFC 5280, 4.2.1.6).
    extensions.push(extension(true, &SubjectAltName(names)));
    let deprecated_issuer = if faults.contains(&Fault::IssuersDisagree) {
        LYING_ISSUER
    } else {
        &identity.issuer
    };
    extensions.push(bare_claim(DEPRECATED_ISSUER_ARC, deprecated_issuer));
    extensions.push(claim(ISSUER_ARC, &identity.issuer));
    for (name, value) in &identity.claims {
        extensions.push(if name.is_bare_text() {
            bare_claim(name.arc(), value)
        } else {
            claim(name.arc(), value)
        });
    }
    extensions
}

fn general_name(subject: &str) -> GeneralName {
    let text = built(Ia5String::new(subject));
    if subject.contains("://") {
        GeneralName::UniformResourceIdentifier(text)
    } else {
        GeneralName::Rfc822Name(text)
    }
}

fn claim(arc: u8, value: &str) -> Extension {
    raw_extension(
        claim_oid(arc),
        false,
        der(&built(Utf8StringRef::new(value))),
    )
}

fn bare_claim(arc: u8, value: &str) -> Extension {
    raw_extension(claim_oid(arc), false, value.as_bytes().to_vec())
}

fn claim_oid(arc: u8) -> ObjectIdentifier {
    built(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1").push_arc(arc.into()))
}

/// The certificate transparency log. It keeps no tree, since nobody asks an SCT's log for one.
pub(super) struct TransparencyLog {
    key: KeyPair,
}

impl TransparencyLog {
    pub(super) fn new() -> Self {
        Self {
            key: KeyPair::generate(),
        }
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        self.key.public_key_der()
    }

    pub(super) fn log_id(&self) -> [u8; 32] {
        sha256(&[&self.public_key_der()])
    }

    /// The SCTs that a certificate gets: one, but for faults.
    fn timestamps(
        &self,
        precertificate: &[u8],
        issuer_key: &[u8],
        time: Timestamp,
        faults: &[Fault],
    ) -> Vec<Vec<u8>> {
        if faults.contains(&Fault::NoSct) {
            return Vec::new();
        }
        let mut timestamp = if faults.contains(&Fault::ForeignSct) {
            Self::new().timestamp(precertificate, issuer_key, time)
        } else {
            self.timestamp(precertificate, issuer_key, time)
        };
        if faults.contains(&Fault::BrokenSct) {
            flip(&mut timestamp);
        }
        if faults.contains(&Fault::DuplicateSct) {
            return vec![timestamp.clone(), timestamp];
        }
        vec![timestamp]
    }

    /// One SCT over a precertificate (RFC 6962, 3.2).
    fn timestamp(&self, precertificate: &[u8], issuer_key: &[u8], time: Timestamp) -> Vec<u8> {
        const VERSION_1: [u8; 1] = [0];
        const CERTIFICATE_TIMESTAMP: [u8; 1] = [0];
        const PRECERTIFICATE_ENTRY: [u8; 2] = [0, 1];
        const NO_EXTENSIONS: [u8; 2] = [0, 0];
        const SHA256_ECDSA: [u8; 2] = [4, 3];
        let milliseconds = built(u64::try_from(since_epoch(time).as_millis())).to_be_bytes();
        let length = built(u32::try_from(precertificate.len())).to_be_bytes();
        let signature = self.key.sign(
            &[
                &VERSION_1[..],
                &CERTIFICATE_TIMESTAMP,
                &milliseconds,
                &PRECERTIFICATE_ENTRY,
                &sha256(&[issuer_key]),
                &length[1..],
                precertificate,
                &NO_EXTENSIONS,
            ]
            .concat(),
        );
        [
            &VERSION_1[..],
            &self.log_id(),
            &milliseconds,
            &NO_EXTENSIONS,
            &SHA256_ECDSA,
            &counted(&signature),
        ]
        .concat()
    }
}

/// The value of the SCT list extension (RFC 6962, 3.3).
fn sct_list(timestamps: &[Vec<u8>]) -> Vec<u8> {
    let serialized: Vec<u8> = timestamps.iter().flat_map(|sct| counted(sct)).collect();
    const OCTET_STRING: u8 = 0x04;
    tlv(OCTET_STRING, &[&counted(&serialized)])
}

/// Bytes behind their length in two bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = built(u16::try_from(bytes.len())).to_be_bytes();
    [&length[..], bytes].concat()
}
