//! `ca` in the facts of a policy test: somebody whom an authority of one's own has certified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::cases::facts::claims;
use crate::config::pem;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::signers;
use crate::oci::Digest;
use crate::verify::Certified;
use crate::verify::Name;
use crate::verify::Signer;

const AUTHORITY: &str = "write { file: ca.pem } or { fingerprint: \"sha256:...\" }, as `openssl \
                         x509 -fingerprint -sha256` has it, in lower case and without colons";

/// One kind of names.
type Kind = fn(String) -> Name;

/// Lowers `ca`. A name can be one text or a list of them.
pub(super) fn lower(value: &Value<'_>) -> Option<Signer> {
    let fields = value.fields(&schema::CA_FACT)?;
    let authority = match fields.exactly_one(&["file", "pem", "fingerprint"], AUTHORITY)? {
        ("fingerprint", value) => value.parsed(str::parse, AUTHORITY),
        (form, value) => fingerprint(form, &value),
    };
    let kinds: [(&'static str, Kind); 3] = [
        ("email", Name::Email),
        ("uri", Name::Uri),
        ("dns", Name::Dns),
    ];
    let mut names = BTreeSet::new();
    for (key, name) in kinds {
        let Some(value) = fields.at(key) else {
            continue;
        };
        let items = match value.is_list() {
            true => value.list()?,
            false => vec![value],
        };
        for item in items {
            names.insert(name(item.text()?.to_owned()));
        }
    }
    if names.is_empty() {
        value.error(
            "the certificate has no name",
            "write `email:`, `uri:` or `dns:`",
        );
        return None;
    }
    let issuer = fields.at("issuer").map(|value| signers::issuer_url(&value));
    let claims = fields
        .at("claims")
        .map_or(Some(BTreeMap::new()), |value| claims(&value));
    Some(Signer::Certified(Arc::new(Certified {
        authority: authority?,
        names,
        key: None,
        issuer: whole(issuer)?,
        claims: claims?,
        ends_at: None,
    })))
}

fn fingerprint(form: &str, value: &Value<'_>) -> Option<Digest> {
    let (place, text) = signers::pem_text(form, value)?;
    match pem::blocks(&text).as_slice() {
        [block] if block.label == "CERTIFICATE" => block.der.as_deref().map(Digest::sha256),
        _ => {
            value.error(
                &format!("{place}this is not one certificate in PEM"),
                AUTHORITY,
            );
            None
        }
    }
}
