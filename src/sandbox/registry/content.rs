//! What a registry holds: repositories with blobs, manifests and tags.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::oci::{Descriptor, Digest, Reference, media_type};

/// All repositories.
#[derive(Default)]
pub(super) struct Content {
    repositories: HashMap<String, Contents>,
}

/// One repository. Sorted, since tag lists are and pages need an order.
#[derive(Default)]
pub(super) struct Contents {
    blobs: HashMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, Stored>,
    tags: BTreeMap<String, Digest>,
}

/// A manifest with what its own bytes say about it.
struct Stored {
    bytes: Bytes,
    subject: Option<Digest>,
    /// What an index says that lists this manifest.
    descriptor: Descriptor,
}

/// As much of a manifest as a registry reads. Bytes that do not fit are stored all the same.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

impl Content {
    /// A repository to write to; it is made where there is none.
    pub(super) fn repository(&mut self, name: &str) -> &mut Contents {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// A repository to read from.
    pub(super) fn find(&self, name: &str) -> Option<&Contents> {
        self.repositories.get(name)
    }
}

impl Contents {
    pub(super) fn put_blob(&mut self, bytes: Bytes) -> Digest {
        let digest = Digest::sha256(&bytes);
        self.blobs.insert(digest, bytes);
        digest
    }

    pub(super) fn put_manifest(&mut self, media_type: &str, bytes: Bytes) -> Digest {
        let digest = Digest::sha256(&bytes);
        let claims: Claims = serde_json::from_slice(&bytes).unwrap_or_default();
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations: claims.annotations,
            // An image is an artifact of its config's type, where it says nothing else
            // (distribution-spec, "Listing Referrers").
            artifact_type: claims
                .artifact_type
                .or(claims.config.map(|config| config.media_type)),
            platform: None,
        };
        let stored = Stored {
            bytes,
            subject: claims.subject.map(|subject| subject.digest),
            descriptor,
        };
        self.manifests.insert(digest, stored);
        digest
    }

    pub(super) fn tag(&mut self, tag: &str, digest: Digest) {
        self.tags.insert(tag.to_owned(), digest);
    }

    pub(super) fn untag(&mut self, tag: &str) {
        self.tags.remove(tag);
    }

    pub(super) fn delete(&mut self, digest: &Digest) {
        self.manifests.remove(digest);
        self.blobs.remove(digest);
    }

    /// Does what clients do that push `referrer` to a registry without a referrers API: the
    /// tag `sha256-<hex>` of its subject becomes an index of all referrers.
    pub(super) fn update_fallback_tag(&mut self, referrer: &Digest) {
        let stored = self.manifests.get(referrer);
        let Some(subject) = stored.and_then(|stored| stored.subject) else {
            return;
        };
        let referrers: Vec<_> = self.referrers(&subject, None).collect();
        let index = self.put_manifest(media_type::OCI_INDEX, index_of(&referrers));
        self.tag(&subject.to_string().replace(':', "-"), index);
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<&Bytes> {
        self.blobs.get(digest)
    }

    /// The manifest that a reference leads to: its descriptor and bytes.
    pub(super) fn manifest(&self, reference: &Reference) -> Option<(&Descriptor, &Bytes)> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag.as_str())?,
            Reference::Digest(digest) => digest,
        };
        let stored = self.manifests.get(digest)?;
        Some((&stored.descriptor, &stored.bytes))
    }

    /// The tags after `last`, sorted.
    pub(super) fn tags(&self, last: Option<&str>) -> impl Iterator<Item = &str> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let tags = self.tags.range::<str, _>((after, Bound::Unbounded));
        tags.map(|(tag, _)| tag.as_str())
    }

    /// The manifests whose subject is `subject`, after `last`, sorted by digest.
    pub(super) fn referrers(
        &self,
        subject: &Digest,
        last: Option<Digest>,
    ) -> impl Iterator<Item = &Descriptor> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.manifests
            .range((after, Bound::Unbounded))
            .filter(move |(_, stored)| stored.subject.as_ref() == Some(subject))
            .map(|(_, stored)| &stored.descriptor)
    }
}

/// The bytes of an index that lists `descriptors`.
pub(super) fn index_of<T: serde::Serialize>(descriptors: &[T]) -> Bytes {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": descriptors,
    });
    index.to_string().into()
}
