//! The payloads that are signed: in-toto statements and cosign's simple signing document.

use serde_json::{Value, json};

use crate::oci::{Algorithm, Digest};

use super::fault::Fault;
use super::signed::{Content, IN_TOTO};

/// The predicate type by which cosign marks a statement as a signature.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The predicate type under [`Fault::OtherPredicateType`].
const OTHER_PREDICATE_TYPE: &str = "https://sandbox.test/unasked/v1";
/// What the unreadable payload is.
const UNREADABLE: &[u8] = b"{\"_type\": \"https://in-toto.io/Statement/v1\", \"subject\": [";

/// The statement that `cosign sign` signs.
pub(super) fn signature(image: &Digest, faults: &[Fault]) -> Content {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(image, None, faults),
        "predicateType": predicate_type(COSIGN_SIGN, faults),
        "predicate": {},
    });
    envelope(&statement, faults)
}

/// The statement that `cosign attest` signs. It names the repository, which is a claim.
pub(super) fn attestation(
    image: &Digest,
    kind: &str,
    predicate: &Value,
    faults: &[Fault],
) -> Content {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": subjects(image, Some("registry.sandbox.test/app"), faults),
        "predicateType": predicate_type(kind, faults),
        "predicate": predicate,
    });
    envelope(&statement, faults)
}

/// The document that `cosign sign` signed before bundles, which names the image twice: by
/// reference, which is a claim, and by digest.
pub(super) fn simple_signing(image: &Digest, docker_reference: &str, faults: &[Fault]) -> Content {
    if faults.contains(&Fault::UnreadablePayload) {
        return Content::Message(UNREADABLE.to_vec());
    }
    let digest = if faults.contains(&Fault::OtherSubject) {
        other_image()
    } else {
        *image
    };
    let document = json!({
        "critical": {
            "identity": {"docker-reference": docker_reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    Content::Message(document.to_string().into_bytes())
}

fn envelope(statement: &Value, faults: &[Fault]) -> Content {
    let payload_type = if faults.contains(&Fault::OtherPayloadType) {
        "application/vnd.sandbox.test+json"
    } else {
        IN_TOTO
    };
    let payload = if faults.contains(&Fault::UnreadablePayload) {
        UNREADABLE.to_vec()
    } else {
        statement.to_string().into_bytes()
    };
    Content::Envelope {
        payload_type: payload_type.to_owned(),
        payload,
    }
}

fn predicate_type<'a>(kind: &'a str, faults: &[Fault]) -> &'a str {
    if faults.contains(&Fault::OtherPredicateType) {
        OTHER_PREDICATE_TYPE
    } else {
        kind
    }
}

fn subjects(image: &Digest, name: Option<&str>, faults: &[Fault]) -> Vec<Value> {
    let subject = |digest: &Digest| {
        let mut subject = json!({"digest": {digest.algorithm().as_str(): digest.hex()}});
        if let Some(name) = name {
            subject["name"] = name.into();
        }
        subject
    };
    if faults.contains(&Fault::NoSubject) {
        Vec::new()
    } else if faults.contains(&Fault::OtherSubject) {
        vec![subject(&other_image())]
    } else if faults.contains(&Fault::SecondSubject) {
        vec![subject(&other_image()), subject(image)]
    } else if faults.contains(&Fault::Sha512Subject) {
        // Whoever has only the image's SHA-256 cannot know whether this is the image.
        vec![subject(&Digest::of(Algorithm::Sha512, image.as_bytes()))]
    } else {
        vec![subject(image)]
    }
}

fn other_image() -> Digest {
    Digest::sha256(b"another image")
}
