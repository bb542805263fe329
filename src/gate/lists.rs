//! Lists: tags and referrers. They name things and contain nothing that could run; what they
//! name is judged when it is asked for.

use crate::evidence;
use crate::gate::Asked;
use crate::gate::Gate;
use crate::gate::Missing;
use crate::gate::Refusal;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::policy::Caller;
use crate::upstream::Referrers;
use crate::upstream::TagPage;

/// The most referrers that are listed at a time. The upstream's client has bounds of its own, on the bytes
/// and pages of a list.
const REFERRERS_MAX: usize = 10_000;

impl Gate {
    /// What the registry lists as referring to a digest: through its referrers API, or from
    /// the fallback tag. Claims, all of it.
    ///
    /// # Errors
    /// A [`Refusal`] when the registry does not say.
    pub async fn referrers(
        &self,
        image: &ImageName,
        digest: Digest,
        caller: &Caller,
    ) -> Result<Referrers, Refusal> {
        let asked = || Asked::Lists(image.clone());
        self.let_ask(&self.0.ruling.load(), image, caller, asked)?;
        let Some(upstream) = self.upstream(&image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let repository = &image.repository;
        let listed = evidence::referrers(upstream, repository, &digest, REFERRERS_MAX).await;
        listed.map_err(|error| {
            self.not_found(&error, Asked::Lists(image.clone()), Missing::Repository)
        })
    }

    /// A page of a repository's tags.
    ///
    /// # Errors
    /// A [`Refusal`] when the registry does not say.
    pub async fn tags(
        &self,
        image: &ImageName,
        count: Option<u32>,
        last: Option<&str>,
        caller: &Caller,
    ) -> Result<TagPage, Refusal> {
        let asked = || Asked::Lists(image.clone());
        self.let_ask(&self.0.ruling.load(), image, caller, asked)?;
        let Some(upstream) = self.upstream(&image.registry) else {
            return Err(Refusal::NotFound(Missing::Repository));
        };
        let page = upstream.tags(&image.repository, count, last).await;
        page.map_err(|error| {
            self.not_found(&error, Asked::Lists(image.clone()), Missing::Repository)
        })
    }
}
