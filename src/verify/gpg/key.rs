//! OpenPGP keys: what their holder has said about them, and what they are worth at a time.
//!
//! A key is a primary key with signatures that it made itself: that it ends at a time, that it
//! may sign, that a subkey belongs to it, that it is revoked. They are verified once, when the
//! keyring is read; what is kept of them is only what is true. Nobody else's signature counts.

use std::{cmp::Reverse, fmt, sync::Arc};

use jiff::Timestamp;
use pgp::{
    crypto::{hash::HashAlgorithm, public_key::PublicKeyAlgorithm},
    packet::{PublicKey, PublicSubkey, Signature, SignatureVersion, SubpacketData},
    types::{Duration, KeyDetails as _, KeyVersion, PublicParams, Timestamp as Seconds},
};

use pgp::ser::Serialize as _;

/// The smallest RSA key that counts, in bits.
const RSA_BITS_MIN: u16 = 2048;

/// An OpenPGP key with its subkeys. Cheap to clone.
#[derive(Clone)]
pub struct GpgKey {
    fingerprint: Arc<str>,
    pub(super) certificate: Arc<Certificate>,
    /// What it was read from, as packets.
    keyrings: Vec<Arc<[u8]>>,
}

/// What is true about two keys makes them one, wherever they were read from.
impl PartialEq for GpgKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.certificate == other.certificate
    }
}

/// What is true about a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Certificate {
    pub(super) primary: PublicKey,
    pub(super) revoked: bool,
    /// What it says about itself directly.
    pub(super) direct: Vec<Statement>,
    /// What it says about itself with a name.
    pub(super) names: Vec<Name>,
    pub(super) subkeys: Vec<Subkey>,
}

/// A name of the key's holder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    pub(super) text: Vec<u8>,
    pub(super) statements: Vec<Statement>,
    /// When the name was last taken back.
    pub(super) revoked_at: Option<Seconds>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subkey {
    pub(super) key: PublicSubkey,
    pub(super) revoked: bool,
    /// That the primary key has it, and where it may sign, that it has the primary key.
    pub(super) bindings: Vec<Statement>,
}

/// What one signature of a key about itself says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) created: Seconds,
    /// For how long the statement holds.
    holds_for: Option<Duration>,
    /// For how long the key holds, from its own beginning.
    key_holds_for: Option<Duration>,
    /// Whether the key may sign, where that is said.
    pub(super) may_sign: Option<bool>,
}

impl Statement {
    /// What a signature says, where it is one that counts.
    pub(super) fn of(signature: &Signature) -> Option<Self> {
        let version = signature.version();
        let new = matches!(version, SignatureVersion::V4 | SignatureVersion::V6);
        let broken = matches!(
            signature.hash_alg(),
            None | Some(HashAlgorithm::None | HashAlgorithm::Md5 | HashAlgorithm::Ripemd160)
        );
        if !new || broken || !understood(signature) {
            return None;
        }
        let may_sign = hashed(signature, |data| match data {
            SubpacketData::KeyFlags(flags) => Some(flags.sign()),
            _ => None,
        });
        Some(Self {
            created: created(signature)?,
            holds_for: signature.signature_expiration_time(),
            key_holds_for: signature.key_expiration_time(),
            may_sign,
        })
    }

    /// For how long the key holds, in seconds.
    fn key_length(&self) -> u32 {
        let length = self.key_holds_for.map_or(0, Duration::as_secs);
        length.checked_sub(1).unwrap_or(u32::MAX)
    }

    /// When the first of the statement and the key, which is as old as this, ends.
    fn ends_at(&self, key_created: Seconds) -> Option<Timestamp> {
        let own = after(self.created, self.holds_for);
        let key = after(key_created, self.key_holds_for);
        own.into_iter().chain(key).min()
    }
}

/// A part of a key that may have signed.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a Subkey),
}

impl Part<'_> {
    pub(super) fn verifies(self, signature: &Signature, payload: &[u8]) -> bool {
        match self {
            Self::Primary(key) => signature.verify(key, payload).is_ok(),
            Self::Subkey(subkey) => signature.verify(&subkey.key, payload).is_ok(),
        }
    }
}

/// What a key is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it ends, if nothing else happens.
    pub ends_at: Option<Timestamp>,
}

impl GpgKey {
    pub(super) fn new(certificate: Certificate, keyring: &Arc<[u8]>) -> Self {
        let fingerprint = certificate.primary.fingerprint().to_string();
        Self {
            fingerprint: fingerprint.to_uppercase().into(),
            certificate: Arc::new(certificate),
            keyrings: vec![Arc::clone(keyring)],
        }
    }

    /// The keyrings that it was read from, as packets: whoever reads them finds the same key.
    pub fn keyrings(&self) -> impl Iterator<Item = &[u8]> {
        self.keyrings.iter().map(|keyring| &**keyring)
    }

    /// The primary key's fingerprint, in upper case: the key's name in facts.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Each key once. Copies of a key know different things of it, all of them true: what any
    /// of them says, be it that the key is revoked, holds for all.
    #[must_use]
    pub fn merged<'a>(keys: impl Iterator<Item = &'a Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for key in keys {
            match merged
                .iter_mut()
                .find(|known| known.fingerprint == key.fingerprint)
            {
                Some(known) if known == key => {}
                Some(known) => {
                    Arc::make_mut(&mut known.certificate).add(&key.certificate);
                    known.keyrings.extend(key.keyrings.iter().cloned());
                }
                None => merged.push(key.clone()),
            }
        }
        merged
    }

    /// What the key is worth at a time, apart from its subkeys.
    ///
    /// # Errors
    /// Why it is worth nothing, for people.
    pub fn standing_of_primary(&self, now: Timestamp) -> Result<Standing, String> {
        self.certificate
            .standing(now)
            .map_err(|why| self.tell(&why))
    }

    /// What `part` was worth for a signature that says it was made at `signed`.
    pub(super) fn standing(
        &self,
        part: Part<'_>,
        signed: Seconds,
        now: Timestamp,
    ) -> Result<Standing, String> {
        let certificate = &self.certificate;
        let standing = certificate.standing(now).and_then(|standing| {
            let (created, own) = match part {
                Part::Primary(key) => (key.created_at(), certificate.may_sign(now)),
                Part::Subkey(subkey) => (subkey.key.created_at(), subkey.standing(now)),
            };
            let own = own?;
            if signed < created {
                return Err("is younger than the signature".to_owned());
            }
            let ends = [standing.ends_at, own.ends_at];
            Ok(Standing {
                ends_at: ends.into_iter().flatten().min(),
            })
        });
        standing.map_err(|why| self.tell(&why))
    }

    fn tell(&self, why: &str) -> String {
        format!("the OpenPGP key {} {why}", self.fingerprint)
    }

    /// The part that the signature says made it.
    pub(super) fn part_named(&self, signature: &Signature) -> Option<Part<'_>> {
        let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
        let named = |key: &dyn pgp::types::KeyDetails| {
            ids.contains(&&key.legacy_key_id()) || fingerprints.contains(&&key.fingerprint())
        };
        let certificate = &self.certificate;
        if named(&certificate.primary) {
            return Some(Part::Primary(&certificate.primary));
        }
        let mut subkeys = certificate.subkeys.iter();
        subkeys.find(|subkey| named(&subkey.key)).map(Part::Subkey)
    }
}

impl fmt::Debug for GpgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpgKey({})", self.fingerprint)
    }
}

impl Certificate {
    /// What the primary key is worth.
    fn standing(&self, now: Timestamp) -> Result<Standing, String> {
        if self.revoked {
            return Err("is revoked".to_owned());
        }
        usable(self.primary.algorithm(), self.primary.public_params())?;
        if timestamp(self.primary.created_at()) > now {
            return Err("says that it was made in the future".to_owned());
        }
        let mut statements = self.latest(now).peekable();
        if statements.peek().is_none() {
            return Err("has no name and no signature of its own that holds".to_owned());
        }
        ending(statements, self.primary.created_at(), now)
    }

    /// Whether the primary key itself may sign: unless it says that it may not.
    fn may_sign(&self, now: Timestamp) -> Result<Standing, String> {
        match self.latest(now).any(|said| said.may_sign == Some(false)) {
            true => Err("may not sign; only its subkeys may".to_owned()),
            false => Ok(Standing { ends_at: None }),
        }
    }

    /// The latest of what the key says of itself, directly and with a name. Where the two
    /// differ the stricter counts.
    fn latest(&self, now: Timestamp) -> impl Iterator<Item = &Statement> {
        let names = self.names.iter().flat_map(|name| {
            let statements = name.statements.iter();
            statements.filter(|said| name.revoked_at.is_none_or(|at| at < said.created))
        });
        let direct = latest(self.direct.iter(), now);
        direct.into_iter().chain(latest(names, now))
    }

    fn add(&mut self, other: &Self) {
        self.revoked |= other.revoked;
        extend(&mut self.direct, &other.direct);
        for name in &other.names {
            match self.names.iter_mut().find(|known| known.text == name.text) {
                Some(known) => {
                    extend(&mut known.statements, &name.statements);
                    known.revoked_at = known.revoked_at.max(name.revoked_at);
                }
                None => self.names.push(name.clone()),
            }
        }
        for subkey in &other.subkeys {
            match self
                .subkeys
                .iter_mut()
                .find(|known| known.key == subkey.key)
            {
                Some(known) => {
                    known.revoked |= subkey.revoked;
                    extend(&mut known.bindings, &subkey.bindings);
                }
                None => self.subkeys.push(subkey.clone()),
            }
        }
    }
}

impl Subkey {
    fn standing(&self, now: Timestamp) -> Result<Standing, String> {
        if self.revoked {
            return Err("has revoked the subkey that signed".to_owned());
        }
        usable(self.key.algorithm(), self.key.public_params())?;
        let Some(binding) = latest(self.bindings.iter(), now) else {
            return Err("does not hold on to the subkey that signed".to_owned());
        };
        if binding.may_sign != Some(true) {
            return Err("does not let the subkey sign that did".to_owned());
        }
        ending(std::iter::once(binding), self.key.created_at(), now)
            .map_err(|why| format!("has a subkey that signed and {why}"))
    }
}

fn extend(known: &mut Vec<Statement>, more: &[Statement]) {
    for statement in more {
        if !known.contains(statement) {
            known.push(statement.clone());
        }
    }
}

/// The latest statement that was made by now; the strictest of those of one second.
fn latest<'a>(
    statements: impl Iterator<Item = &'a Statement>,
    now: Timestamp,
) -> Option<&'a Statement> {
    statements
        .filter(|said| timestamp(said.created) <= now)
        .max_by_key(|said| (said.created, Reverse(said.key_length())))
}

/// When the first of the statements, or a key as old as this, ends; an error if it has.
fn ending<'a>(
    statements: impl Iterator<Item = &'a Statement>,
    key_created: Seconds,
    now: Timestamp,
) -> Result<Standing, String> {
    let ends_at = statements
        .filter_map(|said| said.ends_at(key_created))
        .min();
    match ends_at {
        Some(ended) if ended <= now => Err(format!("expired at {ended}")),
        ends_at => Ok(Standing { ends_at }),
    }
}

/// Whether signatures by such a key count.
fn usable(algorithm: PublicKeyAlgorithm, params: &PublicParams) -> Result<(), String> {
    use PublicKeyAlgorithm::{ECDSA, Ed448, Ed25519, EdDSALegacy, RSA, RSASign};
    match (algorithm, params) {
        (RSA | RSASign, PublicParams::RSA(rsa)) => {
            // A number's length in bits stands before it (RFC 9580, 3.2).
            let modulus = rsa.to_bytes().unwrap_or_default();
            let bits = modulus
                .first_chunk()
                .map_or(0, |bits| u16::from_be_bytes(*bits));
            match bits >= RSA_BITS_MIN {
                true => Ok(()),
                false => Err(format!("has {bits} bits, which is too few")),
            }
        }
        (ECDSA | Ed448 | Ed25519 | EdDSALegacy, _) => Ok(()),
        _ => Err(format!(
            "is of a kind that is not supported ({algorithm:?})"
        )),
    }
}

/// Whether a key of this version is one that can be used at all.
pub(super) fn supported(version: KeyVersion) -> bool {
    matches!(version, KeyVersion::V4 | KeyVersion::V6)
}

/// The key that made a signature, as the signature has it.
pub(super) fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint();
    let ids = signature.issuer_key_id();
    let named = fingerprints.first().map(ToString::to_string);
    let named = named.or_else(|| ids.first().map(ToString::to_string));
    named.map_or_else(|| "(none named)".to_owned(), |name| name.to_uppercase())
}

/// When a signature says it was made: in the part of it that is signed.
pub(super) fn created(signature: &Signature) -> Option<Seconds> {
    hashed(signature, |data| match data {
        SubpacketData::SignatureCreationTime(at) => Some(*at),
        _ => None,
    })
}

/// True when nothing in the signature has to be understood that is not.
pub(super) fn understood(signature: &Signature) -> bool {
    let Some(config) = signature.config() else {
        return false;
    };
    config.hashed_subpackets().all(|subpacket| {
        !subpacket.is_critical
            || !matches!(
                subpacket.data,
                SubpacketData::Other(..)
                    | SubpacketData::Experimental(..)
                    | SubpacketData::Notation(_)
                    | SubpacketData::RegularExpression(_)
                    | SubpacketData::SignatureTarget(..)
                    | SubpacketData::IntendedRecipientFingerprint(_)
            )
    })
}

/// The first thing of a kind in the part of a signature that is signed.
fn hashed<T>(signature: &Signature, find: impl Fn(&SubpacketData) -> Option<T>) -> Option<T> {
    let mut subpackets = signature.config()?.hashed_subpackets();
    subpackets.find_map(|subpacket| find(&subpacket.data))
}

pub(super) fn timestamp(seconds: Seconds) -> Timestamp {
    // 32 bits of seconds fit.
    Timestamp::from_second(seconds.as_secs().into()).unwrap_or(Timestamp::MAX)
}

/// So long after a time. No length, and a length of nothing, are no end (RFC 9580, 5.2.3.13).
pub(super) fn after(start: Seconds, length: Option<Duration>) -> Option<Timestamp> {
    let length = length.map(Duration::as_secs).filter(|length| *length > 0)?;
    let seconds = i64::from(start.as_secs()) + i64::from(length);
    Timestamp::from_second(seconds).ok()
}
