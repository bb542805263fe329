//! `gpg`, lowered: signers who hold OpenPGP keys.

use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::signers::Context;
use crate::policy::SignerKind;
use crate::verify::GpgKey;
use crate::verify::KeyringError;

/// Lowers `gpg` of the signer whose keys are `signer`.
pub(super) fn lower(
    value: &Value<'_>,
    signer: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SignerKind> {
    signer.refuse(
        &[
            "transparency_log",
            "trust_root",
            "timestamp",
            "unsafe_without_transparency_log",
            "unsafe_without_certificate_timestamp",
        ],
        "GPG signatures are in no transparency log, and no trust root proves them",
        "remove the line; it is for cosign's signatures",
    );
    let fields = value.fields(&schema::GPG)?;
    let (form, given) = fields.exactly_one(
        &["file", "armored"],
        "write { file: keys.asc }, or { armored: \"-----BEGIN PGP PUBLIC KEY BLOCK-----...\" }",
    )?;
    let keys = if form == "file" {
        let (path, bytes) = given.file()?;
        keyring(&given, &format!("{}: ", path.display()), &bytes, context)?
    } else {
        keyring(&given, "", given.text()?.as_bytes(), context)?
    };
    Some(SignerKind::Gpg { keys })
}

/// The keys of a keyring. What is wrong with it is told at `value`, after `place`.
pub(super) fn keyring(
    value: &Value<'_>,
    place: &str,
    bytes: &[u8],
    context: &Context<'_>,
) -> Option<Vec<GpgKey>> {
    let keys = match (context.checks.gpg)(bytes) {
        Ok(keys) => keys,
        Err(error) => {
            let mend = match error {
                KeyringError::Private => {
                    "give the public keys only (gpg --export --armor), and keep the private one \
                     away from here"
                }
                KeyringError::StrayRevocation(_) => {
                    "add the key that it revokes, or remove the revocation"
                }
                KeyringError::TooMany => "give only the keys of this signer",
                KeyringError::Malformed(_) | KeyringError::Empty | KeyringError::Unusable(..) => {
                    "give a keyring as `gpg --export --armor KEY` writes it"
                }
            };
            value.error(&format!("{place}{error}"), mend);
            return None;
        }
    };
    let standings = keys.iter().map(|key| key.standing_of_primary(context.now));
    let useless: Vec<String> = standings.filter_map(Result::err).collect();
    for why in &useless {
        value.warn(
            &format!("{place}{why}, so nothing that it signed counts"),
            "replace the key, or remove it",
        );
    }
    Some(keys)
}
