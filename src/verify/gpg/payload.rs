//! The payload of a simple signature: JSON that is read as containers/image reads it, so that
//! nothing in it can mean one thing here and another there.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::oci::Digest;

/// The `type` that containers/image writes into its payloads.
const PAYLOAD_TYPE: &str = "atomic container signature";
/// The longest image name in bytes. Facts are kept, and this is anybody's text.
const DOCKER_REFERENCE_BYTES_MAX: usize = 1024;
/// The most members of `optional`.
const OPTIONAL_MAX: usize = 64;

/// A payload. Whatever `critical` has beside these members could restrict what the signature is
/// good for, so it makes the signature invalid.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[expect(dead_code, reason = "read for its form: it says nothing that counts")]
    optional: Optional,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    payload_type: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

/// Members that nobody has to understand. Two of them are known, and have a type.
struct Optional;

impl<'de> Deserialize<'de> for Optional {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Optional;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Optional, A::Error> {
        let mut seen = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "creator" => drop(map.next_value::<String>()?),
                "timestamp" => {
                    let seconds = map.next_value::<f64>()?;
                    if seconds.fract() != 0.0 {
                        return Err(A::Error::custom("optional.timestamp is not an integer"));
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if seen.insert(key, ()).is_some() || seen.len() > OPTIONAL_MAX {
                return Err(A::Error::custom("optional has a member twice, or too many"));
            }
        }
        Ok(Optional)
    }
}

/// The image that a payload names, where it is about `digest`.
pub(super) fn claims(payload: &[u8], digest: &Digest) -> Result<String, String> {
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| format!("the signed payload does not parse: {error}"))?;
    let critical = payload.critical;
    if critical.payload_type != PAYLOAD_TYPE {
        let found = critical.payload_type;
        return Err(format!("the payload is of the type {found:?}"));
    }
    let named = critical.image.docker_manifest_digest;
    if named.parse() != Ok(*digest) {
        return Err(format!("it was signed for another digest, {named:.128}"));
    }
    let reference = critical.identity.docker_reference;
    if reference.is_empty() || reference.len() > DOCKER_REFERENCE_BYTES_MAX {
        return Err("the image that the payload names has no name, or too long a one".to_owned());
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(optional: &str, more_critical: &str, more: &str) -> Vec<u8> {
        let digest = Digest::sha256(b"image");
        format!(
            r#"{{"critical": {{"type": "atomic container signature",
                "image": {{"docker-manifest-digest": "{digest}"}},
                "identity": {{"docker-reference": "a.test/b:v1"}}{more_critical}}},
              "optional": {optional}{more}}}"#
        )
        .into_bytes()
    }

    fn read(payload: &[u8]) -> Result<String, String> {
        claims(payload, &Digest::sha256(b"image"))
    }

    #[test]
    fn payloads_are_read_as_their_own_engine_reads_them() {
        let good = read(&payload(
            r#"{"creator": "atomic 5", "timestamp": 1700000000}"#,
            "",
            "",
        ));
        assert_eq!(good.as_deref(), Ok("a.test/b:v1"));
        assert!(read(&payload("{}", "", "")).is_ok());
        assert!(read(&payload(r#"{"anything": [1, {}]}"#, "", "")).is_ok());
    }

    #[test]
    fn what_could_restrict_a_signature_makes_it_invalid() {
        for bad in [
            payload("{}", r#", "only": "on mondays""#, ""),
            payload("{}", "", r#", "more": 1"#),
            payload("{}", r#", "type": "atomic container signature""#, ""),
            payload("{}", "", r#", "optional": {}"#),
            payload("{}", "", r#", "Critical": {}"#),
            payload("null", "", ""),
            payload("[]", "", ""),
            payload(r#"{"creator": 1}"#, "", ""),
            payload(r#"{"timestamp": "x"}"#, "", ""),
            payload(r#"{"timestamp": 1.5}"#, "", ""),
            payload(r#"{"a": 1, "a": 2}"#, "", ""),
            [payload("{}", "", ""), b"{}".to_vec()].concat(),
            b"{}".to_vec(),
            b"".to_vec(),
        ] {
            let text = String::from_utf8_lossy(&bad);
            assert!(read(&bad).is_err(), "{text}");
        }
    }

    #[test]
    fn a_payload_about_another_digest_proves_nothing() {
        let why = claims(&payload("{}", "", ""), &Digest::sha256(b"other"));
        assert!(why.is_err_and(|why| why.contains("another digest")));
        let text = String::from_utf8(payload("{}", "", "")).expect("JSON");
        let cosign = text.replace("atomic container", "cosign container image");
        assert!(read(cosign.as_bytes()).is_err());
    }
}
