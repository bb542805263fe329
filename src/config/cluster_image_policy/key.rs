//! `key` of an authority: a public key, the hash that it signs over, and what vouches beside.

use std::sync::Arc;

use crate::config::cluster_image_policy::Vouchers;
use crate::config::cluster_image_policy::sections;
use crate::config::foreign;
use crate::config::policies::Context;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::signers;
use crate::policy::KeyHolder;
use crate::policy::SignedBy;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::policy::TimedKey;
use crate::verify::HashAlgorithm;

/// Lowers `key` of the authority `name`.
pub(super) fn lower(
    value: &Value<'_>,
    name: &str,
    vouchers: Vouchers,
    authority: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignedBy> {
    let fields = value.fields(&sections::KEY)?;
    if let Some(root) = &vouchers.log {
        vouchers.agree_with((root, "ctlog"), authority)?;
    }
    let hash = hash(&fields);
    if fields.has_later() {
        return None;
    }
    let data = fields.required("data", "write the public key in PEM")?;
    let key = signers::public_key("pem", &data, context.signers.checks)?;
    let rule = SignerRule {
        name: name.into(),
        kind: SignerKind::Key(KeyHolder {
            keys: vec![TimedKey {
                hash: Some(hash?),
                ..TimedKey::always(key)
            }],
            logged: vouchers.log.is_some(),
            timestamped: vouchers.timestamp.is_some(),
            root: vouchers.log.or(vouchers.timestamp),
        }),
        signed_identity: None,
    };
    Some(SignedBy {
        at_least: 1,
        of: vec![Arc::new(rule)],
    })
}

/// What signatures hash with: SHA-256 where nothing is said.
fn hash(key: &Fields<'_>) -> Option<HashAlgorithm> {
    let given = key.at("hashAlgorithm");
    let Some(value) = given.as_ref().filter(|value| value.as_text() != Some("")) else {
        return Some(HashAlgorithm::Sha256);
    };
    let name = value.text()?.trim().to_ascii_lowercase();
    foreign::hash_algorithm(value, &name)
}
