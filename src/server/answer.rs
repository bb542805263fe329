//! One request: routed, asked of the gate, answered, recorded.

use std::{net::IpAddr, sync::Arc, time::Instant};

use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request::Parts};
use serde_json::json;
use tracing::{debug, info, warn};

use crate::audit::Decided;
use crate::audit::DecisionId;
use crate::authn::Certified;
use crate::authn::Presented;
use crate::authn::Puller;
use crate::authn::Seen;
use crate::content::BlobBody;
use crate::content::Document;
use crate::gate::Admitted;
use crate::gate::Ask;
use crate::gate::Gate;
use crate::gate::Login;
use crate::gate::Refusal;
use crate::gate::UnusableLogin;
use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::ImageName;
use crate::oci::RegistryHost;
use crate::oci::media_type;
use crate::server::Callers;
use crate::server::Service;
use crate::server::callers;
use crate::server::range;
use crate::server::respond;
use crate::server::respond::{Answer, Extent};
use crate::server::route::{NoRoute, Page, Route};

/// The other end of a connection.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    /// Its address.
    pub(super) client: IpAddr,
    /// Whose certificate the connection was opened with.
    pub(super) certificate: Option<&'a Certified>,
    /// Who was seen there.
    pub(super) seen: &'a Seen,
}

/// A request without its body, of which nothing is read.
#[derive(Clone, Copy)]
struct Head<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    fn is_head(self) -> bool {
        *self.method == Method::HEAD
    }

    fn presented(self, image: Option<&'a ImageName>, peer: Peer<'a>) -> Presented<'a> {
        Presented {
            headers: self.headers,
            client: peer.client,
            certificate: peer.certificate,
            seen: peer.seen,
            image,
        }
    }

    fn asked(self, gate: &'a Gate, puller: &'a Puller, peer: Peer<'_>) -> Asked<'a> {
        Asked {
            gate,
            headers: self.headers,
            path: self.uri.path(),
            is_head: self.is_head(),
            client: peer.client,
            puller,
        }
    }
}

/// A request that has to wait for its answer, and what is known of it so far.
pub(super) struct Wanted {
    parts: Parts,
    routed: Result<Route, NoRoute>,
    /// Who sent it, once that is known.
    puller: Option<Arc<Puller>>,
    since: Instant,
}

impl Wanted {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.parts.method,
            uri: &self.parts.uri,
            headers: &self.parts.headers,
        }
    }

    /// The endpoint's name in metrics.
    fn endpoint(&self) -> &'static str {
        self.routed.as_ref().map_or("none", Route::endpoint)
    }

    fn presented<'a>(&'a self, peer: Peer<'a>) -> Presented<'a> {
        let image = self.routed.as_ref().ok().and_then(Route::image);
        self.head().presented(image, peer)
    }
}

impl Service {
    /// The answer to a pull that waits for nothing: of a manifest that was admitted before, by
    /// somebody who is known, or of any by somebody who may not pull it. Where it is none, nothing has
    /// been said of it: see [`Self::answer`].
    pub(super) fn answer_at_once<B>(
        &self,
        request: Request<B>,
        peer: Peer<'_>,
    ) -> Either<Answer, Wanted> {
        let since = Instant::now();
        let head = Head {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        let routed = self.router.route(head.method, head.uri, head.headers);
        let mut puller = None;
        if let Ok(route @ Route::Manifest(ask)) = &routed
            && let Some(mut answer) = self.manifest_at_once(ask, head, peer, since, &mut puller)
        {
            self.answered(route.endpoint(), head, since, &mut answer);
            return Either::Left(answer);
        }
        let (parts, _) = request.into_parts();
        Either::Right(Wanted {
            parts,
            routed,
            puller,
            since,
        })
    }

    /// Notes the puller where it is no answer: it is counted as known once.
    fn manifest_at_once(
        &self,
        ask: &Arc<Ask>,
        head: Head<'_>,
        peer: Peer<'_>,
        since: Instant,
        puller: &mut Option<Arc<Puller>>,
    ) -> Option<Answer> {
        if let Some(callers) = &self.callers {
            let presented = head.presented(Some(&ask.image), peer);
            *puller = Some(callers.authn.identify_at_once(presented)?);
        }
        let anonymous = Puller::anonymous();
        let puller = puller.as_deref().unwrap_or(&anonymous);
        let said = self.gate.manifest_at_once(ask, puller.caller(), since)?;
        Some(self.manifest(ask, said, head.asked(&self.gate, puller, peer)))
    }

    /// Answers one request.
    pub(super) async fn answer(&self, mut wanted: Wanted, peer: Peer<'_>) -> Answer {
        let (endpoint, mut answer) = self.answer_by_and_by(&mut wanted, peer).await;
        self.answered(endpoint, wanted.head(), wanted.since, &mut answer);
        answer
    }

    fn answered(
        &self,
        endpoint: &'static str,
        head: Head<'_>,
        since: Instant,
        answer: &mut Answer,
    ) {
        if head.is_head() {
            *answer.body_mut() = BlobBody::Held(None);
        }
        self.metrics
            .http_answered(endpoint, answer.status().as_u16(), since.elapsed());
    }

    /// The endpoint's name in metrics, and the answer. Who asks comes before whether there is
    /// such a thing.
    async fn answer_by_and_by(
        &self,
        wanted: &mut Wanted,
        peer: Peer<'_>,
    ) -> (&'static str, Answer) {
        let endpoint = wanted.endpoint();
        if let (Some(callers), None) = (&self.callers, &wanted.puller) {
            let request = callers::Request {
                method: &wanted.parts.method,
                uri: &wanted.parts.uri,
                presented: wanted.presented(peer),
            };
            if Callers::is_token_request(request.uri) {
                let token = Box::pin(callers.token(&self.router, request)).await;
                return ("token", token);
            }
            match callers.identify(request).await {
                Ok(puller) => wanted.puller = Some(puller),
                Err(answer) => return (endpoint, answer),
            }
        }
        let route = match &wanted.routed {
            Ok(route) => route,
            Err(no_route) => return (endpoint, respond::no_route(*no_route)),
        };
        let gate = match self.gate_for(route, &wanted.parts.headers) {
            Ok(gate) => gate,
            Err(refusal) => {
                let answer = respond::refuse(&refusal, None, wanted.head().is_head());
                return (endpoint, answer);
            }
        };
        let anonymous = Puller::anonymous();
        let puller = wanted.puller.as_deref().unwrap_or(&anonymous);
        let gate = gate.as_ref().unwrap_or(&self.gate);
        let asked = wanted.head().asked(gate, puller, peer);
        (endpoint, self.serve(route, asked).await)
    }

    async fn serve(&self, route: &Route, asked: Asked<'_>) -> Answer {
        match route {
            Route::Base(None) => respond::base(),
            Route::Manifest(ask) => {
                let said = asked.gate.manifest(ask, asked.puller.caller()).await;
                self.manifest(ask, said, asked)
            }
            // Boxed: their state is large, and a pull that waits for its manifest need not carry it.
            Route::Base(Some(registry)) => Box::pin(self.base(registry, asked)).await,
            Route::Blob(image, digest) => Box::pin(self.blob(image, *digest, asked)).await,
            Route::Referrers(image, digest, artifact_type) => {
                let artifact_type = artifact_type.as_deref();
                Box::pin(self.referrers(image, *digest, artifact_type, asked)).await
            }
            Route::Tags(image, page) => Box::pin(self.tags(image, page, asked)).await,
        }
    }

    /// The gate as it is asked by the credentials of a request, where these go to a registry.
    fn gate_for(&self, route: &Route, headers: &HeaderMap) -> Result<Option<Gate>, Refusal> {
        let Some(registry) = route.registry().filter(|_| self.gate.passes_logins_on()) else {
            return Ok(None);
        };
        match Login::of(headers) {
            Ok(login) => Ok(Some(self.gate.asked_by(registry, login))),
            Err(UnusableLogin) => Err(Refusal::LoginNeeded(registry.clone())),
        }
    }

    /// Whether this is a registry. Some clients learn here, and here only, that they have to log
    /// in, so a registry that is asked with their credentials is asked now.
    async fn base(&self, registry: &RegistryHost, asked: Asked<'_>) -> Answer {
        match asked.gate.greet(registry).await {
            Ok(()) => respond::base(),
            Err(refusal) => self.refuse(&refusal, asked),
        }
    }

    async fn referrers(
        &self,
        image: &ImageName,
        digest: Digest,
        artifact_type: Option<&str>,
        asked: Asked<'_>,
    ) -> Answer {
        let caller = asked.puller.caller();
        match asked.gate.referrers(image, digest, caller).await {
            Ok(listed) => referrers(listed.descriptors, listed.truncated, artifact_type),
            Err(refusal) => self.refuse(&refusal, asked),
        }
    }

    async fn tags(&self, image: &ImageName, page: &Page, asked: Asked<'_>) -> Answer {
        let (last, caller) = (page.last.as_deref(), asked.puller.caller());
        match asked.gate.tags(image, page.count, last, caller).await {
            Ok(listed) => tags(image, page, &listed.tags, listed.more, asked.path),
            Err(refusal) => self.refuse(&refusal, asked),
        }
    }

    /// What the gate says of a manifest, recorded and in words.
    fn manifest(&self, ask: &Ask, said: Result<Admitted, Refusal>, asked: Asked<'_>) -> Answer {
        match said {
            Ok(admitted) => {
                let decision = self.record(admitted.decided(), asked);
                admitted.count();
                log_admitted(ask, &admitted, decision, asked);
                respond::manifest(&admitted, asked.extent(admitted.document()), decision)
            }
            Err(refusal) => self.refuse(&refusal, asked),
        }
    }

    async fn blob(&self, image: &ImageName, digest: Digest, asked: Asked<'_>) -> Answer {
        let text = digest.to_string();
        let opened = async {
            let admitted = asked
                .gate
                .blob(image, digest, asked.puller.caller())
                .await?;
            if asked.is_head {
                let size = asked.gate.blob_size(&admitted).await?;
                return Ok(respond::blob_head(size, &text));
            }
            let range = range::requested(asked.headers, &format!("\"{text}\""));
            let answer = asked.gate.open(&admitted, range).await?;
            Ok(respond::blob(answer, &text))
        };
        opened
            .await
            .unwrap_or_else(|refusal| self.refuse(&refusal, asked))
    }

    fn record(&self, decided: Arc<dyn Decided>, asked: Asked<'_>) -> DecisionId {
        let puller = asked.puller.name().cloned();
        self.decisions
            .record(self.clock.now(), asked.client, puller, decided)
    }

    fn refuse(&self, refusal: &Refusal, asked: Asked<'_>) -> Answer {
        let client = asked.client;
        let puller = asked.puller.name().map(AsRef::as_ref);
        let decision = match refusal {
            Refusal::Denied(denied, _) => {
                let id = self.record(Arc::<crate::gate::Denied>::clone(denied), asked);
                info!(
                    decision = %id,
                    verdict = "denied",
                    reason = denied.shortfall.reason.as_str(),
                    image = %denied.asked,
                    policy = denied.policy.as_deref(),
                    %client,
                    puller,
                    "{}", denied.message()
                );
                Some(id)
            }
            Refusal::Unavailable(unavailable) => {
                let id = self.record(Arc::<crate::gate::Unavailable>::clone(unavailable), asked);
                warn!(
                    decision = %id,
                    verdict = "unavailable",
                    reason = unavailable.doubt.as_str(),
                    image = %unavailable.asked,
                    %client,
                    puller,
                    "{}", unavailable.message()
                );
                Some(id)
            }
            Refusal::NotFound(_) => {
                info!(path = asked.path, %client, puller, "the upstream does not have it");
                None
            }
            Refusal::LoginNeeded(registry) => {
                info!(path = asked.path, %client, %registry, "the upstream wants a login");
                None
            }
        };
        respond::refuse(refusal, decision, asked.is_head)
    }
}

/// The parts of a request that an answer depends on beside its route.
#[derive(Clone, Copy)]
struct Asked<'a> {
    gate: &'a Gate,
    headers: &'a HeaderMap,
    path: &'a str,
    is_head: bool,
    client: IpAddr,
    puller: &'a Puller,
}

impl Asked<'_> {
    fn extent(&self, document: &Document) -> Extent {
        if self.has(document) {
            Extent::Unchanged
        } else if self.is_head {
            Extent::Head
        } else {
            Extent::Whole
        }
    }

    /// True when the client says that it has this document (RFC 9110, 13.1.2).
    fn has(&self, document: &Document) -> bool {
        // Most clients have none, and to walk through what is not there takes longer than to see that.
        if !self.headers.contains_key(header::IF_NONE_MATCH) {
            return false;
        }
        let etag = respond::etag(document);
        let mut values = self.headers.get_all(header::IF_NONE_MATCH).iter();
        values.any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|tag| {
                let tag = tag.trim_ascii();
                let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
                tag == b"*" || etag.is_some_and(|etag| etag.as_bytes() == opaque)
            })
        })
    }
}

/// A line for every decision; the repetitions of one are for who debugs.
fn log_admitted(ask: &Ask, admitted: &Admitted, decision: DecisionId, asked: Asked<'_>) {
    let (client, puller) = (asked.client, asked.puller.name().map(AsRef::as_ref));
    if admitted.is_first() {
        info!(
            %decision,
            verdict = "admitted",
            image = %ask.image.with(&ask.reference),
            digest = %admitted.document().digest(),
            %client,
            puller,
            "admitted"
        );
        for warning in admitted.warnings() {
            warn!(%decision, %client, "{warning}");
        }
    } else {
        debug!(%decision, verdict = "admitted", %client, "admitted before");
    }
}

fn referrers(
    mut descriptors: Vec<Descriptor>,
    truncated: bool,
    artifact_type: Option<&str>,
) -> Answer {
    if let Some(artifact_type) = artifact_type {
        descriptors.retain(|listed| listed.artifact_type.as_deref() == Some(artifact_type));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": descriptors,
    });
    let mut answer = respond::json_document(&index);
    let content_type = HeaderValue::from_static(media_type::OCI_INDEX);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    if artifact_type.is_some() {
        let name = header::HeaderName::from_static("oci-filters-applied");
        respond::set(&mut answer, name, "artifactType".to_owned());
    }
    if truncated {
        let text = "the registry lists more referrers than are told here";
        let warning = respond::warn("299", text);
        answer.headers_mut().insert(header::WARNING, warning);
    }
    answer
}

fn tags(image: &ImageName, page: &Page, tags: &[String], more: bool, path: &str) -> Answer {
    let listed = json!({"name": image.repository, "tags": tags});
    let mut answer = respond::json_document(&listed);
    if let (true, Some(last)) = (more, tags.last()) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("last", last);
        if let Some(count) = page.count {
            query.append_pair("n", &count.to_string());
        }
        if let Some(namespace) = &page.namespace {
            query.append_pair("ns", namespace);
        }
        let next = format!("<{path}?{}>; rel=\"next\"", query.finish());
        respond::set(&mut answer, header::LINK, next);
    }
    answer
}
