//! Which piece of a format was changed in which way, and what became of it; so that a piece that
//! the walk does not reach, or a way in which it is not changed, fails the test.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pullgate::sandbox::sigstore::{BundleVersion, Log};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, DecodePem as _};

use crate::harness::By;
use crate::neutral::{harmless, same_everywhere};
use crate::shape::{Carrier, Content, Kept, Shape};

/// The list of certificate timestamps.
const CERTIFICATE_TIMESTAMPS: &str = "1.3.6.1.4.1.11129.2.4.2";

/// What is done to a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A bit of it, or a number in it, wherever in it that is.
    Flipped,
    /// All of it.
    Removed,
    /// All of it, for that of another valid document.
    Swapped,
    /// All of it, by itself or by that of another valid document.
    Duplicated,
}

impl Operation {
    const ALL: [Self; 4] = [
        Self::Flipped,
        Self::Removed,
        Self::Swapped,
        Self::Duplicated,
    ];

    fn of(what: &str) -> Option<Self> {
        match what {
            "removed" | "null" | "emptied" => Some(Self::Removed),
            "swapped" | "changes places with the next" => Some(Self::Swapped),
            "twice" | "the other's before it" | "the other's after it" => Some(Self::Duplicated),
            "one more" | "one less" | "flipped" => Some(Self::Flipped),
            _ if what.starts_with("twice, ") => Some(Self::Duplicated),
            _ if what.ends_with(" flipped") || what.ends_with(" character changed") => {
                Some(Self::Flipped)
            }
            _ => None,
        }
    }
}

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It proves nothing, or nothing vouches for it any more.
    Refused,
    /// It proves the same, and `neutral.rs` says why that is no harm.
    Neutral,
}

/// A piece of a format.
pub(crate) struct Piece {
    name: String,
    /// Where it stands: with all that holds nothing else, from the outside in.
    places: Vec<String>,
}

impl Piece {
    pub(crate) fn new(name: impl Into<String>, places: &[impl AsRef<str>]) -> Self {
        let places = places.iter().map(|place| place.as_ref().to_owned());
        Self {
            name: name.into(),
            places: places.collect(),
        }
    }

    /// Whether all of it stands in places that are such.
    pub(crate) fn stands(&self, such: impl Fn(&str) -> bool) -> bool {
        self.places.iter().all(|place| such(place))
    }

    /// Whether the place is all of it.
    fn is(&self, place: &str) -> bool {
        self.places.iter().any(|whole| whole == place)
    }

    /// Whether the place is in it.
    fn has(&self, place: &str) -> bool {
        let within = |whole: &String| {
            let rest = place.strip_prefix(whole.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '/']))
        };
        self.places.iter().any(within)
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Cell {
    refused: usize,
    neutral: usize,
}

/// Pieces, and for each what was done to it.
pub(crate) struct Matrix {
    rows: Vec<(Piece, [Cell; 4])>,
}

impl Matrix {
    pub(crate) fn new(pieces: Vec<Piece>) -> Self {
        let rows = pieces.into_iter().map(|piece| (piece, Default::default()));
        Self {
            rows: rows.collect(),
        }
    }

    pub(crate) fn count(&mut self, change: &str, outcome: Outcome) {
        let Some((place, what)) = change.rsplit_once(": ") else {
            return;
        };
        let Some(operation) = Operation::of(what) else {
            return;
        };
        for (piece, cells) in &mut self.rows {
            let counts = match operation {
                Operation::Flipped => piece.has(place),
                Operation::Removed | Operation::Swapped | Operation::Duplicated => piece.is(place),
            };
            let cell = &mut cells[operation as usize];
            match (counts, outcome) {
                (false, _) => {}
                (true, Outcome::Refused) => cell.refused += 1,
                (true, Outcome::Neutral) => cell.neutral += 1,
            }
        }
    }

    /// The table: how many mutants of each kind were refused, and how many more made no
    /// difference.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for (piece, cells) in &self.rows {
            let _ = write!(table, "    {:44}", piece.name);
            for (operation, cell) in Operation::ALL.iter().zip(cells) {
                let name = format!("{operation:?}").to_lowercase();
                let _ = match cell.neutral {
                    0 => write!(table, " {name} {:<8}", cell.refused),
                    neutral => write!(
                        table,
                        " {name} {:<8}",
                        format!("{}+{neutral}", cell.refused)
                    ),
                };
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        table
    }

    /// What was not tried, and what came through everywhere without its reason being told.
    pub(crate) fn gaps(&self, format: &str) -> Vec<String> {
        let mut gaps = Vec::new();
        for (piece, cells) in &self.rows {
            for (operation, cell) in Operation::ALL.into_iter().zip(cells) {
                let name = piece.name.as_str();
                let gap = match cell {
                    Cell {
                        refused: 0,
                        neutral: 0,
                    } => {
                        let same = operation == Operation::Swapped && same_everywhere(name);
                        (!same).then_some("not tried")
                    }
                    Cell { refused: 0, .. } => {
                        let harmless = harmless(format, name, operation);
                        (!harmless).then_some("never refused")
                    }
                    Cell { .. } => None,
                };
                gaps.extend(gap.map(|gap| format!("{name}, {operation:?}: {gap}")));
            }
        }
        gaps
    }
}

/// The pieces that a format is made of.
pub(crate) fn pieces(shape: &Shape, document: &[u8]) -> Vec<Piece> {
    let document: Value = serde_json::from_slice(document).expect("a document is JSON");
    let mut pieces = match shape.carrier {
        Carrier::Bundle(version) => bundle(shape, version, &document),
        Carrier::SigLayer | Carrier::AttLayer => layer(shape, &document),
    };
    assert!(!pieces.is_empty(), "{}", shape.name());
    pieces.sort_by(|one, two| one.name.cmp(&two.name));
    pieces
}

const MATERIAL: &str = "verificationMaterial";

fn bundle(shape: &Shape, version: BundleVersion, document: &Value) -> Vec<Piece> {
    let mut pieces = vec![match shape.content {
        Content::Statement => Piece::new("payload", &["dsseEnvelope.payload"]),
        Content::Message => Piece::new(
            "payload",
            &[
                "messageSignature.messageDigest",
                "messageSignature.messageDigest.digest",
            ],
        ),
    }];
    pieces.push(match shape.content {
        Content::Statement => Piece::new(
            "signature",
            &[
                "dsseEnvelope.signatures",
                "dsseEnvelope.signatures[0]",
                "dsseEnvelope.signatures[0].sig",
            ],
        ),
        Content::Message => Piece::new("signature", &["messageSignature.signature"]),
    });
    if shape.content == Content::Statement {
        pieces.push(Piece::new("payload type", &["dsseEnvelope.payloadType"]));
    }
    let single = matches!(version, BundleVersion::V0_3 | BundleVersion::V0_3Parameter);
    let material = &document[MATERIAL];
    match (shape.by, single) {
        (By::Key, _) => {
            pieces.push(Piece::new("key hint", &["verificationMaterial.publicKey"]));
        }
        (_, true) => {
            let whole = "verificationMaterial.certificate";
            let raw = "verificationMaterial.certificate.rawBytes";
            pieces.push(Piece::new("certificate", &[whole, raw]));
            let der = decoded(&material["certificate"]["rawBytes"]);
            pieces.extend(extensions(&der, &format!("{raw}/base64")));
        }
        (_, false) => {
            let whole = "verificationMaterial.x509CertificateChain.certificates[0]";
            let raw = format!("{whole}.rawBytes");
            pieces.push(Piece::new("certificate", &[whole, &raw]));
            let first = &material["x509CertificateChain"]["certificates"][0]["rawBytes"];
            pieces.extend(extensions(&decoded(first), &format!("{raw}/base64")));
        }
    }
    if shape.log != Log::None {
        pieces.extend(entry(shape, &material["tlogEntries"][0]));
    }
    if shape.has_timestamp() {
        pieces.push(Piece::new(
            "timestamp",
            &[
                "verificationMaterial.timestampVerificationData.rfc3161Timestamps[0]",
                "verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp",
            ],
        ));
    }
    pieces
}

/// The pieces of a log entry in a bundle.
fn entry(shape: &Shape, entry: &Value) -> Vec<Piece> {
    const ENTRY: &str = "verificationMaterial.tlogEntries[0]";
    let piece = |name: &str, places: &[&str]| {
        let places = places.iter().map(|place| format!("{ENTRY}.{place}"));
        Piece {
            name: name.to_owned(),
            places: places.collect(),
        }
    };
    let mut pieces = vec![
        Piece::new("log entry", &[ENTRY]),
        piece("log entry body", &["canonicalizedBody"]),
        piece("log entry index", &["logIndex"]),
        piece("log entry kind", &["kindVersion"]),
        piece("log ID", &["logId", "logId.keyId"]),
    ];
    let is_v1 = matches!(shape.log, Log::RekorV1 | Log::RekorV1Intoto);
    if is_v1 {
        pieces.push(piece("log entry time", &["integratedTime"]));
    }
    if is_v1 && shape.kept != Kept::Proof {
        let places = ["inclusionPromise", "inclusionPromise.signedEntryTimestamp"];
        pieces.push(piece("SET", &places));
    }
    if shape.kept != Kept::Promise {
        pieces.extend([
            piece("proof", &["inclusionProof"]),
            piece("proof index", &["inclusionProof.logIndex"]),
            piece("proof root hash", &["inclusionProof.rootHash"]),
            piece("proof tree size", &["inclusionProof.treeSize"]),
            piece(
                "checkpoint",
                &[
                    "inclusionProof.checkpoint",
                    "inclusionProof.checkpoint.envelope",
                ],
            ),
        ]);
        let hashes = entry["inclusionProof"]["hashes"].as_array();
        let count = hashes.map_or(0, Vec::len);
        assert!(count > 0, "a proof has hashes");
        for number in 0..count {
            let place = format!("inclusionProof.hashes[{number}]");
            pieces.push(piece(&format!("proof hash {number}"), &[&place]));
        }
    }
    pieces
}

fn layer(shape: &Shape, document: &Value) -> Vec<Piece> {
    const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
    const CHAIN: &str = "dev.sigstore.cosign/chain";
    let mut pieces = match shape.carrier {
        Carrier::AttLayer => vec![
            Piece::new("payload", &["payload/base64/json.payload"]),
            Piece::new("payload type", &["payload/base64/json.payloadType"]),
            Piece::new(
                "signature",
                &[
                    "payload/base64/json.signatures",
                    "payload/base64/json.signatures[0]",
                    "payload/base64/json.signatures[0].sig",
                ],
            ),
        ],
        Carrier::SigLayer | Carrier::Bundle(_) => vec![
            Piece::new("payload", &["payload"]),
            Piece::new("signature", &["dev.cosignproject.cosign/signature"]),
        ],
    };
    if shape.by != By::Key {
        pieces.push(Piece::new("certificate", &[CERTIFICATE]));
        // Of Fulcio's certificates it is empty: the trust root has the chain.
        if !document[CHAIN].as_str().unwrap_or_default().is_empty() {
            pieces.push(Piece::new("chain", &[CHAIN]));
        }
        let pem = document[CERTIFICATE].as_str().unwrap_or_default();
        let certificate = Certificate::from_pem(pem).expect("a certificate");
        pieces.extend(extensions_of(&certificate, &format!("{CERTIFICATE}/pem")));
    }
    if shape.log != Log::None {
        let bundle = "dev.sigstore.cosign/bundle";
        let inner = |name: &str| format!("{bundle}/json.{name}");
        pieces.extend([
            Piece::new("log entry", &[bundle, &inner("Payload")]),
            Piece::new("log entry body", &[&inner("Payload.body")]),
            Piece::new("log entry index", &[&inner("Payload.logIndex")]),
            Piece::new("log entry time", &[&inner("Payload.integratedTime")]),
            Piece::new("log ID", &[&inner("Payload.logID")]),
            Piece::new("SET", &[&inner("SignedEntryTimestamp")]),
        ]);
    }
    if shape.has_timestamp() {
        let whole = "dev.sigstore.cosign/rfc3161timestamp";
        let inner = format!("{whole}/json.SignedRFC3161Timestamp");
        pieces.push(Piece::new("timestamp", &[whole, &inner]));
    }
    pieces
}

fn decoded(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap_or_default();
    STANDARD.decode(text).expect("base64")
}

fn extensions(der: &[u8], place: &str) -> Vec<Piece> {
    let certificate = Certificate::from_der(der).expect("a certificate");
    extensions_of(&certificate, place)
}

/// Each extension of a certificate; the list of its timestamps by its name.
fn extensions_of(certificate: &Certificate, place: &str) -> Vec<Piece> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let pieces = extensions.enumerate().map(|(number, extension)| {
        let name = match extension.extn_id.to_string().as_str() {
            CERTIFICATE_TIMESTAMPS => "SCT".to_owned(),
            oid => format!("extension {oid}"),
        };
        Piece {
            name,
            places: vec![format!("{place}/der.0.7.0.{number}")],
        }
    });
    let pieces: Vec<_> = pieces.collect();
    assert!(!pieces.is_empty(), "a certificate has extensions");
    pieces
}
