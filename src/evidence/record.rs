//! Evidence written down as one, to be proven again when its registry is away.
//!
//! ```text
//! 4 bytes     the length of the list, little endian
//! list        JSON: what each piece is, where it came from, how many bytes it has
//! the bytes of each piece, one after the other
//! ```
//!
//! It is read as what it is: bytes of anybody. Each piece has to hash to its digest, as when it was
//! fetched, and what it proves is for `verify` to say.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::verify::Annotations;
use crate::verify::AttLayer;
use crate::verify::Evidence;
use crate::verify::GpgSignature;
use crate::verify::SigLayer;

const LENGTH_BYTES: usize = size_of::<u32>();

/// What a piece is, without its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    source: Digest,
    bytes: usize,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Bundle,
    SigLayer {
        signature: String,
        annotations: Annotations,
    },
    AttLayer {
        annotations: Annotations,
    },
    Gpg,
}

/// Writes evidence down; `None` where it does not fit the form, which is larger than any limit.
#[must_use]
pub fn write_down(evidence: &[Evidence]) -> Option<Bytes> {
    let pieces: Vec<(Piece, &Bytes)> = evidence.iter().map(piece).collect();
    let list: Vec<&Piece> = pieces.iter().map(|(piece, _)| piece).collect();
    let list = serde_json::to_vec(&list).ok()?;
    let length = u32::try_from(list.len()).ok()?.to_le_bytes();
    let bodies = pieces.iter().map(|(_, bytes)| bytes.as_ref());
    let parts: Vec<&[u8]> = [&length[..], &list].into_iter().chain(bodies).collect();
    Some(parts.concat().into())
}

/// Reads what was written down: the pieces that are what they were.
#[must_use]
pub fn read_back(mut record: Bytes) -> Vec<Evidence> {
    let Some((length, _)) = record.split_first_chunk::<LENGTH_BYTES>() else {
        return Vec::new();
    };
    let length = u32::from_le_bytes(*length) as usize;
    let mut record = record.split_off(LENGTH_BYTES);
    if length > record.len() {
        return Vec::new();
    }
    let list = record.split_to(length);
    let pieces: Vec<Piece> = serde_json::from_slice(&list).unwrap_or_default();
    let mut evidence = Vec::new();
    for piece in pieces {
        if piece.bytes > record.len() {
            break;
        }
        let bytes = record.split_to(piece.bytes);
        if Digest::of(piece.source.algorithm(), &bytes) == piece.source {
            evidence.push(of_piece(piece, bytes));
        }
    }
    evidence
}

fn piece(evidence: &Evidence) -> (Piece, &Bytes) {
    let (source, bytes, kind) = match evidence {
        Evidence::Bundle { source, json } => (source, json, Kind::Bundle),
        Evidence::SigLayer(layer) => {
            let kind = Kind::SigLayer {
                signature: layer.signature.clone(),
                annotations: layer.annotations.clone(),
            };
            (&layer.source, &layer.payload, kind)
        }
        Evidence::AttLayer(layer) => {
            let annotations = layer.annotations.clone();
            (
                &layer.source,
                &layer.envelope,
                Kind::AttLayer { annotations },
            )
        }
        Evidence::Gpg(signature) => (&signature.source, &signature.message, Kind::Gpg),
    };
    let piece = Piece {
        source: *source,
        bytes: bytes.len(),
        kind,
    };
    (piece, bytes)
}

fn of_piece(Piece { source, kind, .. }: Piece, bytes: Bytes) -> Evidence {
    match kind {
        Kind::Bundle => Evidence::Bundle {
            source,
            json: bytes,
        },
        Kind::SigLayer {
            signature,
            annotations,
        } => Evidence::SigLayer(SigLayer {
            source,
            payload: bytes,
            signature,
            annotations,
        }),
        Kind::AttLayer { annotations } => Evidence::AttLayer(AttLayer {
            source,
            envelope: bytes,
            annotations,
        }),
        Kind::Gpg => Evidence::Gpg(GpgSignature::new(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn all() -> Vec<Evidence> {
        let annotations = Annotations {
            certificate: Some("a certificate".to_owned()),
            log_entry: Some("{}".to_owned()),
            ..Annotations::default()
        };
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        vec![
            Evidence::Bundle {
                source: Digest::sha256(b"a bundle"),
                json: bytes("a bundle"),
            },
            Evidence::SigLayer(SigLayer {
                source: Digest::sha256(b"a payload"),
                payload: bytes("a payload"),
                signature: "a signature".to_owned(),
                annotations: annotations.clone(),
            }),
            Evidence::AttLayer(AttLayer {
                source: Digest::of(Algorithm::Sha512, b"an envelope"),
                envelope: bytes("an envelope"),
                annotations,
            }),
            Evidence::Gpg(GpgSignature::new(bytes("a message"))),
        ]
    }

    fn written() -> Vec<u8> {
        write_down(&all()).expect("it fits").to_vec()
    }

    #[test]
    fn evidence_is_read_back_as_it_was() {
        let read = read_back(written().into());
        assert_eq!(format!("{read:?}"), format!("{:?}", all()));
        assert!(read_back(Bytes::new()).is_empty());
        let none = write_down(&[]).expect("it fits");
        assert!(read_back(none).is_empty());
    }

    // THREATS C8.
    #[test]
    fn what_was_edited_is_none_of_it() {
        let (whole, count) = (written(), all().len());
        for end in 0..whole.len() {
            assert!(read_back(Bytes::copy_from_slice(&whole[..end])).len() < count);
        }
        for at in 0..whole.len() {
            let mut edited = whole.clone();
            edited[at] ^= 1;
            for piece in read_back(edited.into()) {
                let (piece, bytes) = super::piece(&piece);
                assert_eq!(Digest::of(piece.source.algorithm(), bytes), piece.source);
            }
        }
    }
}
