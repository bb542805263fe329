//! Who holds a client certificate. The TLS library has proven that it was issued by one of the
//! configured authorities, is in its time, is not revoked, and that the client has its key.

use std::sync::Arc;

use jiff::Timestamp;
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::authn::Authn;
use crate::authn::known::{Known, RestsOn};
use crate::metrics::AuthenticationMethod;
use crate::oci::RegistryHost;
use crate::policy::Caller;
use crate::policy::CertificateIdentity;

/// The most names that a certificate may have.
const NAMES_MAX: usize = 64;

/// The holder of the certificate that a connection was opened with. Made by
/// [`Authn::certify`] only.
#[derive(Debug, Clone)]
pub struct Certified(pub(super) Arc<Known>);

impl Authn {
    /// Who holds this certificate (DER), which the TLS library has verified. Nobody, where it
    /// has no DNS name: the common name is whatever its holder wrote into a request.
    #[must_use]
    pub fn certify(&self, certificate: &[u8]) -> Option<Certified> {
        let (dns_names, expires_at) = read(certificate)?;
        let caller = Caller::Certificate(Arc::new(CertificateIdentity { dns_names }));
        Some(Certified(Arc::new(Known {
            puller: Arc::new(caller.into()),
            method: AuthenticationMethod::Certificate,
            until: expires_at,
            expires_at: Some(expires_at),
            rests_on: RestsOn::Configuration,
            access: None,
            length: 0,
        })))
    }
}

/// The DNS names of a certificate (DER), and when it ends.
fn read(certificate: &[u8]) -> Option<(Vec<String>, Timestamp)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate.validity.not_after;
    let end = i64::try_from(end.to_unix_duration().as_secs()).ok()?;
    Some((names(&certificate)?, Timestamp::from_second(end).ok()?))
}

/// The DNS names of a certificate (RFC 5280, 4.2.1.6), where it has any.
fn names(certificate: &Certificate) -> Option<Vec<String>> {
    let (_, alternative) = certificate.tbs_certificate.get::<SubjectAltName>().ok()??;
    let names = alternative.0.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str()),
        _ => None,
    });
    hosts(names)
}

/// Those names that are the name of one host, in lower case. A wildcard names no one, and could
/// pass for any in a pattern.
fn hosts<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let hosts: Vec<String> = names
        .take(NAMES_MAX + 1)
        .map(str::to_ascii_lowercase)
        .filter(|name| !name.contains(':') && name.parse::<RegistryHost>().is_ok())
        .collect();
    (!hosts.is_empty() && hosts.len() <= NAMES_MAX).then_some(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_names() {
        let hosts = |names: &[&str]| hosts(names.iter().copied());
        let found = hosts(&["Node1.nodes.acme.test", "*.acme.test", "a b", "x:80", ""]);
        assert_eq!(found, Some(vec!["node1.nodes.acme.test".to_owned()]));
        assert_eq!(hosts(&["*.nodes.acme.test"]), None);
        assert_eq!(hosts(&[]), None);
        assert_eq!(hosts(&vec!["a.test"; NAMES_MAX + 1]), None);
        assert!(hosts(&vec!["a.test"; NAMES_MAX]).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_not(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    /// The certificate of a host.
    #[cfg(feature = "sandbox")]
    fn certificate() -> Vec<u8> {
        use crate::oci::Digest;
        use crate::sandbox::sigstore::{
            CertificateAuthority, Log, Recipe, Signer, Sigstore, Verifier,
        };
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        let signer = Signer::Certified {
            authority: &CertificateAuthority::new(0, now),
            subject: "node1.acme.test",
        };
        let recipe = Recipe::new(signer, Log::None);
        let evidence = Sigstore::new(now).signature(&Digest::sha256(b"an image"), &recipe);
        match evidence.signed.verifier {
            Verifier::Chain(mut chain) => chain.swap_remove(0),
            other => panic!("{other:?}"),
        }
    }

    // The TLS library has verified it; so this says only that nothing breaks.
    #[test]
    #[cfg(feature = "sandbox")]
    fn an_edited_certificate_names_hosts_or_nobody() {
        let certificate = certificate();
        let names = vec!["node1.acme.test".to_owned()];
        assert_eq!(read(&certificate).map(|(names, _)| names), Some(names));
        for place in 0..certificate.len() {
            for bit in 0..8 {
                let mut edited = certificate.clone();
                edited[place] ^= 1 << bit;
                let names = read(&edited).map(|(names, _)| names).unwrap_or_default();
                assert!(
                    names
                        .iter()
                        .all(|name| name.parse::<RegistryHost>().is_ok())
                );
            }
        }
    }
}
