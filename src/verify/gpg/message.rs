//! The signed message: taken apart within bounds, before any cryptography.
//!
//! What tools write is one literal text with one signature, mostly compressed as a whole
//! (RFC 9580, 10.3). Nothing else is looked at: no message within a message, no second
//! signature, no encryption.

use std::io::{Cursor, Read as _};

use pgp::{
    crypto::hash::HashAlgorithm,
    packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion},
};

use super::key;

/// The largest message, and the most that it may unfold to, in bytes. Real ones have some
/// hundred; whoever fetches them has a bound of its own.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most packets of one layer: two about the signature and the text are all there can be,
/// and one more is too many.
const PACKETS_MAX: usize = 3;

/// A message in its parts.
pub(super) struct Opened {
    pub(super) signature: Signature,
    pub(super) payload: Vec<u8>,
}

/// Takes a message apart.
pub(super) fn open(message: &[u8]) -> Result<Opened, String> {
    match message.first() {
        Some(0x80..) => {}
        Some(0) => return Err("it is not an OpenPGP message but another format".to_owned()),
        _ => return Err("it is not a binary OpenPGP message".to_owned()),
    }
    let mut packets = packets(message)?;
    if let [Packet::CompressedData(_)] = packets.as_slice() {
        packets = self::packets(&inflated(&packets)?)?;
    }
    let (signature, literal) = match <[Packet; 3]>::try_from(packets) {
        Ok(
            [
                Packet::OnePassSignature(announced),
                Packet::LiteralData(literal),
                Packet::Signature(signature),
            ],
        ) if announced.matches(&signature) => (signature, literal),
        Ok(_) => return Err(shape()),
        Err(packets) => match <[Packet; 2]>::try_from(packets) {
            Ok([Packet::Signature(signature), Packet::LiteralData(literal)]) => {
                (signature, literal)
            }
            _ => return Err(shape()),
        },
    };
    check(&signature)?;
    Ok(Opened {
        signature,
        payload: literal.data().to_vec(),
    })
}

fn shape() -> String {
    "it is not an OpenPGP message of one text with one signature".to_owned()
}

fn packets(bytes: &[u8]) -> Result<Vec<Packet>, String> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err("the message is too large".to_owned());
    }
    let mut packets = Vec::new();
    for packet in PacketParser::new(Cursor::new(bytes)) {
        if packets.len() == PACKETS_MAX {
            return Err(shape());
        }
        packets.push(packet.map_err(|error| format!("it does not parse: {error}"))?);
    }
    Ok(packets)
}

/// What is compressed, to a bound: a few bytes can unfold to gigabytes.
fn inflated(packets: &[Packet]) -> Result<Vec<u8>, String> {
    let [Packet::CompressedData(compressed)] = packets else {
        return Err(shape());
    };
    let unreadable = |error: String| format!("it does not unfold: {error}");
    let mut reader = compressed
        .decompress()
        .map_err(|error| unreadable(error.to_string()))?
        .take(MESSAGE_BYTES_MAX as u64 + 1);
    let mut inflated = Vec::new();
    reader
        .read_to_end(&mut inflated)
        .map_err(|error| unreadable(error.to_string()))?;
    Ok(inflated)
}

/// A signature of a kind that counts: of bytes, by a hash that holds, with nothing in it that
/// has to be understood and is not.
fn check(signature: &Signature) -> Result<(), String> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    if !matches!(
        signature.version(),
        SignatureVersion::V4 | SignatureVersion::V6
    ) {
        return Err("the signature is of an old version".to_owned());
    }
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("the signature is not one of a message".to_owned());
    }
    match signature.hash_alg() {
        Some(Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512) => {}
        Some(weak) => return Err(format!("the signature rests on {weak}, which is too weak")),
        None => return Err("the signature names no hash".to_owned()),
    }
    match key::understood(signature) {
        true => Ok(()),
        false => Err("the signature demands something that is not understood".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    // THREATS D2: what a bomb would unfold to is never held.
    #[test]
    fn d2_a_bomb_unfolds_to_the_bound_and_no_further() {
        // The algorithm (ZIP), then the zeros.
        let mut encoder = flate2::write::DeflateEncoder::new(vec![1], flate2::Compression::fast());
        encoder
            .write_all(&vec![0; 4 * MESSAGE_BYTES_MAX])
            .expect("compresses");
        let body = encoder.finish().expect("compresses");
        // A packet of type 8 with a length of four bytes.
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let bomb = [&[0xc8, 0xff], &length[..], &body].concat();
        let inflated = inflated(&packets(&bomb).expect("one packet")).expect("unfolds");
        assert_eq!(inflated.len(), MESSAGE_BYTES_MAX + 1);
    }
}
