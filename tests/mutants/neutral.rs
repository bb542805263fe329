//! The places that nobody signed and nothing depends on.

use crate::matrix::Operation;

/// Whether a change leaves the meaning as it was, or takes away what is not needed.
pub(crate) fn is_neutral(format: &str, change: &str) -> bool {
    let at = |place: &&str| match place.strip_prefix('^') {
        Some(start) => change.starts_with(start),
        None => change.contains(*place),
    };
    let mut formats = NEUTRAL
        .iter()
        .filter(|neutral| format.contains(neutral.format));
    formats.any(|neutral| neutral.places.iter().any(&at))
}

/// Whether no valid document has another of this piece, so that none can be put in its place.
pub(crate) fn same_everywhere(piece: &str) -> bool {
    SAME_EVERYWHERE.iter().any(|(same, _)| *same == piece)
}

/// The pieces, and why.
const SAME_EVERYWHERE: &[(&str, &str)] = &[
    ("payload type", "in-toto's"),
    ("log entry kind", "told by what is signed"),
    ("extension 2.5.29.15", "keys sign"),
    ("extension 2.5.29.37", "they sign code"),
];

/// Whether nothing that is done to a piece in this way makes a difference.
pub(crate) fn harmless(format: &str, piece: &str, operation: Operation) -> bool {
    HARMLESS.iter().any(|(formats, pieces, operations, _)| {
        let named = pieces.is_empty() || *pieces == piece;
        named && format.contains(formats) && operations.contains(&operation)
    })
}

/// Parts of the names of formats, pieces (empty for all), what is done to them, and why that is no
/// harm.
const HARMLESS: &[(&str, &str, &[Operation], &str)] = &[
    (
        "by key",
        "key hint",
        &INSTEAD,
        "it says which key is tried first, and no more",
    ),
    (
        "Rekor v2",
        "proof index",
        &INSTEAD,
        "the entry says it as well",
    ),
    (
        "Rekor v2",
        "proof root hash",
        &INSTEAD,
        "the signed checkpoint says it",
    ),
    (
        "Rekor v2",
        "proof tree size",
        &INSTEAD,
        "the signed checkpoint says it",
    ),
    (
        "Rekor v2",
        "log ID",
        &INSTEAD,
        "any log of the trust root will do",
    ),
    (
        "proof of Rekor v1",
        "log ID",
        &INSTEAD,
        "any log of the trust root will do",
    ),
    (
        "proof of Rekor v1",
        "log entry index",
        &INSTEAD,
        "a promise is over it, and the proof has an index of its own",
    ),
    (
        "proof of Rekor v1",
        "log entry time",
        &INSTEAD,
        "a promise is over it, and the timestamp tells the time",
    ),
    (
        "GPG",
        "announcement",
        &[Operation::Swapped],
        "whose signature will follow is not signed; the signature says it itself",
    ),
    (
        "trusted root",
        "",
        &[Operation::Duplicated],
        "trusted once is enough",
    ),
    (
        "trusted root",
        "the one above it",
        &EVERY,
        "the authority below it is trusted itself",
    ),
    (
        "bundle 0.1",
        "proof",
        &[Operation::Removed],
        "this version needs a promise or a proof",
    ),
    (
        "layer",
        "",
        &[Operation::Duplicated],
        "one of the two is read, and proven",
    ),
    (
        "promise and a timestamp",
        "timestamp",
        &EVERY,
        "the promise is enough, and a timestamp that does not prove is left aside",
    ),
];

const INSTEAD: [Operation; 2] = [Operation::Flipped, Operation::Swapped];

const EVERY: [Operation; 4] = [
    Operation::Flipped,
    Operation::Removed,
    Operation::Swapped,
    Operation::Duplicated,
];

struct Neutral {
    /// A part of the format's name; empty for all.
    format: &'static str,
    /// Parts of a change; behind a `^`, its beginning.
    places: &'static [&'static str],
    /// Why.
    #[expect(dead_code, reason = "for whoever reads the list")]
    why: &'static str,
}

const NEUTRAL: &[Neutral] = &[
    Neutral {
        format: "",
        places: &[": without all of its padding"],
        why: "base64 without its padding is the same bytes",
    },
    Neutral {
        format: "bundle",
        places: &["mediaType: removed"],
        why: "a bundle without a version is one of version 0.1, which anybody may write as well",
    },
    Neutral {
        format: "bundle",
        places: &[
            "tlogEntries[0]: twice",
            "rfc3161Timestamps[0]: twice",
            "certificates[0]: twice",
            "certificates[0]: the other's after it",
        ],
        why: "nothing is counted; certificates after the first are offered to build a chain with",
    },
    Neutral {
        format: "no log",
        places: &[
            "timestampVerificationData: removed",
            "timestampVerificationData: null",
        ],
        why: "it is empty",
    },
    Neutral {
        format: "Rekor v1",
        places: &[
            "timestampVerificationData: removed",
            "timestampVerificationData: null",
            "timestampVerificationData: an empty object",
            "rfc3161Timestamps: removed",
            "rfc3161Timestamps[0]: removed",
        ],
        why: "it is empty, or the promise tells the time as well",
    },
    Neutral {
        format: "and a timestamp",
        places: &["inclusionPromise: removed", "inclusionPromise: null"],
        why: "the timestamp tells the time as well, and there is a proof",
    },
    Neutral {
        format: "by key",
        places: &[
            "inclusionPromise: removed",
            "inclusionPromise: null",
            "timestampVerificationData: removed",
            "timestampVerificationData: null",
            "timestampVerificationData: an empty object",
            "rfc3161Timestamps: removed",
            "rfc3161Timestamps[0]: removed",
        ],
        why: "a key needs no time, and is then proven without one",
    },
    Neutral {
        format: "by key",
        places: &[
            "^verificationMaterial.publicKey",
            "^verificationMaterial: swapped",
        ],
        why: "the hint names nobody: the keys are those of policy",
    },
    Neutral {
        format: "",
        places: &[
            "checkpoint.envelope/line[3]",
            "checkpoint.envelope/line[4]: twice",
            "checkpoint.envelope/line[4]: the other's before it",
            "checkpoint.envelope/line[4]/word[0]",
            "checkpoint.envelope/line[4]/word[1]",
            "checkpoint.envelope/line[4]/word[2]: twice",
            "checkpoint.envelope/line[5]",
        ],
        why: "what stands beside a note's signatures is not signed, and others may sign as well",
    },
    Neutral {
        format: "Rekor v2",
        places: &[
            "inclusionProof.logIndex",
            "inclusionProof.treeSize",
            "inclusionProof.rootHash",
            "logId.keyId",
            "logId: swapped",
        ],
        why: "the entry and the signed checkpoint say it; any log of the trust root will do",
    },
    Neutral {
        format: "proof of Rekor v1",
        places: &[
            "[0].logIndex",
            "[0].integratedTime",
            "logId.keyId",
            "logId: swapped",
        ],
        why: "only a promise is over them; the proof has an index and the timestamp a time",
    },
    Neutral {
        format: "",
        places: &[
            // PKIStatus: granted, or granted with modifications.
            "Timestamp/base64/der.0.0: bit 0 of byte 0 flipped",
            // The version of SignedData, and of SignerInfo.
            "Timestamp/base64/der.1.1.0.0: bit",
            "Timestamp/base64/der.1.1.0.3.0.0: bit",
            // The list of digest algorithms, which announces what comes.
            "Timestamp/base64/der.1.1.0.1.0",
            // The tag around what was signed.
            "Timestamp/base64/der.1.1.0.2.1.0: another tag",
            // More signers than one: one that holds is enough.
            "Timestamp/base64/der.1.1.0.3.0: twice",
            "Timestamp/base64/der.1.1.0.3.0: the other's before it",
            // Parameters of the digest, and the name of the signature's algorithm: the key tells.
            "Timestamp/base64/der.1.1.0.3.0.2.0: twice",
            "Timestamp/base64/der.1.1.0.3.0.4.0",
        ],
        why: "a timestamp's signature is over its content and attributes, and these are neither",
    },
    Neutral {
        format: "layer",
        places: &[
            "cosign/signature: twice",
            "cosign/bundle: twice",
            "cosign/certificate: twice",
            "cosign/chain: twice",
            "cosign/rfc3161timestamp: twice",
            "^payload: twice",
        ],
        why: "one of the two is read, and proven",
    },
    Neutral {
        format: "layer",
        places: &[
            "cosign/certificate: prolonged",
            "cosign/certificate: after other text",
            "cosign/certificate: the other's after it",
            "cosign/chain: prolonged",
            "cosign/chain: after other text",
        ],
        why: "what is read of it is proven: the first certificate, and those that lead to it",
    },
    Neutral {
        format: "layer of an attestation",
        places: &[
            "^dev.cosignproject.cosign/signature",
            "^predicateType",
            "^payload/base64/json: a space after it",
        ],
        why: "signature and predicate type are in the envelope, which is JSON, and what is signed \
              in it is packed up",
    },
    Neutral {
        format: "keyless",
        places: &["cosign/chain"],
        why: "it is not read: the trust root has the chain",
    },
    Neutral {
        format: "promise and a timestamp",
        places: &["cosign/rfc3161timestamp"],
        why: "the promise is enough, and a timestamp that does not prove is left aside",
    },
    Neutral {
        format: "message",
        places: &["messageDigest: removed", "messageDigest: null"],
        why: "what is signed is the image's own digest; the stated one has to be the same, or absent",
    },
    Neutral {
        format: "bundle 0.2, by",
        places: &["mediaType: its last character changed"],
        why: "version 0.3 is read with a chain as well, and asks for no more than there is",
    },
    Neutral {
        format: "bundle 0.1",
        places: &[
            "mediaType: its last character changed",
            "inclusionProof: removed",
            "inclusionProof: null",
        ],
        why: "version 0.1 needs a promise or a proof, and with both it fits version 0.2 as well",
    },
    Neutral {
        format: "by certificate",
        places: &[
            "inclusionPromise: removed",
            "inclusionPromise: null",
            "timestampVerificationData: removed",
            "timestampVerificationData: null",
            "timestampVerificationData: an empty object",
            "rfc3161Timestamps: removed",
            "rfc3161Timestamps[0]: removed",
            "cosign/rfc3161timestamp: removed",
        ],
        why: "without a proven time the certificate is held against now, and is valid",
    },
    Neutral {
        format: "by certificate",
        places: &["certificates[1]: twice", "certificates[1]: the other's"],
        why: "one authority stands twice, and the way leads over it once",
    },
];
