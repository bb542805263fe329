//! `key`, lowered: signers who hold keys, each for as long as it is given.

use crate::config::demands;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::schema::Section;
use crate::config::signers;
use crate::config::signers::Context;
use crate::config::units;
use crate::policy::KeyHolder;
use crate::policy::SignerKind;
use crate::policy::TimedKey;
use crate::verify::HashAlgorithm;

const FORMS: &str = "write { file: key.pub }, or { pem: \"-----BEGIN PUBLIC KEY-----...\" }";

/// Lowers `key` of the signer whose keys are `signer`: one key, or a list of them.
pub(super) fn lower(
    value: &Value<'_>,
    signer: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignerKind> {
    demands::refuse(signer, "a key");
    let logged = signer.at("transparency_log").map_or(Some(true), |value| {
        value.choice(&[("required", true), ("not_required", false)])
    });
    let timestamped = signer.at("timestamp").map_or(Some(false), |value| {
        value.choice(&[("required", true), ("not_required", false)])
    });
    let section: &'static Section = match value.is_list() {
        true => &schema::KEYS,
        false => &schema::KEY,
    };
    let items = match value.is_list() {
        true => value.filled_list("give at least one key")?,
        false => vec![value.clone()],
    };
    let fields: Vec<Fields<'_>> = items
        .iter()
        .map(|item| item.fields(section))
        .collect::<Option<_>>()?;
    let keys: Vec<Option<TimedKey>> = fields
        .iter()
        .map(|fields| timed_key(fields, context))
        .collect();
    let named = match fields.as_slice() {
        [only] if !value.is_list() => signer.at("trust_root").or_else(|| only.at("trust_root")),
        _ => signer.at("trust_root"),
    };
    let asks_who_saw = logged.unwrap_or(true) || timestamped.unwrap_or(true);
    let bounded = keys.iter().flatten().any(TimedKey::is_bounded);
    if let (false, false, Some(value)) = (asks_who_saw, bounded, &named) {
        value.warn(
            "the trust root has no use where no transparency log is required",
            "remove the line, or `transparency_log: not_required`",
        );
    }
    // Without a log and a timestamp, only windows ask when something was signed.
    let asks = asks_who_saw || (bounded && named.is_some());
    let root = asks.then(|| match fields.as_slice() {
        [only] if !value.is_list() => signers::root(signer, only, context),
        _ => match &named {
            Some(value) => signers::named_root(value, context),
            None => Some(context.roots.default_root()),
        },
    });
    let keys: Vec<TimedKey> = keys.into_iter().collect::<Option<_>>()?;
    refuse_twice(&keys, &items)?;
    Some(SignerKind::Key(KeyHolder {
        keys,
        root: whole(root)?,
        logged: logged?,
        timestamped: timestamped?,
    }))
}

fn timed_key(fields: &Fields<'_>, context: &Context<'_>) -> Option<TimedKey> {
    let key = fields
        .exactly_one(&["file", "pem"], FORMS)
        .and_then(|(form, value)| signers::public_key(form, &value, context.checks));
    let hash = fields.at("hash_algorithm").map(|value| {
        let words = HashAlgorithm::ALL.iter().map(|hash| (hash.as_str(), *hash));
        value.choice(&words.collect::<Vec<_>>())
    });
    let not_before = fields
        .at("not_before")
        .map(|value| value.parsed(units::start, units::START_MEND));
    let not_after = fields
        .at("not_after")
        .map(|value| value.parsed(units::end, units::DATE_MEND));
    let (not_before, not_after) = (whole(not_before)?, whole(not_after)?);
    if let (Some(first), Some(end), Some(value)) = (not_before, not_after, fields.at("not_after"))
        && end <= first
    {
        value.error(
            "the key's window ends before it begins, so nothing that it signed can count",
            "give a `not_after` behind `not_before`",
        );
        return None;
    }
    Some(TimedKey {
        key: key?,
        hash: whole(hash)?,
        not_before,
        not_after,
    })
}

fn refuse_twice(keys: &[TimedKey], items: &[Value<'_>]) -> Option<()> {
    for (at, (key, item)) in keys.iter().zip(items).enumerate() {
        if keys[..at].iter().any(|earlier| earlier.key == key.key) {
            item.error("this key stands twice", "keep one of the two");
            return None;
        }
    }
    Some(())
}
