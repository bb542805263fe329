//! GPG signatures: OpenPGP messages, which are packets and no JSON.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{SignedDuration, Timestamp};
use pullgate::oci::Digest;
use pullgate::sandbox::gpg::{Holder, Life};
use pullgate::verify::{self, Evidence, Fact, GpgSignature, Material, read_keyring};

use crate::harness::World;
use crate::matrix::{Matrix, Outcome, Piece};

/// The packets of a message, in their order.
const PACKETS: [&str; 3] = ["announcement", "payload", "signature"];

/// Parts of changes that leave the message as good as it was, and why.
const NEUTRAL: &[(&str, &str)] = &[
    (
        "payload: header",
        "name and date of the text are not signed (RFC 9580, 5.9), and not read",
    ),
    (
        "signature: unhashed",
        "what is not hashed says which key is tried first",
    ),
    ("announcement: nested", "one signature is all there is"),
    (
        "announcement: key",
        "whose signature will follow is not signed; the signature says it itself",
    ),
    ("announcement: swapped", "the same"),
];

/// A message in packets, each with its header.
fn split(message: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    let mut rest = message;
    while let [tag, length, ..] = rest {
        assert!(*tag >= 0xc0, "headers of the new format");
        let (header, body) = match *length {
            one @ 0..192 => (2, usize::from(one)),
            first @ 192..224 => {
                let second = rest.get(2).copied().unwrap_or_default();
                (
                    3,
                    (usize::from(first) - 192) * 256 + usize::from(second) + 192,
                )
            }
            _ => panic!("no packet here is as long"),
        };
        let (packet, others) = rest.split_at(header + body);
        packets.push(packet);
        rest = others;
    }
    packets
}

/// Every mutant of a message: packet by packet, and one bit of every byte.
fn mutants(message: &[u8], donors: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let packets = split(message);
    let donors: Vec<_> = donors.iter().map(|donor| split(donor)).collect();
    let mut mutants = Vec::new();
    for (number, name) in PACKETS.into_iter().enumerate() {
        let with = |instead: &[&[u8]]| {
            let mut packets = packets.clone();
            packets.splice(number..=number, instead.iter().copied());
            packets.concat()
        };
        let mut add = |what: &str, mutant| mutants.push((format!("{name}: {what}"), mutant));
        let own = packets[number];
        add("removed", with(&[]));
        add("twice", with(&[own, own]));
        for donor in donors.iter().map(|donor| donor[number]) {
            if donor != own {
                add("swapped", with(&[donor]));
                add("the other's before it", with(&[donor, own]));
                add("the other's after it", with(&[own, donor]));
            }
        }
        for place in 0..own.len() {
            for bit in 0..8 {
                let mut packet = own.to_vec();
                packet[place] ^= 1 << bit;
                let part = part(name, own, place);
                add(
                    &format!("{part}bit {bit} of byte {place} flipped"),
                    with(&[&packet]),
                );
            }
        }
    }
    for length in 0..message.len() {
        mutants.push((
            format!("cut off after {length} bytes"),
            message[..length].to_vec(),
        ));
    }
    mutants
}

/// Which part of a packet a byte belongs to, where nobody signed it.
fn part(name: &str, packet: &[u8], place: usize) -> &'static str {
    let header = if packet[1] < 192 { 2 } else { 3 };
    let at = place.checked_sub(header);
    match (name, at) {
        // Its format, the length and name of a file (none), a date.
        ("payload", Some(0..6)) => "header, ",
        // Version, type, hash algorithm, key algorithm; then the key's ID.
        ("announcement", Some(4..12)) => "key, ",
        ("announcement", Some(at)) if at == packet.len() - header - 1 => "nested, ",
        ("signature", Some(at)) => {
            // Version, type, key algorithm, hash algorithm; then what is hashed, by its length.
            let length = |at: usize| {
                let [high, low] = [packet[header + at], packet[header + at + 1]];
                usize::from(high) << 8 | usize::from(low)
            };
            let hashed = 6 + length(4);
            match (hashed + 2..hashed + 2 + length(hashed)).contains(&at) {
                true => "unhashed, ",
                false => "",
            }
        }
        _ => "",
    }
}

#[test]
fn messages() {
    let world = World::new();
    let yesterday = world.now - SignedDuration::from_hours(24);
    let holder = || Holder::new(Life::from(yesterday));
    let (ada, mallory) = (holder(), holder());
    let sign = |holder: &Holder, digest: &Digest, at: Timestamp| {
        holder.sign_image(digest, "registry.sandbox.test/app:v1", at)
    };
    let message = sign(&ada, &world.digest(), yesterday);
    let donors = [
        sign(&ada, &world.other_image.digest(), yesterday),
        sign(&mallory, &world.digest(), yesterday),
    ];
    let material = Material {
        gpg_keys: read_keyring(&ada.keyring()).expect("a keyring"),
        ..Material::default()
    };
    let prove = |message: &[u8]| -> Option<Vec<Fact>> {
        let evidence = Evidence::Gpg(GpgSignature::new(message.to_vec().into()));
        let facts = verify::prove(&evidence, &world.digest(), &material, world.now).ok()?;
        // Where it is found says its digest.
        let source = Digest::sha256(b"somewhere");
        Some(
            facts
                .into_iter()
                .map(|fact| Fact { source, ..fact })
                .collect(),
        )
    };
    let sound = prove(&message).expect("the message is sound");
    let mut matrix = Matrix::new(PACKETS.map(|name| Piece::new(name, &[name])).into());
    let mutants = mutants(&message, &donors);
    let mut bad = Vec::new();
    for (change, mutant) in &mutants {
        match catch_unwind(AssertUnwindSafe(|| prove(mutant))) {
            Ok(None) => matrix.count(change, Outcome::Refused),
            Ok(Some(facts)) if facts == sound && is_neutral(change) => {
                matrix.count(change, Outcome::Neutral);
            }
            Ok(Some(facts)) => bad.push(format!("{change}: {}", facts == sound)),
            Err(_) => bad.push(format!("{change}: panicked")),
        }
    }
    println!("GPG: {} mutants\n{}", mutants.len(), matrix.table());
    bad.extend(matrix.gaps("GPG"));
    assert!(bad.is_empty(), "{}:\n{}", bad.len(), bad.join("\n"));
}

fn is_neutral(change: &str) -> bool {
    NEUTRAL.iter().any(|(place, _)| change.starts_with(place))
}
