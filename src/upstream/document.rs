//! Documents, read whole: manifests, lists of referrers, lists of tags.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    MalformedAnswer, RedirectRefusal, Stage, Upstream, UpstreamError,
    authorize::Kind,
    body::Patient,
    link::{Next, next},
    order::Session,
    query::Query,
};
use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::Reference;
use crate::oci::Repository;
use crate::oci::Tag;
use crate::oci::media_type;

/// A manifest as it came. By digest, its bytes are those of the digest.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// The bytes to judge and to serve.
    pub bytes: Bytes,
    /// The Content-Type it came with: a claim.
    pub content_type: Option<String>,
}

/// What a registry lists as referring to a digest. All of it claims.
#[derive(Debug, Clone)]
pub struct Referrers {
    /// The descriptors, those that parse.
    pub descriptors: Vec<Descriptor>,
    /// True when there are more than were read, because of a limit or because the next page
    /// could not be followed.
    pub truncated: bool,
}

/// A page of a repository's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPage {
    /// The tags, those that are valid.
    pub tags: Vec<String>,
    /// True when there are more, to be asked for with `last`.
    pub more: bool,
}

/// A document and the headers it came with.
struct Answer {
    headers: HeaderMap,
    bytes: Bytes,
}

impl Upstream {
    /// The manifest behind a tag or digest. Where it is a digest, the bytes are hashed.
    ///
    /// # Errors
    /// [`UpstreamError`]; other bytes than asked for are [`UpstreamError::WrongBytes`].
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<FetchedManifest, UpstreamError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self
            .in_order(|session| {
                let path = session.settings.url.path(&path);
                async move {
                    let limit = session.settings.limits.manifest_bytes_max;
                    let accept = Some(media_type::ACCEPT_MANIFESTS);
                    let answer = session.document(repository, &path, accept, limit);
                    session.within_deadline(Stage::Document, answer).await
                }
            })
            .await?;
        if let Reference::Digest(expected) = reference {
            let found = Digest::of(expected.algorithm(), &answer.bytes);
            if found != *expected {
                return Err(UpstreamError::WrongBytes {
                    expected: Box::new(*expected),
                    found: Box::new(found),
                });
            }
        }
        Ok(FetchedManifest {
            content_type: content_type(&answer.headers).map(str::to_owned),
            bytes: answer.bytes,
        })
    }

    /// What the referrers API lists for `digest`: up to `max` descriptors from all pages,
    /// asked for without an artifactType filter, which registries apply to claims.
    ///
    /// # Errors
    /// [`UpstreamError::NotFound`] where the registry has no such API: it answers 400, 404,
    /// 405 or 406, sends something else than an index, or redirects to another host, as
    /// ghcr.io does. All else is a failure that says nothing about referrers.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        max: usize,
    ) -> Result<Referrers, UpstreamError> {
        self.in_order(|session| async move {
            let pages = session.referrers(repository, digest, max);
            session.within_deadline(Stage::Document, pages).await
        })
        .await
    }

    /// Whether a manifest is there, and may be read by whoever asks.
    ///
    /// # Errors
    /// [`UpstreamError`], most of all [`UpstreamError::NotFound`] and
    /// [`UpstreamError::Unauthorized`].
    pub async fn has_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), UpstreamError> {
        self.head(repository, reference).await.map(drop)
    }

    /// What the registry says that the digest behind a reference is, by HEAD, which registries that count
    /// pulls do not count; `None` where it says none. A claim: of use to whoever has bytes of this
    /// digest, and nobody else.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn claimed_digest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>, UpstreamError> {
        let headers = self.head(repository, reference).await?;
        let claimed = headers.get("docker-content-digest");
        Ok(claimed.and_then(|claimed| claimed.to_str().ok()?.parse().ok()))
    }

    async fn head(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<HeaderMap, UpstreamError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.in_order(|session| {
            let path = session.settings.url.path(&path);
            async move {
                let _place = session.place(&session.documents).await?;
                let mut request = session.request(Method::HEAD, &path)?;
                let accept = HeaderValue::from_static(media_type::ACCEPT_MANIFESTS);
                request.headers_mut().insert(header::ACCEPT, accept);
                let answer = session.follow(Kind::Document, repository, request);
                let answer = session.within_deadline(Stage::Answer, answer).await?;
                Ok(answer.into_parts().0.headers)
            }
        })
        .await
    }

    /// Whether the registry knows whoever asks: an answer that is no error says yes. A registry
    /// that is open to all says so to anybody.
    ///
    /// # Errors
    /// [`UpstreamError`], most of all [`UpstreamError::Unauthorized`].
    pub async fn knows_asker(&self) -> Result<(), UpstreamError> {
        self.in_order(|session| async move {
            let known = session.is_known();
            session.within_deadline(Stage::Document, known).await
        })
        .await
    }

    /// A page of the repository's tags: `n` at most where given, those after `last`.
    ///
    /// # Errors
    /// [`UpstreamError`], most of all [`UpstreamError::NotFound`].
    pub async fn tags(
        &self,
        repository: &Repository,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<TagPage, UpstreamError> {
        self.in_order(|session| async move {
            let page = session.tags(repository, n, last);
            session.within_deadline(Stage::Document, page).await
        })
        .await
    }
}

impl Session {
    async fn tags(
        &self,
        repository: &Repository,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<TagPage, UpstreamError> {
        #[derive(Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let mut query = Query::default();
        if let Some(n) = n {
            query.push("n", &n.to_string());
        }
        if let Some(last) = last {
            query.push("last", last);
        }
        let path = format!("/v2/{repository}/tags/list");
        let path = self.settings.url.path(&path);
        let page = query.behind(&path);
        let limit = self.settings.limits.list_bytes_max;
        let answer = self.document(repository, &page, None, limit).await?;
        let list: List = serde_json::from_slice(&answer.bytes).map_err(|_| not_json())?;
        let mut tags = list.tags.unwrap_or_default();
        tags.retain(|tag| Tag::is_valid(tag));
        let asked_for = n.map_or(usize::MAX, |n| n as usize);
        let more =
            tags.len() > asked_for || next(&answer.headers, self.origin(), &path) != Next::None;
        tags.truncate(asked_for);
        Ok(TagPage { tags, more })
    }

    async fn document(
        &self,
        repository: &Repository,
        path_and_query: &str,
        accept: Option<&'static str>,
        bytes_max: usize,
    ) -> Result<Answer, UpstreamError> {
        let _place = self.place(&self.documents).await?;
        let mut request = self.request(Method::GET, path_and_query)?;
        if let Some(accept) = accept {
            let accept = HeaderValue::from_static(accept);
            request.headers_mut().insert(header::ACCEPT, accept);
        }
        let answer = self.follow(Kind::Document, repository, request).await?;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            return Err(UpstreamError::Malformed(MalformedAnswer::Range));
        }
        let (head, body) = answer.into_parts();
        let body = Patient::new(body, &self.settings.host, &self.settings.limits);
        Ok(Answer {
            headers: head.headers,
            bytes: body.collect(bytes_max).await?,
        })
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        max: usize,
    ) -> Result<Referrers, UpstreamError> {
        let path = format!("/v2/{repository}/referrers/{digest}");
        let path = self.settings.url.path(&path);
        let mut descriptors = Vec::new();
        let mut bytes_left = self.settings.limits.list_bytes_max;
        let mut page = path.clone();
        for number in 0..self.settings.limits.pages_max {
            let answer = self.referrers_page(repository, &page, bytes_left).await;
            let answer = match answer {
                // The first page was there, so the API is: this is not its absence.
                Err(UpstreamError::NotFound) if number > 0 => {
                    return Err(UpstreamError::Malformed(MalformedAnswer::Page));
                }
                other => other?,
            };
            bytes_left -= answer.bytes.len();
            let full = !take_descriptors(&answer.bytes, max, &mut descriptors)?;
            match next(&answer.headers, self.origin(), &path) {
                Next::Page(next) if !full => page = next.to_string(),
                end => {
                    let truncated = full || end != Next::None;
                    return Ok(Referrers {
                        descriptors,
                        truncated,
                    });
                }
            }
        }
        Ok(Referrers {
            descriptors,
            truncated: true,
        })
    }

    /// One page, where the answer is one of the referrers API at all.
    async fn referrers_page(
        &self,
        repository: &Repository,
        page: &str,
        bytes_max: usize,
    ) -> Result<Answer, UpstreamError> {
        let accept = Some(media_type::OCI_INDEX);
        match self.document(repository, page, accept, bytes_max).await {
            Ok(answer) => content_type(&answer.headers)
                .and_then(|sent_as| sent_as.split(';').next())
                .filter(|essence| essence.trim().eq_ignore_ascii_case(media_type::OCI_INDEX))
                .is_some()
                .then_some(answer)
                .ok_or(UpstreamError::NotFound),
            Err(
                UpstreamError::Status(400 | 405 | 406)
                | UpstreamError::RefusedRedirect {
                    reason: RedirectRefusal::AnotherHost,
                    ..
                },
            ) => Err(UpstreamError::NotFound),
            Err(other) => Err(other),
        }
    }
}

/// Adds the descriptors of a page, up to `max` in all; false when that was too few.
pub(super) fn take_descriptors(
    page: &[u8],
    max: usize,
    descriptors: &mut Vec<Descriptor>,
) -> Result<bool, UpstreamError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        manifests: Option<&'a RawValue>,
    }
    let page: Page<'_> = serde_json::from_slice(page).map_err(|_| not_json())?;
    let Some(manifests) = page.manifests else {
        return Ok(true);
    };
    let take = TakeDescriptors { max, descriptors };
    serde_json::Deserializer::from_str(manifests.get())
        .deserialize_seq(take)
        .map_err(|_| not_json())
}

/// Reads an array without keeping more of it than asked for, so that a page of a million
/// entries costs no more than its bytes. Entries that do not parse are skipped: one bad
/// neighbour must not hide the others (THREATS B10).
struct TakeDescriptors<'a> {
    max: usize,
    descriptors: &'a mut Vec<Descriptor>,
}

impl<'de> Visitor<'de> for TakeDescriptors<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        let mut all = true;
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            if !all {
                continue;
            }
            let Ok(descriptor) = serde_json::from_str(entry.get()) else {
                continue;
            };
            all = self.descriptors.len() < self.max;
            if all {
                self.descriptors.push(descriptor);
            }
        }
        Ok(all)
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

fn not_json() -> UpstreamError {
    UpstreamError::Malformed(MalformedAnswer::Json)
}
