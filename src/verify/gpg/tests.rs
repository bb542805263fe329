//! Keys and signatures of every kind that counts, and of those that do not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pgp::{
    armor,
    packet::{Packet, PacketParser},
    ser::Serialize as _,
};
use proptest::prelude::*;

use super::*;
use crate::sandbox::gpg::{Holder, Life, Manner, payload};

const DAY: Duration = Duration::from_secs(86_400);
const REFERENCE: &str = "registry.acme.test/acme/widget:v1";

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn days(count: i64) -> Timestamp {
    start() + SignedDuration::from_hours(24 * count)
}

fn digest() -> Digest {
    Digest::sha256(b"image")
}

fn holder() -> Holder {
    Holder::new(Life::from(start()))
}

fn material(keyring: &[u8]) -> Material {
    Material {
        gpg_keys: read_keyring(keyring).expect("a keyring"),
        ..Material::default()
    }
}

/// What the message proves on that day, under the keyring.
fn proven(message: Vec<u8>, keyring: &[u8], day: i64) -> Result<Fact, String> {
    let signature = GpgSignature::new(message.into());
    let facts = prove(&signature, &digest(), &material(keyring), days(day));
    facts.map(|facts| facts.into_iter().next().expect("one fact"))
}

fn signed(holder: &Holder, day: i64) -> Vec<u8> {
    holder.sign_image(&digest(), REFERENCE, days(day))
}

fn refused(message: Vec<u8>, keyring: &[u8], day: i64, because: &str) {
    let why = proven(message, keyring, day).expect_err(because);
    assert!(why.contains(because), "{why}");
}

#[test]
fn a_signature_says_who_signed_for_which_image() {
    let holder = holder();
    let fact = proven(signed(&holder, 1), &holder.keyring(), 2).expect("a proof");
    assert_eq!(fact.docker_reference.as_deref(), Some(REFERENCE));
    assert_eq!(fact.kind, Kind::Signature);
    // What time a signature states is its signer's claim.
    assert_eq!((fact.root, fact.signed_at), (None, None));
    let Signer::Gpg {
        fingerprint,
        ends_at,
    } = fact.signer
    else {
        panic!("another signer");
    };
    assert_eq!((&*fingerprint, ends_at), (&*holder.fingerprint(), None));
}

#[test]
fn another_key_proves_nothing() {
    let keyring = holder().keyring();
    refused(
        signed(&holder(), 1),
        &keyring,
        2,
        "which no policy for this image names",
    );
}

#[test]
fn an_altered_message_proves_nothing() {
    let holder = holder();
    let message = signed(&holder, 1);
    let at = message
        .windows(5)
        .position(|part| part == b"acme/")
        .expect("the name");
    let mut altered = message.clone();
    altered[at] ^= 1;
    refused(altered, &holder.keyring(), 2, "it was altered");
    // Every single byte of it: nothing proves but what was signed.
    for at in 0..message.len() {
        let mut altered = message.clone();
        altered[at] ^= 1;
        let fact = proven(altered, &holder.keyring(), 2);
        let harmless = fact.is_err()
            || fact.is_ok_and(|fact| fact.docker_reference.as_deref() == Some(REFERENCE));
        assert!(harmless, "byte {at}");
    }
}

#[test]
fn another_digest_proves_nothing() {
    let holder = holder();
    let message = holder.sign_image(&Digest::sha256(b"other"), REFERENCE, days(1));
    refused(message, &holder.keyring(), 2, "another digest");
}

#[test]
fn an_expired_key_proves_nothing_even_for_what_it_signed_before() {
    let mut holder = holder();
    holder.life.lasts = Some(DAY * 10);
    let message = signed(&holder, 1);
    let fact = proven(message.clone(), &holder.keyring(), 9).expect("a proof");
    assert!(matches!(fact.signer, Signer::Gpg { ends_at, .. } if ends_at == Some(days(10))));
    refused(
        message.clone(),
        &holder.keyring(),
        10,
        "expired at 2026-01-11",
    );
    // The holder may put the end off: the latest word counts, wherever it stands.
    let first = holder.keyring();
    holder.life.lasts = Some(DAY * 100);
    let at_once = [first.clone(), holder.keyring()].concat();
    refused(message.clone(), &at_once, 10, "expired at 2026-01-11");
    holder.life.created = days(5);
    let (one, two) = ([first.clone(), holder.keyring()], [holder.keyring(), first]);
    assert!(proven(message.clone(), &one.concat(), 10).is_ok());
    assert!(proven(message.clone(), &two.concat(), 10).is_ok());
    refused(message, &two.concat(), 100, "expired at 2026-04-11");
}

#[test]
fn a_revoked_key_proves_nothing_whenever_it_signed() {
    let mut holder = holder();
    let message = signed(&holder, 1);
    let unrevoked = holder.keyring();
    holder.life.revoked = true;
    refused(message.clone(), &holder.keyring(), 2, "is revoked");
    // A revocation holds wherever it stands: behind the keys, behind other keys, in one of
    // two copies.
    let behind = [unrevoked.clone(), holder.revocation()].concat();
    refused(message.clone(), &behind, 2, "is revoked");
    let other = self::holder().keyring();
    let behind = [unrevoked.clone(), other.clone(), holder.revocation()].concat();
    refused(message.clone(), &behind, 2, "is revoked");
    let before = [holder.revocation(), unrevoked.clone()].concat();
    refused(message.clone(), &before, 2, "is revoked");
    let copies = [unrevoked, other, holder.keyring()].concat();
    refused(message, &copies, 2, "is revoked");
}

#[test]
fn a_strangers_revocation_revokes_nothing_and_is_told() {
    let holder = holder();
    let stray = [holder.keyring(), self::holder().revocation()].concat();
    assert!(matches!(
        read_keyring(&stray),
        Err(KeyringError::StrayRevocation(_))
    ));
}

#[test]
fn subkeys_sign_as_their_primary_key_lets_them() {
    let by_subkey = Manner {
        by_subkey: true,
        ..Manner::at(days(2))
    };
    let subkey = || holder().with_subkey(Life::from(days(1)));
    let message = |holder: &Holder| holder.sign(&payload(&digest(), REFERENCE), &by_subkey);

    let good = subkey();
    let fact = proven(message(&good), &good.keyring(), 3).expect("a proof");
    // The signer is known by the primary key.
    assert!(fact.signer.to_string().contains(&good.fingerprint()));

    let mut revoked = subkey();
    revoked.subkey_life.revoked = true;
    refused(
        message(&revoked),
        &revoked.keyring(),
        3,
        "has revoked the subkey",
    );
    let mut expired = subkey();
    expired.subkey_life.lasts = Some(DAY * 3);
    assert!(proven(message(&expired), &expired.keyring(), 3).is_ok());
    refused(
        message(&expired),
        &expired.keyring(),
        4,
        "has a subkey that signed and expired",
    );
    let mut silent = subkey();
    silent.subkey_life.may_sign = false;
    refused(
        message(&silent),
        &silent.keyring(),
        3,
        "does not let the subkey sign",
    );
    let mut adopted = subkey();
    adopted.subkey_agrees = false;
    refused(
        message(&adopted),
        &adopted.keyring(),
        3,
        "does not let the subkey sign",
    );
    let mut orphan = subkey();
    orphan.life.revoked = true;
    refused(message(&orphan), &orphan.keyring(), 3, "is revoked");
    // A primary key that only certifies does not sign itself.
    let mut certifier = subkey();
    certifier.life.may_sign = false;
    assert!(proven(message(&certifier), &certifier.keyring(), 3).is_ok());
    refused(
        signed(&certifier, 2),
        &certifier.keyring(),
        3,
        "may not sign",
    );
}

#[test]
fn times_that_cannot_be_prove_nothing() {
    let holder = holder();
    refused(
        signed(&holder, 3),
        &holder.keyring(),
        2,
        "made in the future",
    );
    refused(
        signed(&holder, -1),
        &holder.keyring(),
        2,
        "is younger than the signature",
    );
    let brief = Manner {
        lasts: Some(DAY),
        ..Manner::at(days(1))
    };
    let message = holder.sign(&payload(&digest(), REFERENCE), &brief);
    refused(message, &holder.keyring(), 2, "the signature expired");
    let tomorrows = Holder::new(Life::from(days(5)));
    refused(
        signed(&tomorrows, 1),
        &tomorrows.keyring(),
        2,
        "in the future",
    );
}

#[test]
fn weak_hashes_and_unknown_demands_prove_nothing() {
    let holder = holder();
    let sign = |manner: Manner| holder.sign(&payload(&digest(), REFERENCE), &manner);
    // As one by SHA-1 would look; it is refused before it is computed.
    let mut weak = signed(&holder, 1);
    let at = weak.windows(4).position(|part| part == [4, 0, 27, 8]);
    weak[at.expect("the signature") + 3] = 2;
    weak[4] = 2;
    refused(
        weak,
        &holder.keyring(),
        2,
        "rests on SHA1, which is too weak",
    );
    let demanding = sign(Manner {
        demands: true,
        ..Manner::at(days(1))
    });
    refused(demanding, &holder.keyring(), 2, "not understood");
}

/// A packet of a kind (RFC 9580, 4.2) around `body`.
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[0xc0 | tag, 0xff][..], &length, body].concat()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(vec![1], flate2::Compression::default());
    encoder.write_all(bytes).expect("compresses");
    packet(8, &encoder.finish().expect("compresses"))
}

#[test]
fn a_compressed_message_is_read_once_and_to_a_bound() {
    let holder = holder();
    let message = signed(&holder, 1);
    assert!(proven(compressed(&message), &holder.keyring(), 2).is_ok());
    let twice = compressed(&compressed(&message));
    refused(twice, &holder.keyring(), 2, "one text with one signature");
    // THREATS D2: some kilobytes that unfold to 64 MiB.
    let bomb = compressed(&packet(11, &vec![0; 64 << 20]));
    assert!(bomb.len() < 128 << 10);
    refused(bomb, &holder.keyring(), 2, "too large");
}

#[test]
fn messages_of_another_shape_prove_nothing() {
    let holder = holder();
    let message = signed(&holder, 1);
    let parts: Vec<Packet> = PacketParser::new(&message[..])
        .map(|one| one.expect("a packet"))
        .collect();
    let written = |order: &[usize]| -> Vec<u8> {
        let mut bytes = Vec::new();
        for at in order {
            parts[*at].to_writer(&mut bytes).expect("writes");
        }
        bytes
    };
    // The old order, without an announcement, is one too.
    assert!(proven(written(&[2, 1]), &holder.keyring(), 2).is_ok());
    for order in [
        &[0, 1, 2, 2][..],
        &[0, 0, 1, 2],
        &[1, 2],
        &[0, 1],
        &[1],
        &[2],
        &[0, 1, 1, 2],
    ] {
        assert!(
            proven(written(order), &holder.keyring(), 2).is_err(),
            "{order:?}"
        );
    }
    for other in [
        &b""[..],
        b"\0sigstore-json\n{}",
        b"-----BEGIN PGP MESSAGE-----",
        b"{}",
    ] {
        assert!(proven(other.to_vec(), &holder.keyring(), 2).is_err());
    }
}

#[test]
fn keyrings_are_read_armored_and_binary_and_whole() {
    let (one, two) = (holder(), holder());
    let keyring = [one.keyring(), two.keyring()].concat();
    assert_eq!(read_keyring(&keyring).map(|keys| keys.len()), Ok(2));
    let block = |bytes: &[u8]| {
        struct Raw<'a>(&'a [u8]);
        impl pgp::ser::Serialize for Raw<'_> {
            fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
                Ok(writer.write_all(self.0)?)
            }
            fn write_len(&self) -> usize {
                self.0.len()
            }
        }
        let mut text = Vec::new();
        let kind = armor::BlockType::PublicKey;
        armor::write(&Raw(bytes), kind, &mut text, None, true).expect("writes");
        text
    };
    let armored = [block(&one.keyring()), b"\n".to_vec(), block(&two.keyring())].concat();
    let keys = read_keyring(&armored).expect("two keys");
    assert_eq!(keys.len(), 2);
    assert!(proven(signed(&two, 1), &armored, 2).is_ok());
    // `cat key.asc revocation.asc`
    let revoked = [block(&one.keyring()), block(&one.revocation())].concat();
    refused(signed(&one, 1), &revoked, 2, "is revoked");
    // gpg writes words before the certificate, and a colon that the holder is to take away.
    let words = b"This is a revocation certificate:\n\npub  ed25519\n\n".to_vec();
    let told = [block(&one.keyring()), words, block(&one.revocation())].concat();
    refused(signed(&one, 1), &told, 2, "is revoked");
    // Half a block is not taken for words: it could be a revocation.
    for cut in [10, 40, 200] {
        let revocation = block(&one.revocation());
        let headless = [block(&one.keyring()), revocation[cut..].to_vec()].concat();
        assert!(read_keyring(&headless).is_err(), "without its first {cut}");
        let revocation = &revocation[..revocation.len() - cut.min(revocation.len())];
        let tailless = [block(&one.keyring()), revocation.to_vec()].concat();
        assert!(read_keyring(&tailless).is_err(), "without its last {cut}");
    }

    assert_eq!(read_keyring(b""), Err(KeyringError::Empty));
    assert_eq!(read_keyring(b"no keys here"), Err(KeyringError::Empty));
    assert!(
        read_keyring(&keyring[..keyring.len() - 7]).is_err(),
        "cut short"
    );
    assert!(
        read_keyring(&signed(&one, 1)).is_err(),
        "a message is no keyring"
    );
}

#[test]
fn one_key_of_two_keyrings_is_one() {
    let mut holder = holder();
    let message = signed(&holder, 1);
    let copy = read_keyring(&holder.keyring()).expect("a keyring");
    holder.life.revoked = true;
    let other = read_keyring(&holder.keyring()).expect("a keyring");
    let gpg_keys = GpgKey::merged(copy.iter().chain(&other));
    assert_eq!(gpg_keys.len(), 1);
    let material = Material {
        gpg_keys,
        ..Material::default()
    };
    let signature = GpgSignature::new(message.into());
    assert!(prove(&signature, &digest(), &material, days(2)).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_prove_nothing_and_break_nothing(bytes: Vec<u8>) {
        let holder = holder();
        prop_assert!(proven(bytes.clone(), &holder.keyring(), 2).is_err());
        let _ = read_keyring(&bytes);
    }

    #[test]
    fn packets_of_arbitrary_bytes_prove_nothing(
        tags in prop::collection::vec((0u8..64, prop::collection::vec(any::<u8>(), 0..200)), 1..5)
    ) {
        let holder = holder();
        let bytes: Vec<u8> = tags.iter().flat_map(|(tag, body)| packet(*tag, body)).collect();
        prop_assert!(proven(bytes.clone(), &holder.keyring(), 2).is_err());
        prop_assert!(proven(compressed(&bytes), &holder.keyring(), 2).is_err());
        let _ = read_keyring(&bytes);
    }

    #[test]
    fn broken_keyrings_break_nothing(at in 0usize..400, flip in 1u8..) {
        let holder = holder().with_subkey(Life::from(start()));
        let message = signed(&holder, 1);
        let mut keyring = holder.keyring();
        let at = at % keyring.len();
        keyring[at] ^= flip;
        if let Ok(gpg_keys) = read_keyring(&keyring) {
            let material = Material { gpg_keys, ..Material::default() };
            let _ = prove(&GpgSignature::new(message.into()), &digest(), &material, days(2));
        }
    }
}
