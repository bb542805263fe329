//! Tries mutants and counts what becomes of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{SignedDuration, Timestamp};
use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::mutants::{self, Thoroughness};
use pullgate::sandbox::sigstore::{CertificateAuthority, Identity, Log, Sigstore};
use pullgate::verify::{
    self, Authority, Certified, Demands, Fact, Material, PublicKey, RootName, Signer, TrustRoot,
};

use crate::matrix::{Matrix, Outcome, pieces};
use crate::neutral::is_neutral;
use crate::shape::{Documents, Shape};

/// The larger set of mutants.
pub(crate) const THOROUGH: Thoroughness = Thoroughness::Thorough { seed: 2026 };

/// Where the formats are minted, and what they are proven with.
pub(crate) struct World {
    pub(crate) sigstore: Sigstore,
    pub(crate) image: Package,
    pub(crate) other_image: Package,
    pub(crate) signer: Identity,
    pub(crate) other_signer: Identity,
    /// An authority of one's own.
    pub(crate) authority: CertificateAuthority,
    /// A Sigstore and an authority that nobody here trusts.
    pub(crate) other_sigstore: Sigstore,
    pub(crate) other_authority: CertificateAuthority,
    pub(crate) now: Timestamp,
}

/// The same with another issuer and other claims, so that there is another of each extension.
fn unlike(mut identity: Identity) -> Identity {
    identity.issuer.push_str("/mallory");
    for claim in identity.claims.values_mut() {
        claim.push('x');
    }
    identity
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Login,
    Key,
    Certificate,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = Clock::system().now();
        Self {
            // A minute ago: the verifier family refuses log entries from the future.
            sigstore: Sigstore::new(now - SignedDuration::from_secs(60)),
            image: image::runnable("hello"),
            other_image: image::runnable("other"),
            signer: Identity::github_actions("acme/widget", "release.yml", "refs/heads/main"),
            other_signer: unlike(Identity::github_actions(
                "mallory/gadget",
                "build.yml",
                "refs/heads/x",
            )),
            authority: CertificateAuthority::new(1, now),
            other_sigstore: Sigstore::new(now - SignedDuration::from_secs(90)),
            other_authority: CertificateAuthority::new(1, now),
            now,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.image.digest()
    }

    /// What all proofs rest on: the trust root, these keys and the authority of one's own. With
    /// `logless`, logins need no log.
    pub(crate) fn material(&self, by: By, keys: &[Vec<u8>], logless: bool) -> Material {
        let root = self.sigstore.trusted_root_json();
        let root = root_of(&root).expect("a trusted root");
        let authority = Authority::read(self.authority.root_der(), &[]).expect("an authority");
        let without = Demands {
            log: None,
            ..Demands::default()
        };
        let demands = logless.then(|| (root.name.clone(), without));
        Material {
            roots: vec![root],
            keys: keys.iter().map(|key| PublicKey::from_spki(key)).collect(),
            authorities: match by {
                By::Certificate => vec![authority],
                By::Login | By::Key => Vec::new(),
            },
            demands: demands.into_iter().collect(),
            ..Material::default()
        }
    }
}

pub(crate) fn root_of(json: &str) -> Option<std::sync::Arc<TrustRoot>> {
    let root = TrustRoot::from_json(RootName::from("sandbox"), json).ok()?;
    Some(std::sync::Arc::new(root))
}

/// What a mutant turned into.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    /// It proves the same as the sound document, or less of what vouches for it.
    Same,
    /// It proves the signature of a key or certificate, and no longer that anything vouches for
    /// it beside.
    Unvouched,
    /// It proves something else: somebody could forge this.
    Forged(String),
    Panicked,
}

/// Tries every mutant of each format.
pub(crate) fn each_holds_out(shapes: &[Shape], thoroughness: Thoroughness) {
    let world = World::new();
    let bad = shapes.iter().flat_map(|shape| {
        let bad = shape.bad_mutants(&world, thoroughness);
        bad.into_iter()
            .map(|bad| format!("{}: {bad}", shape.name()))
    });
    let bad: Vec<_> = bad.collect();
    assert!(bad.is_empty(), "{}:\n{}", bad.len(), bad.join("\n"));
}

impl Shape {
    /// The mutants of the set that get through, and the pieces that are not tried.
    fn bad_mutants(&self, world: &World, thoroughness: Thoroughness) -> Vec<String> {
        let name = self.name();
        let Documents {
            sound: document,
            donors,
            keys,
        } = self.documents(world);
        let material = world.material(self.by, &keys, self.log == Log::None);
        let digest = world.digest();
        let prove = |document: &[u8]| {
            let evidence = self.read(document)?;
            verify::prove(&evidence, &digest, &material, world.now).ok()
        };
        let sound = prove(&document).unwrap_or_else(|| panic!("{name} is sound"));
        let vouched = sound.iter().any(|fact| fact.root.is_some());
        let donors: Vec<_> = donors.iter().map(Vec::as_slice).collect();
        let mutants = mutants::of_json(&document, &donors, thoroughness);
        let mut matrix = Matrix::new(pieces(self, &document));
        let mut bad = Vec::new();
        let (mut neutral, mut unvouched) = (0, 0);
        for mutant in &mutants {
            let outcome = catch_unwind(AssertUnwindSafe(|| prove(&mutant.document)));
            let outcome = match fate(outcome.ok(), &sound) {
                Fate::Refused => Outcome::Refused,
                Fate::Same if is_neutral(&name, &mutant.change) => {
                    neutral += 1;
                    Outcome::Neutral
                }
                // A policy that wants a log refuses it, and one that wants none needs none.
                Fate::Unvouched if vouched && self.by != By::Login => {
                    unvouched += 1;
                    Outcome::Refused
                }
                fate => {
                    bad.push(format!("{}: {fate:?}", mutant.change));
                    continue;
                }
            };
            matrix.count(&mutant.change, outcome);
        }
        let tried = mutants.len();
        println!(
            "{name}: {tried} mutants, {neutral} neutral, {unvouched} that nothing vouches for\n{}",
            matrix.table()
        );
        bad.extend(matrix.gaps(&name));
        bad
    }
}

/// What a mutant that proves `facts` (or nothing, or panicked) became.
fn fate(facts: Option<Option<Vec<Fact>>>, sound: &[Fact]) -> Fate {
    let facts = match facts {
        None => return Fate::Panicked,
        Some(None) => return Fate::Refused,
        Some(Some(facts)) => facts,
    };
    let mut fate = Fate::Same;
    for fact in &facts {
        let implied = || sound.iter().filter(|sound| implies(sound, fact));
        let logged = |fact: &Fact| (fact.root.clone(), fact.assurance.log.is_some());
        if implied().any(|sound| logged(sound) == logged(fact)) {
            continue;
        }
        if implied().next().is_none() {
            return Fate::Forged(format!("{fact:?}"));
        }
        fate = Fate::Unvouched;
    }
    // What stands without a log beside what a log holds is all that is left.
    let held = |fact: &&Fact| fact.root.is_some();
    match facts.iter().any(|fact| held(&fact)) || !sound.iter().any(|fact| held(&fact)) {
        true => fate,
        false => Fate::Unvouched,
    }
}

/// Whether it is the same signer, for as long or less.
fn no_longer(signer: &Signer, sound: &Signer) -> bool {
    match (signer, sound) {
        (Signer::Certified(one), Signer::Certified(two)) => {
            let whole = Certified {
                ends_at: two.ends_at,
                ..(**one).clone()
            };
            whole == **two && (one.ends_at.is_some() || two.ends_at.is_none())
        }
        _ => signer == sound,
    }
}

/// Whether `fact` says the same as `sound` or less: who signed what, and of time, log and
/// timestamps no more. (Where a document is found says its digest, and a mutant's is another.)
fn implies(sound: &Fact, fact: &Fact) -> bool {
    let same = (&fact.kind, &fact.docker_reference) == (&sound.kind, &sound.docker_reference)
        && no_longer(&fact.signer, &sound.signer);
    let root = fact.root.is_none() || fact.root == sound.root;
    let time = fact.signed_at.is_none() || fact.signed_at == sound.signed_at;
    let (less, more) = (fact.assurance, sound.assurance);
    let assurance = less.log <= more.log
        && less.timestamp <= more.timestamp
        && less.certificate_timestamp <= more.certificate_timestamp;
    same && root && time && assurance
}
