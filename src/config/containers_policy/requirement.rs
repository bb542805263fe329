//! Policy requirements: what has to hold of an image, one object each.

use std::sync::Arc;

use crate::config::containers_policy::Reader;
use crate::config::containers_policy::authorities;
use crate::config::containers_policy::identity;
use crate::config::containers_policy::keys;
use crate::config::containers_policy::keys::Forms;
use crate::config::containers_policy::keys::Given;
use crate::config::containers_policy::sections;
use crate::config::gpg;
use crate::config::logs;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::signers;
use crate::policy::KeyHolder;
use crate::policy::Requirement;
use crate::policy::SignedBy;
use crate::policy::SignedIdentity;
use crate::policy::SignerKind;
use crate::policy::SignerRule;
use crate::verify::GpgKey;
use crate::verify::RootName;

#[derive(Clone, Copy)]
enum Form {
    InsecureAcceptAnything,
    Reject,
    SignedBy,
    SignedBaseLayer,
    SigstoreSigned,
}

const WORDS: &[(&str, Form)] = &[
    ("insecureAcceptAnything", Form::InsecureAcceptAnything),
    ("reject", Form::Reject),
    ("signedBy", Form::SignedBy),
    ("sigstoreSigned", Form::SigstoreSigned),
    ("signedBaseLayer", Form::SignedBaseLayer),
];

const GPG_KEYS: Forms = &["keyPath", "keyPaths", "keyData"];
const KEYS: Forms = &["keyPath", "keyPaths", "keyData", "keyDatas"];
/// Who may sign: keys, or whom an authority certifies.
const SOURCES: Forms = &[
    "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki",
];
const REKOR_KEYS: Forms = &[
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
];
const MEND_KEY: &str = "name the file with the public key: \"keyPath\": \"ops.pub\"";

/// Lowers a requirement on the images of a scope, which is `called` so in messages. `None` where
/// something is wrong with it, or where it has no effect here and is only looked at.
pub(super) fn lower(item: &Value<'_>, called: &str, reader: &Reader<'_>) -> Option<Requirement> {
    if !item.is_map() {
        item.fields(&sections::PLAIN)?;
    }
    let Some((_, word)) = item.peek("type") else {
        item.error("`type` is missing", "write { \"type\": \"reject\" }");
        return None;
    };
    match word.choice(WORDS)? {
        Form::InsecureAcceptAnything => {
            item.fields(&sections::PLAIN)?;
            Some(Requirement::AllowUnsigned {
                until: None,
                because: format!("policy.json accepts anything as {called}"),
            })
        }
        Form::Reject => {
            item.fields(&sections::PLAIN)?;
            let reason = format!("policy.json rejects {called}");
            Some(Requirement::Deny { reason })
        }
        Form::SignedBy => {
            let of = signed_by(&item.fields(&sections::SIGNED_BY)?, reader)?;
            Some(Requirement::signed_by(SignedBy { at_least: 1, of }))
        }
        Form::SigstoreSigned => {
            let of = sigstore_signed(&item.fields(&sections::SIGSTORE_SIGNED)?, reader)?;
            Some(Requirement::signed_by(SignedBy { at_least: 1, of }))
        }
        Form::SignedBaseLayer => {
            word.error(
                "containers/image knows this word and refuses every image for it",
                "write \"reject\" if that is what you mean, or remove the requirement",
            );
            None
        }
    }
}

fn signed_by(fields: &Fields<'_>, reader: &Reader<'_>) -> Option<Vec<Arc<SignerRule>>> {
    let key_type = fields.required("keyType", "write \"keyType\": \"GPGKeys\"");
    let key_type = key_type.and_then(|value| key_type_of(&value));
    let identity = identity::lower(fields);
    if !reader.has_effect {
        keys::has_shape(fields, GPG_KEYS, MEND_KEY)?;
        return None;
    }
    let given = keys::given(fields, GPG_KEYS, MEND_KEY)?;
    let keyrings: Vec<Vec<GpgKey>> = given
        .iter()
        .filter_map(|given| {
            let Given {
                value,
                place,
                bytes,
                ..
            } = given;
            gpg::keyring(value, place, bytes, &reader.context.signers)
        })
        .collect();
    key_type?;
    if keyrings.len() < given.len() {
        return None;
    }
    let kind = SignerKind::Gpg {
        keys: GpgKey::merged(keyrings.iter().flatten()),
    };
    Some(vec![rule(&told(&given), kind, identity?)])
}

fn key_type_of(value: &Value<'_>) -> Option<()> {
    const OTHERS: &[&str] = &["signedByGPGKeys", "X509Certificates", "signedByX509CAs"];
    if value.as_text().is_some_and(|text| OTHERS.contains(&text)) {
        value.error(
            "containers/image knows this word and refuses every image for it",
            "write \"GPGKeys\"",
        );
        return None;
    }
    value.choice(&[("GPGKeys", ())])
}

fn sigstore_signed(fields: &Fields<'_>, reader: &Reader<'_>) -> Option<Vec<Arc<SignerRule>>> {
    let identity = identity::lower(fields);
    let form = fields.exactly_one(SOURCES, MEND_KEY);
    let log = log(fields, reader);
    let (form, value) = form?;
    let rules = match form {
        "fulcio" => {
            if log == Some(None) {
                fields.value().error(
                    "`fulcio` stands without the key of a log",
                    "name it in `rekorPublicKeyPath`: the log proves when it was signed",
                );
            }
            let by = authorities::fulcio(&value, log.clone().flatten(), reader)?;
            vec![(form.to_owned(), SignerKind::CertifiedBy(by))]
        }
        "pki" => {
            if !matches!(log, Some(None)) {
                fields.value().error(
                    "`rekorPublicKey...` has no meaning beside `pki`",
                    "remove it",
                );
            }
            let by = authorities::pki(&value, reader)?;
            vec![(form.to_owned(), SignerKind::CertifiedBy(by))]
        }
        _ => by_keys(fields, log.clone().flatten().as_ref(), reader)?,
    };
    let (identity, _) = (identity?, log?);
    let rules = rules.into_iter();
    Some(
        rules
            .map(|(name, kind)| rule(&name, kind, identity.clone()))
            .collect(),
    )
}

/// The trust root with the logs that are given; `None` within where none is, which is right as
/// far as this goes.
#[expect(
    clippy::option_option,
    reason = "wrong, none and some are three things here"
)]
fn log(fields: &Fields<'_>, reader: &Reader<'_>) -> Option<Option<RootName>> {
    if REKOR_KEYS.iter().all(|key| fields.at(key).is_none()) {
        return Some(None);
    }
    if !reader.has_effect {
        keys::has_shape(fields, REKOR_KEYS, "keep one")?;
        return None;
    }
    let given = keys::given(fields, REKOR_KEYS, "keep one")?;
    let texts = given
        .iter()
        .map(|given| String::from_utf8_lossy(&given.bytes));
    let texts: Vec<_> = texts.collect();
    let keys = given.iter().zip(&texts);
    let keys: Vec<logs::Given<'_>> = keys
        .map(|(given, text)| logs::Given {
            value: &given.value,
            place: &given.place,
            text,
        })
        .collect();
    logs::root(&keys, &reader.context.signers).map(Some)
}

fn by_keys(
    fields: &Fields<'_>,
    log: Option<&RootName>,
    reader: &Reader<'_>,
) -> Option<Vec<(String, SignerKind)>> {
    if !reader.has_effect {
        keys::has_shape(fields, KEYS, MEND_KEY)?;
        return None;
    }
    let given = keys::given(fields, KEYS, MEND_KEY)?;
    let keys: Vec<(String, SignerKind)> = given
        .iter()
        .filter_map(|given| {
            let Given {
                value,
                place,
                name,
                bytes,
            } = given;
            let text = String::from_utf8_lossy(bytes);
            let key = signers::public_key_in(&text, place, value, reader.context.signers.checks)?;
            let log = log.cloned();
            Some((name.clone(), SignerKind::Key(KeyHolder::of(key, log))))
        })
        .collect();
    (keys.len() == given.len()).then_some(keys)
}

fn rule(name: &str, kind: SignerKind, identity: SignedIdentity) -> Arc<SignerRule> {
    Arc::new(SignerRule {
        name: name.into(),
        kind,
        signed_identity: Some(identity),
    })
}

/// What several sources are called together.
fn told(given: &[Given<'_>]) -> String {
    let names: Vec<&str> = given.iter().map(|given| given.name.as_str()).collect();
    match names.as_slice() {
        [first, second, third, more @ ..] if !more.is_empty() => {
            format!("{first}, {second}, {third} and {} more", more.len())
        }
        names => names.join(", "),
    }
}
