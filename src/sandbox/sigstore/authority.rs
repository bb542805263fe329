//! A certificate authority of one's own, which certifies names in Fulcio's stead: no login, no
//! certificate transparency, and as many authorities between root and leaf as one likes.

use jiff::Timestamp;
use x509_cert::der::asn1::Ia5String;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, NameConstraints};

use super::certificate::{
    Authority, Purpose, Window, authority_usage, distinguished_name, extension, may_sign, moved,
};
use super::encoding::{built, pem};
use super::fault::Fault;
use super::keys::KeyPair;

const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
/// How long what it certifies is valid: long, as such authorities do it.
const LEAF_SECONDS: i64 = 90 * DAY;
/// The second name under [`Fault::SecondIdentity`].
const SECOND_IDENTITY: &str = "mallory@mallory.test";

/// What is wrong with an authority between the root and the leaf, although the one above signed
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorityFault {
    /// It is a leaf itself: nobody made it an authority.
    NoAuthority,
    /// It is an authority whose key may not sign certificates.
    NoCertificates,
    /// The one above may have no authorities below it.
    PathTooLong,
    /// It expired a month ago.
    Expired,
    /// It may certify names under `permitted.test` only.
    OtherNames,
    /// It may certify servers only.
    OtherPurpose,
}

impl AuthorityFault {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::NoAuthority,
        Self::NoCertificates,
        Self::PathTooLong,
        Self::Expired,
        Self::OtherNames,
        Self::OtherPurpose,
    ];
}

/// See the module's description.
pub struct CertificateAuthority {
    root: Authority,
    /// From the root downwards.
    below: Vec<Authority>,
}

impl CertificateAuthority {
    /// An authority with so many others between its root and what it certifies, valid from a
    /// year before `now` to ten years after.
    #[must_use]
    pub fn new(intermediates: usize, now: Timestamp) -> Self {
        let window = window(now);
        let root = Authority::root("sandbox-own-root", window);
        let mut below: Vec<Authority> = Vec::new();
        for number in 0..intermediates {
            let above = below.last().unwrap_or(&root);
            let left = built(u8::try_from(intermediates - 1 - number));
            let extensions = vec![
                authority_usage(),
                constraints(true, Some(left)),
                Purpose::CodeSigning.extension(false),
            ];
            let name = format!("sandbox-own-intermediate-{number}");
            below.push(above.below(&name, window, extensions));
        }
        Self { root, below }
    }

    /// An authority whose last intermediate of two has something wrong with it.
    #[must_use]
    pub fn broken(fault: AuthorityFault, now: Timestamp) -> Self {
        let mut authority = Self::new(0, now);
        let all = window(now);
        let first_depth = match fault {
            AuthorityFault::PathTooLong => 0,
            _ => 1,
        };
        let first = vec![authority_usage(), constraints(true, Some(first_depth))];
        let first = authority
            .root
            .below("sandbox-own-intermediate-0", all, first);
        let mut extensions = match fault {
            AuthorityFault::NoAuthority => vec![may_sign(), constraints(false, None)],
            AuthorityFault::NoCertificates => vec![may_sign(), constraints(true, Some(0))],
            _ => vec![authority_usage(), constraints(true, Some(0))],
        };
        extensions.push(match fault {
            AuthorityFault::OtherPurpose => Purpose::ServerAuthentication.extension(false),
            _ => Purpose::CodeSigning.extension(false),
        });
        if fault == AuthorityFault::OtherNames {
            extensions.push(permitted_names());
        }
        let second_window = match fault {
            AuthorityFault::Expired => Window {
                start: all.start,
                end: moved(now, -30 * DAY),
            },
            _ => all,
        };
        let second = first.below("sandbox-own-intermediate-1", second_window, extensions);
        authority.below = vec![first, second];
        authority
    }

    /// The root's certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.root.certificate)
    }

    /// The root's certificate, DER.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.root.certificate
    }

    /// All its certificates, the issuing authority's first and the root's last, one PEM document
    /// after another: what `cosign verify --certificate-chain` reads.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        let below = self.below.iter().rev();
        let all = below.chain(std::iter::once(&self.root));
        all.map(|authority| pem("CERTIFICATE", &authority.certificate))
            .collect()
    }

    /// A certificate for a key under this name (an e-mail address where it has an `@`, a URI
    /// where it has a scheme, else a domain name), or several divided by commas, with the
    /// authorities' up to the root's but without it; leaf first, DER. Of the faults those of time, usage, name and authority count.
    #[must_use]
    pub fn certify(
        &self,
        subject: &str,
        key: &KeyPair,
        time: Timestamp,
        faults: &[Fault],
    ) -> Vec<Vec<u8>> {
        if faults.contains(&Fault::ForeignAuthority) {
            let others = faults.iter().copied();
            let others: Vec<_> = others
                .filter(|fault| *fault != Fault::ForeignAuthority)
                .collect();
            return Self::new(self.below.len(), time).certify(subject, key, time, &others);
        }
        let start = if faults.contains(&Fault::ExpiredCertificate) {
            moved(time, -2 * LEAF_SECONDS)
        } else if faults.contains(&Fault::FutureCertificate) {
            moved(time, DAY)
        } else {
            moved(time, -DAY)
        };
        let mut names: Vec<_> = subject.split(',').map(general_name).collect();
        if faults.contains(&Fault::SecondIdentity) {
            names.push(general_name(SECOND_IDENTITY));
        }
        let mut extensions = vec![may_sign(), extension(true, &SubjectAltName(names))];
        if !faults.contains(&Fault::NoCodeSigning) {
            extensions.push(Purpose::CodeSigning.extension(false));
        }
        let issuing = self.below.last().unwrap_or(&self.root);
        let tbs = issuing.to_be_issued(
            distinguished_name("sandbox-own-leaf"),
            &key.public_key_der(),
            Window::lasting(start, LEAF_SECONDS),
            extensions,
        );
        let leaf = issuing.seal(tbs);
        let above = self.below.iter().rev();
        let above = above.map(|authority| authority.certificate.clone());
        std::iter::once(leaf).chain(above).collect()
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CertificateAuthority({} below)", self.below.len())
    }
}

fn window(now: Timestamp) -> Window {
    Window {
        start: moved(now, -YEAR),
        end: moved(now, 10 * YEAR),
    }
}

fn constraints(ca: bool, path_len_constraint: Option<u8>) -> Extension {
    extension(
        true,
        &BasicConstraints {
            ca,
            path_len_constraint,
        },
    )
}

fn permitted_names() -> Extension {
    let names = [
        GeneralName::DnsName(built(Ia5String::new("permitted.test"))),
        GeneralName::Rfc822Name(built(Ia5String::new("permitted.test"))),
        GeneralName::UniformResourceIdentifier(built(Ia5String::new("permitted.test"))),
    ];
    let subtrees = names.map(|base| GeneralSubtree {
        base,
        minimum: 0,
        maximum: None,
    });
    extension(
        true,
        &NameConstraints {
            permitted_subtrees: Some(subtrees.to_vec()),
            excluded_subtrees: None,
        },
    )
}

fn general_name(subject: &str) -> GeneralName {
    let text = built(Ia5String::new(subject));
    if subject.contains("://") {
        GeneralName::UniformResourceIdentifier(text)
    } else if subject.contains('@') {
        GeneralName::Rfc822Name(text)
    } else {
        GeneralName::DnsName(text)
    }
}
