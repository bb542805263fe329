//! `signedIdentity`: the image that a signature must have been made for.

use crate::config::containers_policy::sections;
use crate::config::reader::Fields;
use crate::config::signed_identity;
use crate::policy::SignedIdentity;

#[derive(Clone, Copy)]
enum Form {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference,
    ExactRepository,
    RemapIdentity,
}

const WORDS: &[(&str, Form)] = &[
    ("matchExact", Form::MatchExact),
    ("matchRepoDigestOrExact", Form::MatchRepoDigestOrExact),
    ("matchRepository", Form::MatchRepository),
    ("exactReference", Form::ExactReference),
    ("exactRepository", Form::ExactRepository),
    ("remapIdentity", Form::RemapIdentity),
];

/// Lowers the `signedIdentity` of a requirement, or what holds without.
pub(super) fn lower(requirement: &Fields<'_>) -> Option<SignedIdentity> {
    let Some(value) = requirement.at("signedIdentity") else {
        return Some(SignedIdentity::MatchRepoDigestOrExact);
    };
    let Some((_, word)) = value.peek("type") else {
        value.error(
            "`type` is missing",
            "write { \"type\": \"matchRepository\" }",
        );
        return None;
    };
    match word.choice(WORDS)? {
        Form::MatchExact => {
            value.fields(&sections::MATCH)?;
            word.warn(
                "docker and containerd look a tag up and then ask for its digest, which is refused \
                 where the signature was made for the tag",
                "write matchRepoDigestOrExact, unless all who pull are podman, skopeo or CRI-O",
            );
            Some(SignedIdentity::MatchExact)
        }
        Form::MatchRepoDigestOrExact => value
            .fields(&sections::MATCH)
            .map(|_| SignedIdentity::MatchRepoDigestOrExact),
        Form::MatchRepository => value
            .fields(&sections::MATCH)
            .map(|_| SignedIdentity::MatchRepository),
        Form::ExactReference => {
            let fields = value.fields(&sections::EXACT_REFERENCE)?;
            let given = fields.required("dockerReference", "write REGISTRY/REPOSITORY:TAG");
            signed_identity::reference(&given?).map(SignedIdentity::ExactReference)
        }
        Form::ExactRepository => {
            let fields = value.fields(&sections::EXACT_REPOSITORY)?;
            let given = fields.required("dockerRepository", "write REGISTRY/REPOSITORY");
            signed_identity::repository(&given?).map(SignedIdentity::ExactRepository)
        }
        Form::RemapIdentity => {
            let fields = value.fields(&sections::REMAP_IDENTITY)?;
            let prefix = fields.required("prefix", "write what images are pulled by");
            let signed = fields.required("signedPrefix", "write what signatures have instead");
            let prefix = prefix.and_then(|value| signed_identity::prefix(&value));
            let signed = signed.and_then(|value| signed_identity::prefix(&value));
            Some(SignedIdentity::RemapIdentity {
                prefix: prefix?,
                signed_prefix: signed?,
            })
        }
    }
}
