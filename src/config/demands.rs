//! What a signer demands of keyless signatures beside the signature itself, lowered.

use crate::config::reader::Fields;
use crate::verify::Demands;
use crate::verify::Logged;

const WITHOUT_LOG: &str = "unsafe_without_transparency_log";
const WITHOUT_CERTIFICATE_TIMESTAMP: &str = "unsafe_without_certificate_timestamp";
const YES_OR_NO: &[(&str, bool)] = &[("true", true), ("false", false)];

/// Reads the demands of a keyless signer; `least` is what its trust root gives.
pub(super) fn lower(signer: &Fields<'_>, least: Demands) -> Option<Demands> {
    let mut demands = least;
    let mut whole = true;
    if let Some(value) = signer.at("transparency_log") {
        if value.text() == Some("not_required") {
            value.error(
                "a keyless signature needs the log, which would tell of a certificate that was \
                 issued to a thief",
                "remove the line, or write `unsafe_without_transparency_log: true`",
            );
            return None;
        }
        let words = [
            ("required", Logged::Promised),
            ("included", Logged::Included),
        ];
        demands.log = value.choice(&words);
        whole &= demands.log.is_some();
    }
    if let Some(value) = signer.at("timestamp") {
        match value.choice(&[("required", true), ("not_required", false)]) {
            Some(required) => demands.timestamp = required,
            None => whole = false,
        }
    }
    if let Some(value) = signer.at(WITHOUT_LOG) {
        match value.choice(YES_OR_NO) {
            Some(true) if signer.at("transparency_log").is_some() => {
                value.error(
                    "the signer asks for a transparency log and does without",
                    "keep one of the two",
                );
                return None;
            }
            Some(true) => {
                value.warn(
                    "signatures count without a transparency log, so nobody learns of those by a \
                     stolen login; a timestamp has to prove when they were made",
                    "keep it where the Sigstore has no log, or where signatures must stay private",
                );
                demands.log = None;
            }
            Some(false) => {}
            None => whole = false,
        }
    }
    if let Some(value) = signer.at(WITHOUT_CERTIFICATE_TIMESTAMP) {
        match value.choice(YES_OR_NO) {
            Some(true) => {
                value.warn(
                    "certificates count that no log of certificates holds, so nobody learns of \
                     those that were issued to a thief",
                    "keep it where the Sigstore has no such log",
                );
                demands.certificate_timestamp = false;
            }
            Some(false) => demands.certificate_timestamp = true,
            None => whole = false,
        }
    }
    whole.then_some(demands)
}

/// Refuses what has a meaning for logins only beside a signer by `other`.
pub(super) fn refuse(signer: &Fields<'_>, other: &str) {
    signer.refuse(
        &[WITHOUT_LOG, WITHOUT_CERTIFICATE_TIMESTAMP],
        "this is for keyless signers",
        &format!("remove the line; for {other} there is `transparency_log: not_required`"),
    );
}
