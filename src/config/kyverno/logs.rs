//! `rekor` and `ctlog`: which logs have to vouch for a signature.

use crate::config::kyverno::YES_OR_NO;
use crate::config::kyverno::sections;
use crate::config::reader::Fields;
use crate::config::reader::Value;

/// Whether a transparency log has to hold the signature.
pub(super) fn log(fields: &Fields<'_>) -> Option<bool> {
    let Some(value) = fields.at("rekor") else {
        return Some(true);
    };
    let rekor = value.fields(&sections::REKOR)?;
    let ignored = flag(&rekor, "ignoreTlog")?;
    if let Some(value) = rekor.at("pubkey")
        && !ignored
    {
        own_key(&value, "log's");
        return None;
    }
    Some(!ignored)
}

/// Whether a log of certificates has to hold the certificate. With a key there is none.
pub(super) fn certified(fields: &Fields<'_>, has_key: bool) -> Option<bool> {
    let Some(value) = fields.at("ctlog") else {
        return Some(true);
    };
    let ctlog = value.fields(&sections::CTLOG)?;
    let ignored = flag(&ctlog, "ignoreSCT")?;
    if let Some(value) = ctlog.at("pubkey")
        && !ignored
        && !has_key
    {
        own_key(&value, "certificate log's");
        return None;
    }
    Some(!ignored)
}

fn own_key(value: &Value<'_>, whose: &str) {
    value.error(
        &format!("not supported by this version: a {whose} key within a policy"),
        "make a trust root with the log, and name it as `default_trust_root`",
    );
}

fn flag(fields: &Fields<'_>, key: &'static str) -> Option<bool> {
    fields
        .at(key)
        .map_or(Some(false), |value| value.choice(YES_OR_NO))
}

/// Tells of logs that are done without.
pub(super) fn warn_of_less(fields: &Fields<'_>, log: bool, certified: bool) {
    if !log && let Some(value) = fields.at("rekor") {
        value.warn(
            "signatures count without a transparency log, so nobody learns of those by a stolen \
             login; a timestamp has to prove when they were made",
            "remove `ignoreTlog` where the Sigstore has a log",
        );
    }
    if !certified && let Some(value) = fields.at("ctlog") {
        value.warn(
            "certificates count that no log of certificates holds, so nobody learns of those that \
             were issued to a thief",
            "remove `ignoreSCT` where the Sigstore has such a log",
        );
    }
}
