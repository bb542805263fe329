//! Named breakages, each of them one thing wrong in otherwise sound evidence.
//!
//! A fault that has nothing to break (a broken promise in Rekor v2, which gives none) changes
//! nothing. A refusal test then fails by being let in, so it cannot go unnoticed.

/// One thing wrong. Names in brackets are lines of the threat list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The payload names the digest of another image. (B2)
    OtherSubject,
    /// A statement names another digest first and the right one second, which is sound. (B2)
    SecondSubject,
    /// A statement names the image only by its SHA-512, and so not at all. (B2)
    Sha512Subject,
    /// A statement without a subject. (B2)
    NoSubject,
    /// A statement with a predicate type that nobody asked for. (B3)
    OtherPredicateType,
    /// A payload that is no JSON, validly signed. (B4)
    UnreadablePayload,
    /// An envelope whose payload type is not in-toto's. (B4)
    OtherPayloadType,

    /// A certificate without an SCT.
    NoSct,
    /// An SCT by a log that the trusted root does not know.
    ForeignSct,
    /// An SCT whose signature does not hold.
    BrokenSct,
    /// The same SCT twice. (T3)
    DuplicateSct,
    /// A certificate by an authority that the trusted root does not know.
    ForeignAuthority,
    /// A current certificate by an issuing authority that had expired when it signed; see
    /// [`TrustedRoot::with_expired_authority`](super::TrustedRoot::with_expired_authority).
    /// (T1)
    ExpiredAuthority,
    /// A certificate that expired before the signing time. (T2)
    ExpiredCertificate,
    /// A certificate that begins after the signing time. (T2)
    FutureCertificate,
    /// A certificate without the code signing usage.
    NoCodeSigning,
    /// A second subject alternative name beside the right one. (I3)
    SecondIdentity,
    /// The two extensions that hold the issuer disagree; the deprecated one lies. (I3)
    IssuersDisagree,
    /// Neither a certificate nor a key comes with the evidence. (T5)
    NoVerifier,

    /// A signature with one bit flipped, logged and timestamped as it stands.
    BrokenSignature,

    /// A log entry over another digest. (B1)
    EntryOfOtherDigest,
    /// A log entry of another signature. (B1)
    EntryOfOtherSignature,
    /// A log entry of another certificate or key. (B1)
    EntryOfOtherVerifier,
    /// A log entry by a log that the trusted root does not know.
    ForeignLog,
    /// A promise (SET) signed by a foreign log in the name of the right one.
    ForeignPromise,
    /// Rekor v1 without its promise (SET), and so without a time.
    NoPromise,
    /// A checkpoint whose signature does not hold.
    BrokenCheckpoint,
    /// An inclusion proof with one bit of its hashes flipped.
    BrokenInclusionProof,
    /// A log entry without inclusion proof.
    NoInclusionProof,
    /// The same log entry twice. (T3)
    DuplicateEntry,

    /// No timestamp. (T6, with Rekor v2)
    NoTimestamp,
    /// A timestamp by an authority that the trusted root does not know.
    ForeignTimestamp,
    /// A timestamp by an authority of the same name, which brings its own certificate with the
    /// same serial number along in the token. (T4)
    ImpostorTimestamp,
    /// A timestamp of another signature.
    TimestampOfOtherSignature,
    /// A timestamp from before the certificate existed.
    EarlyTimestamp,
    /// The same timestamp twice. (T3)
    DuplicateTimestamp,
}

impl Fault {
    /// Every fault, so that a test can show that it has an answer to each.
    pub const ALL: [Self; 36] = [
        Self::OtherSubject,
        Self::SecondSubject,
        Self::Sha512Subject,
        Self::NoSubject,
        Self::OtherPredicateType,
        Self::UnreadablePayload,
        Self::OtherPayloadType,
        Self::NoSct,
        Self::ForeignSct,
        Self::BrokenSct,
        Self::DuplicateSct,
        Self::ForeignAuthority,
        Self::ExpiredAuthority,
        Self::ExpiredCertificate,
        Self::FutureCertificate,
        Self::NoCodeSigning,
        Self::SecondIdentity,
        Self::IssuersDisagree,
        Self::NoVerifier,
        Self::BrokenSignature,
        Self::EntryOfOtherDigest,
        Self::EntryOfOtherSignature,
        Self::EntryOfOtherVerifier,
        Self::ForeignLog,
        Self::ForeignPromise,
        Self::NoPromise,
        Self::BrokenCheckpoint,
        Self::BrokenInclusionProof,
        Self::NoInclusionProof,
        Self::DuplicateEntry,
        Self::NoTimestamp,
        Self::ForeignTimestamp,
        Self::ImpostorTimestamp,
        Self::TimestampOfOtherSignature,
        Self::EarlyTimestamp,
        Self::DuplicateTimestamp,
    ];
}

/// Flips the lowest bit of the last byte, which leaves any encoding well formed.
pub(super) fn flip(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}
