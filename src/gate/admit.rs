//! Admission of manifests: from what is asked for to an [`Admitted`] or a [`Refusal`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use crate::content::ContentKey;
use crate::gate::Ask;
use crate::gate::Asked;
use crate::gate::Gate;
use crate::gate::Refusal;
use crate::gate::Ruling;
use crate::gate::admission::{Admission, Admitted};
use crate::gate::by_tag::Tries;
use crate::gate::find::Found;
use crate::gate::refusal::{Cause, Doubt};
use crate::metrics::CacheKind;
use crate::oci::Reference;
use crate::policy::Caller;
use crate::upstream::Upstream;

/// What an admission is for.
pub(super) enum Purpose<'a> {
    /// The manifest, or a blob of it, is handed out by this very name. Where its digest is refused,
    /// tags are tried so often.
    Serving(&'a Tries),
    /// What lies below the manifest is asked for, and whether a tag vouches for that: by the tag's
    /// name nothing is handed out.
    Vouching,
}

impl Gate {
    /// Asks for a manifest by tag or digest. What is kept is kept without the caller: facts
    /// and admissions are everybody's, and what policy says of a caller it says each time.
    ///
    /// # Errors
    /// A [`Refusal`]: no, don't know, or not there.
    pub async fn manifest(&self, ask: &Ask, caller: &Caller) -> Result<Admitted, Refusal> {
        let ruling = self.0.ruling.load_full();
        let asked = || ask.asked();
        let misgivings = self.let_ask(&ruling, &ask.image, caller, asked)?;
        self.permit_manifest(&ask.image, &ask.reference).await?;
        let mut admitted = match self.held(&ruling, ask, Instant::now()) {
            Some(admission) => self.repeated(ask, admission),
            None => {
                self.count_admission_held(false);
                // Boxed: its state is large, and what is held need not carry it.
                let tries = Tries::default();
                let decision = Box::pin(self.admit(&ruling, ask, &tries));
                self.in_time(decision, asked).await?
            }
        };
        admitted.misgivings = misgivings.map(Box::new);
        Ok(admitted)
    }

    /// What [`manifest`](Self::manifest) says, where it need not wait for anything: to say no to a
    /// caller, or to repeat an admission that holds. `None` is no answer at all: then `manifest` is
    /// to be asked. `now` is when the request came: the hot way need not read the clock again. It is
    /// shortest for those who keep their `ask`.
    #[must_use]
    pub fn manifest_at_once(
        &self,
        ask: &Arc<Ask>,
        caller: &Caller,
        now: Instant,
    ) -> Option<Result<Admitted, Refusal>> {
        if self.passes_logins_on() {
            // Whether these credentials may read it is for the registry to say.
            return None;
        }
        let ruling = self.0.ruling.load();
        let misgivings = match self.let_ask(&ruling, &ask.image, caller, || ask.asked()) {
            Ok(misgivings) => misgivings,
            Err(refusal) => return Some(Err(refusal)),
        };
        let admission = self.held_lately(&ruling, ask, now)?;
        let mut admitted = self.repeated(ask, admission);
        admitted.misgivings = misgivings.map(Box::new);
        Some(Ok(admitted))
    }

    /// What [`held`](Self::held) says, mostly without the look-up.
    fn held_lately(&self, ruling: &Ruling, ask: &Arc<Ask>, now: Instant) -> Option<Arc<Admission>> {
        let holds = |admission: &Arc<Admission>| {
            !admission.is_superseded() && self.holds(&admission.validity, ruling, now)
        };
        let repeated = self.0.lately.get(ask, now).filter(holds);
        repeated.or_else(|| {
            let admission = self.held(ruling, ask, now)?;
            self.0.lately.note(ask, &admission, now);
            Some(admission)
        })
    }

    /// An admission that is held and holds.
    fn repeated(&self, ask: &Ask, admission: Arc<Admission>) -> Admitted {
        self.count_admission_held(true);
        self.note_again(ask, &admission);
        Admitted {
            admission,
            first: false,
            misgivings: None,
        }
    }

    fn count_admission_held(&self, held: bool) {
        let metrics = &self.0.metrics;
        metrics.cache_requested(CacheKind::Admissions, held);
    }

    /// A decision, unless it takes too long. What was begun for it goes on: whoever comes back
    /// may find it done.
    pub(super) async fn in_time<T>(
        &self,
        decision: impl Future<Output = Result<T, Refusal>>,
        asked: impl FnOnce() -> Asked,
    ) -> Result<T, Refusal> {
        let deadline = self.0.settings.decision_deadline;
        let decided = tokio::time::timeout(deadline, decision).await;
        decided.unwrap_or_else(|_| {
            let text = format!("the decision took longer than {} s", deadline.as_secs());
            let cause = Cause::new(Doubt::EvidenceUnavailable, text);
            Err(self.unavailable(cause, asked(), None))
        })
    }

    pub(super) async fn admit(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        tries: &Tries,
    ) -> Result<Admitted, Refusal> {
        let located = self.locate(ask).await?;
        let serving = Purpose::Serving(tries);
        let admission = self.settle(ruling, ask, located, serving).await?;
        self.hold(ask, &admission);
        Ok(Admitted {
            admission,
            first: true,
            misgivings: None,
        })
    }

    /// Holds an admission, in place of the one that was held.
    fn hold(&self, ask: &Ask, admission: &Arc<Admission>) {
        let place = self.0.admissions.entry_by_ref(ask);
        place.and_upsert_with(|before| {
            if let Some(before) = before {
                before.into_value().supersede();
            }
            Arc::clone(admission)
        });
    }

    /// Judges what was found, and notes what may leave by it.
    pub(super) async fn settle(
        &self,
        ruling: &Ruling,
        ask: &Ask,
        (upstream, key, found): (&Upstream, ContentKey, Found),
        purpose: Purpose<'_>,
    ) -> Result<Arc<Admission>, Refusal> {
        let document = Arc::clone(&found.document);
        let ruled = self
            .rule(ruling, (upstream, &key), ask, found, purpose)
            .await;
        match ruled {
            Ok(admission) if admission.vouches() => {
                self.note_vouching(ask, &admission);
                Ok(Arc::new(admission))
            }
            ruled => {
                self.0.hints.listed(&key, &document, false);
                ruled.map(Arc::new)
            }
        }
    }

    fn note_vouching(&self, ask: &Ask, admission: &Admission) {
        let hints = &self.0.hints;
        admission.noted_at.store(hints.turns(), Ordering::Relaxed);
        let document = &admission.document;
        let key = ContentKey::of(&ask.image, *document.digest());
        if let Reference::Tag(tag) = &ask.reference {
            hints.tagged(&key, tag, admission.named, true);
        }
        hints.listed(&key, document, true);
        // Told last: who asks from now on sees what was noted.
        self.0.unreached.admitted(&ask.image);
    }

    /// An answer that is repeated keeps what was noted of it, or others could drive that out while
    /// the answer holds. Admissions that are held note less than the hints have room for.
    fn note_again(&self, ask: &Ask, admission: &Admission) {
        let is_new = admission.noted_at.load(Ordering::Relaxed) == self.0.hints.turns();
        if !is_new && admission.vouches() {
            self.note_vouching(ask, admission);
        }
    }
}
