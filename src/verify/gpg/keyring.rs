//! Keyrings: files with OpenPGP keys, armored or binary, as `gpg --export` writes them.
//!
//! A file is an operator's own, and is read strictly: what does not parse is an error and not
//! left out, since it could be a revocation. A revocation certificate may stand behind the keys
//! (`cat keys.asc revoked.asc`), and is then that of one of them.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use pgp::{
    armor::{BlockType, Dearmor},
    packet::{Packet, PacketParser, PublicKey, PublicSubkey, Signature, SignatureType},
    packet::{SubpacketData, UserAttribute, UserId},
    ser::Serialize as _,
    types::{KeyDetails as _, Tag},
};

use super::GpgKey;
use super::key::{self, Certificate, Name, Statement, Subkey};

/// The most keys of one keyring.
const KEYS_MAX: usize = 256;
/// The most packets of one keyring.
const PACKETS_MAX: usize = 20_000;

/// Why a file is not a usable keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not OpenPGP at all: another file was meant, or it was cut short.
    #[error("it does not parse as OpenPGP keys: {0}")]
    Malformed(String),
    /// A private key, which does not belong on this machine.
    #[error("it holds a private key")]
    Private,
    /// It parses, and no key is in it.
    #[error("it holds no OpenPGP key")]
    Empty,
    /// More than anybody means.
    #[error("it holds more than {KEYS_MAX} keys, or more than {PACKETS_MAX} packets")]
    TooMany,
    /// A key of a version or kind that cannot be verified with.
    #[error("the OpenPGP key {0} {1}")]
    Unusable(String, String),
    /// A revocation certificate that belongs to no key of the file: perhaps a key is missing.
    #[error("it holds a revocation of a key that is not in it ({0})")]
    StrayRevocation(String),
}

/// Reads a keyring: at least one key.
///
/// # Errors
/// [`KeyringError`] when anything in it cannot be understood.
pub fn read(bytes: &[u8]) -> Result<Vec<GpgKey>, KeyringError> {
    let mut packets = Vec::new();
    let blocks = match bytes.first() {
        Some(0x80..) => vec![bytes.to_vec()],
        _ => armored(bytes)?,
    };
    // One by one: what is cut short in one does not go on in the next.
    for block in &blocks {
        parse(block, &mut packets)?;
    }
    let keyring = blocks.concat().into();
    let (drafts, strays) = group(packets)?;
    if drafts.is_empty() {
        return Err(KeyringError::Empty);
    }
    let keys: Vec<GpgKey> = drafts
        .into_iter()
        .map(|draft| draft.proven(&strays, &keyring))
        .collect::<Result<_, _>>()?;
    for stray in &strays {
        let known = keys.iter().any(|key| {
            let primary = &key.certificate.primary;
            stray.verify_key(primary).is_ok()
        });
        if !known {
            return Err(KeyringError::StrayRevocation(key::issuer(stray)));
        }
    }
    Ok(GpgKey::merged(keys.iter()))
}

/// The blocks of an armored file. Words may stand around them, as in the revocation certificates
/// that gpg writes for every key; what looks like a part of a block may not.
fn armored(bytes: &[u8]) -> Result<Vec<Vec<u8>>, KeyringError> {
    const BEGIN: &str = "-----BEGIN PGP ";
    const END: &str = "-----END PGP ";
    const DASHES: &str = "-----";
    let cut = || KeyringError::Malformed("an armored block that is cut short".to_owned());
    let text =
        std::str::from_utf8(bytes).map_err(|error| KeyringError::Malformed(error.to_string()))?;
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let (words, block) = rest.split_at(start);
        if words.contains(DASHES) {
            return Err(cut());
        }
        let end = block.find(END).ok_or_else(cut)? + END.len();
        let end = end + block[end..].find(DASHES).ok_or_else(cut)? + DASHES.len();
        let (block, behind) = block.split_at(end);
        blocks.push(dearmored(block)?);
        rest = behind;
    }
    match rest.contains(DASHES) {
        true => Err(cut()),
        false => Ok(blocks),
    }
}

fn dearmored(block: &str) -> Result<Vec<u8>, KeyringError> {
    let malformed = |what: &str| KeyringError::Malformed(format!("an armored block {what}"));
    let mut reader = Dearmor::new(Cursor::new(block.as_bytes()));
    // The reader's own words are bytes.
    let damaged = || malformed("that is damaged");
    reader.read_header().map_err(|_| damaged())?;
    match reader.typ {
        Some(BlockType::PublicKey) => {}
        Some(BlockType::PrivateKey) => return Err(KeyringError::Private),
        _ => return Err(malformed("of another kind")),
    }
    let mut binary = Vec::new();
    reader.read_to_end(&mut binary).map_err(|_| damaged())?;
    Ok(binary)
}

fn parse(bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), KeyringError> {
    for packet in PacketParser::new(Cursor::new(bytes)) {
        if packets.len() == PACKETS_MAX {
            return Err(KeyringError::TooMany);
        }
        let packet = packet.map_err(|error| KeyringError::Malformed(error.to_string()))?;
        packets.push(packet);
    }
    Ok(())
}

/// A key as it stands in the file: nothing of it is proven.
struct Draft {
    primary: PublicKey,
    signatures: Vec<Signature>,
    names: Vec<(Holder, Vec<Signature>)>,
    subkeys: Vec<(PublicSubkey, Vec<Signature>)>,
}

enum Holder {
    Id(UserId),
    Attribute(UserAttribute),
}

/// What the next signature belongs to.
enum Place {
    Key,
    Name,
    Subkey,
}

fn group(packets: Vec<Packet>) -> Result<(Vec<Draft>, Vec<Signature>), KeyringError> {
    let malformed = |what: &str| KeyringError::Malformed(what.to_owned());
    let (mut drafts, mut strays, mut place) = (Vec::<Draft>::new(), Vec::new(), Place::Key);
    for packet in packets {
        match (packet, drafts.last_mut()) {
            (Packet::PublicKey(primary), _) => {
                if drafts.len() == KEYS_MAX {
                    return Err(KeyringError::TooMany);
                }
                drafts.push(Draft {
                    primary,
                    signatures: Vec::new(),
                    names: Vec::new(),
                    subkeys: Vec::new(),
                });
                place = Place::Key;
            }
            (Packet::SecretKey(_) | Packet::SecretSubkey(_), _) => {
                return Err(KeyringError::Private);
            }
            // A revocation is one wherever it stands, and whosever it is.
            (Packet::Signature(signature), draft)
                if signature.typ() == Some(SignatureType::KeyRevocation) =>
            {
                match draft {
                    Some(draft) if signature.verify_key(&draft.primary).is_ok() => {
                        draft.signatures.push(signature);
                    }
                    Some(draft) if matches!(place, Place::Key) => draft.signatures.push(signature),
                    _ => strays.push(signature),
                }
            }
            (Packet::Signature(signature), Some(draft)) => {
                let signatures = match place {
                    Place::Name => draft.names.last_mut().map(|(_, all)| all),
                    Place::Subkey => draft.subkeys.last_mut().map(|(_, all)| all),
                    Place::Key => None,
                };
                signatures.unwrap_or(&mut draft.signatures).push(signature);
            }
            (Packet::UserId(id), Some(draft)) => {
                draft.names.push((Holder::Id(id), Vec::new()));
                place = Place::Name;
            }
            (Packet::UserAttribute(attribute), Some(draft)) => {
                draft.names.push((Holder::Attribute(attribute), Vec::new()));
                place = Place::Name;
            }
            (Packet::PublicSubkey(subkey), Some(draft)) => {
                draft.subkeys.push((subkey, Vec::new()));
                place = Place::Subkey;
            }
            // What gpg keeps for itself, and what says nothing.
            (Packet::Trust(_) | Packet::Marker(_) | Packet::Padding(_), _) => {}
            _ => return Err(malformed("a packet that does not belong to a key")),
        }
    }
    Ok((drafts, strays))
}

impl Draft {
    /// Verifies what the key says of itself, and keeps that.
    fn proven(self, strays: &[Signature], keyring: &Arc<[u8]>) -> Result<GpgKey, KeyringError> {
        let primary = self.primary;
        let fingerprint = primary.fingerprint().to_string().to_uppercase();
        if !key::supported(primary.version()) {
            let why = format!("is of version {:?}", primary.version());
            return Err(KeyringError::Unusable(fingerprint, why));
        }
        let proven = |signature: &&Signature| signature.verify_key(&primary).is_ok();
        let direct: Vec<&Signature> = of(&self.signatures, SignatureType::Key)
            .filter(proven)
            .collect();
        let revocations = || of(&self.signatures, SignatureType::KeyRevocation);
        let revoked = revocations().chain(strays).any(|one| proven(&one));
        let names: Vec<Name> = self
            .names
            .iter()
            .map(|(holder, signatures)| holder.proven(signatures, &primary))
            .collect();
        // Somebody else may be named who can revoke it. Whether it was they cannot be told
        // without their key, so what claims to be their revocation is taken for it.
        let by_others = direct.iter().any(|said| names_revoker(said));
        let revoked = revoked || (by_others && revocations().next().is_some());
        let subkeys = self
            .subkeys
            .into_iter()
            .map(|(subkey, signatures)| bound(subkey, &signatures, &primary))
            .collect();
        let certificate = Certificate {
            revoked,
            direct: direct.into_iter().filter_map(Statement::of).collect(),
            names,
            subkeys,
            primary,
        };
        Ok(GpgKey::new(certificate, keyring))
    }
}

impl Holder {
    fn proven(&self, signatures: &[Signature], primary: &PublicKey) -> Name {
        let proven = |signature: &&Signature| {
            let verified = match self {
                Self::Id(id) => signature.verify_certification(primary, Tag::UserId, id),
                Self::Attribute(attribute) => {
                    signature.verify_certification(primary, Tag::UserAttribute, attribute)
                }
            };
            verified.is_ok()
        };
        let text = match self {
            Self::Id(id) => id.to_bytes(),
            Self::Attribute(attribute) => attribute.to_bytes(),
        };
        let own: Vec<&Signature> = signatures.iter().filter(proven).collect();
        let revokes =
            |signature: &&&Signature| signature.typ() == Some(SignatureType::CertRevocation);
        Name {
            text: text.unwrap_or_default(),
            statements: own
                .iter()
                .filter(|signature| !revokes(signature))
                .filter_map(|signature| Statement::of(signature))
                .collect(),
            revoked_at: own
                .iter()
                .filter(revokes)
                .filter_map(|signature| key::created(signature))
                .max(),
        }
    }
}

/// A subkey with what binds it.
fn bound(subkey: PublicSubkey, signatures: &[Signature], primary: &PublicKey) -> Subkey {
    let proven = |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey).is_ok();
    let revoked = of(signatures, SignatureType::SubkeyRevocation).any(|one| proven(&one));
    let bindings = of(signatures, SignatureType::SubkeyBinding)
        .filter(proven)
        .filter_map(|binding| {
            let mut said = Statement::of(binding)?;
            // A subkey that signs has to say itself whose it is, or anybody could adopt it.
            let agrees = binding
                .embedded_signature()
                .is_some_and(|back| back.verify_primary_key_binding(&subkey, primary).is_ok());
            said.may_sign = said.may_sign.map(|may_sign| may_sign && agrees);
            Some(said)
        })
        .collect();
    Subkey {
        key: subkey,
        revoked,
        bindings,
    }
}

fn of(signatures: &[Signature], kind: SignatureType) -> impl Iterator<Item = &Signature> {
    signatures
        .iter()
        .filter(move |signature| signature.typ() == Some(kind))
}

fn names_revoker(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        let mut subpackets = config.hashed_subpackets();
        subpackets.any(|subpacket| matches!(subpacket.data, SubpacketData::RevocationKey(_)))
    })
}
