//! What passes as evidence has to be evidence, byte by byte: its manifest leaves unjudged, so
//! every blob that it lists is read first. Otherwise an unsigned image could be put together
//! from the layers of signed ones, called signatures, and a config of anybody's making; not all
//! runtimes look at the media types of layers.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::content::ContentKey;
use crate::evidence::Failure;
use crate::gate::Ask;
use crate::gate::Gate;
use crate::gate::refusal::{Cause, Doubt};
use crate::oci::Digest;
use crate::oci::Manifest;
use crate::oci::Reference;
use crate::oci::media_type;
use crate::oci::media_type::EvidenceForm;
use crate::upstream::Upstream;
use crate::upstream::UpstreamError;

impl Gate {
    /// Whether a manifest, and all that it lists, is evidence. The answer is one about bytes of a
    /// known digest, so it is remembered.
    ///
    /// # Errors
    /// The [`Cause`] where the upstream does not say.
    pub(super) async fn is_evidence(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        manifest: &Manifest,
    ) -> Result<bool, Cause> {
        let limits = &self.0.settings.evidence;
        let few_enough = manifest.descriptors().count() <= limits.artifacts_max + 1;
        if !manifest.is_evidence() || !few_enough {
            return Ok(false);
        }
        if let Some(known) = self.0.disguises.get(key) {
            return Ok(known);
        }
        let read = async {
            // What is checked is held in memory, so few are at a time.
            let _place = self.0.disguise_places.acquire().await;
            self.read_evidence(upstream, key, manifest).await
        };
        match tokio::time::timeout(limits.deadline, read).await {
            Ok(Ok(is_evidence)) => {
                self.0.disguises.insert(key.clone(), is_evidence);
                Ok(is_evidence)
            }
            // Not there, or too large: then it is judged like any other image.
            Ok(Err(
                UpstreamError::NotFound
                | UpstreamError::TooLarge { .. }
                | UpstreamError::WrongBytes { .. },
            )) => Ok(false),
            Ok(Err(error)) => Err(Cause::of_upstream(&error)),
            Err(_) => {
                let text = Failure::Deadline(limits.deadline).to_string();
                Err(Cause::new(Doubt::EvidenceUnavailable, text))
            }
        }
    }

    /// Whether this is the list of referrers that a registry without a referrers API keeps
    /// under the tag `sha256-<hex>` (distribution-spec, "Referrers Tag Schema"): every manifest
    /// it lists was read and proves to be evidence. Whoever hangs something else in, gets the
    /// list judged like any other index.
    pub(super) async fn lists_only_evidence(
        &self,
        upstream: &Upstream,
        ask: &Ask,
        manifest: &Manifest,
    ) -> bool {
        let Reference::Tag(tag) = &ask.reference else {
            return false;
        };
        let named = tag.as_str().replacen('-', ":", 1).parse::<Digest>().is_ok();
        let Some(index) = manifest.as_index().filter(|_| named) else {
            return false;
        };
        if index.manifests.len() > self.0.settings.evidence.artifacts_max {
            return false;
        }
        let are_evidence = join_all(index.manifests.iter().map(|listed| async move {
            let key = ContentKey::of(&ask.image, listed.digest);
            let document = self.0.content.manifest(upstream, &key).await;
            document.is_ok_and(|document| document.manifest().is_ok_and(Manifest::is_evidence))
        }));
        are_evidence
            .await
            .into_iter()
            .all(|is_evidence| is_evidence)
    }

    async fn read_evidence(
        &self,
        upstream: &Upstream,
        key: &ContentKey,
        manifest: &Manifest,
    ) -> Result<bool, UpstreamError> {
        let mut left = self.0.settings.evidence_bytes_max;
        for listed in manifest.descriptors() {
            let key = ContentKey {
                digest: listed.digest,
                ..key.clone()
            };
            let bytes = self.0.content.whole_blob(upstream, &key, left).await?;
            if !has_form(&bytes, form_of(manifest, &listed.digest)) {
                return Ok(false);
            }
            left = left.saturating_sub(bytes.len() as u64);
        }
        Ok(true)
    }
}

/// What a blob of evidence has to be. A config is JSON, as is a digest that is
/// listed as several things.
fn form_of(manifest: &Manifest, digest: &Digest) -> EvidenceForm {
    let layers = manifest
        .as_image()
        .map(|image| image.layers.as_slice())
        .unwrap_or_default();
    let is_text =
        |media_type: &str| media_type::evidence_form(media_type) == Some(EvidenceForm::Text);
    let mut listed = layers.iter().filter(|layer| layer.digest == *digest);
    match listed.next() {
        Some(layer) if is_text(&layer.media_type) && listed.next().is_none() => EvidenceForm::Text,
        _ => EvidenceForm::Json,
    }
}

/// Whether bytes can be evidence. A layer that runs is a tar archive, mostly compressed; so that
/// nobody gets one out by calling it a signature.
fn has_form(bytes: &Bytes, form: EvidenceForm) -> bool {
    // The JSON reader does not look at the encoding of what it skips.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    !is_archive(bytes)
        && match form {
            EvidenceForm::Json => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
            EvidenceForm::Text => text
                .chars()
                .all(|character| !character.is_control() || "\t\r\n".contains(character)),
        }
}

/// Whether bytes begin with the header of a tar archive, which is one when its checksum is
/// right. An old one need not have a zero byte, and can be text, or a JSON array, as well.
fn is_archive(bytes: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(header) = bytes.get(..512) else {
        return false;
    };
    let blank = |byte: &u8| matches!(byte, 0 | b' ');
    let stated = header[CHECKSUM]
        .iter()
        .skip_while(|byte| blank(byte))
        .take_while(|byte| !blank(byte))
        .try_fold(0_i64, |sum, byte| {
            matches!(byte, b'0'..=b'7').then(|| sum * 8 + i64::from(byte - b'0'))
        });
    let sum = |value: fn(u8) -> i64| -> i64 {
        let others = header[..CHECKSUM.start]
            .iter()
            .chain(&header[CHECKSUM.end..]);
        others.map(|byte| value(*byte)).sum::<i64>() + 8 * i64::from(b' ')
    };
    // Some old writers summed signed bytes.
    stated.is_some_and(|stated| {
        stated == sum(i64::from) || stated == sum(|byte| i64::from(byte.cast_signed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_no_evidence() {
        let mut tar = vec![0_u8; 1024];
        tar[..4].copy_from_slice(b"file");
        for bytes in [Bytes::from(tar), Bytes::from_static(&[0x1f, 0x8b, 8, 0])] {
            assert!(!has_form(&bytes, EvidenceForm::Json));
            assert!(!has_form(&bytes, EvidenceForm::Text));
        }
        let broken = Bytes::from_static(b"[\"\xff\"]");
        assert!(!has_form(&broken, EvidenceForm::Json));
        assert!(has_form(&Bytes::from_static(b"{}"), EvidenceForm::Json));
        assert!(has_form(
            &Bytes::from_static(b"SPDXVersion: 2.3\n"),
            EvidenceForm::Text
        ));
    }

    /// A tar archive that is a JSON document as well, and text: an old header without a zero
    /// byte, a file of one line, and no end.
    #[test]
    fn an_archive_in_disguise_is_no_evidence() {
        let mut header = [b' '; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, "[\"");
        put(100, " 000755 ");
        put(124, "00000000777 ");
        put(156, "0");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}  ").as_bytes());
        let mut bytes = header.to_vec();
        bytes.resize(1022, b'x');
        bytes.extend_from_slice(b"\"]");
        let bytes = Bytes::from(bytes);
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        assert!(!has_form(&bytes, EvidenceForm::Json));
        assert!(!has_form(&bytes, EvidenceForm::Text));
    }
}
