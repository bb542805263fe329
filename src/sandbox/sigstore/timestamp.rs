//! A timestamp authority (RFC 3161), in the image of Sigstore's: a P-384 key that signs with
//! SHA-256, no nonce and no certificate in the token.

use jiff::Timestamp;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5911::{
    ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA, ID_SIGNING_TIME,
};
use x509_cert::der::oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_SHA_256};

use super::certificate::{Authority, Purpose, Window, distinguished_name, may_sign};
use super::encoding::{built, der, random, sha256, tlv};
use super::keys::AuthorityKey;

const TIMESTAMP_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
/// The policy that Sigstore's timestamp authority states by default.
const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");

// DER tags.
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// `[4]`, constructed.
const CONTEXT_4: u8 = 0xa4;

/// A timestamp authority.
pub(super) struct TimestampAuthority {
    key: AuthorityKey,
    leaf: Certificate,
    /// Leaf first, root last; DER.
    pub(super) chain: [Vec<u8>; 2],
}

impl TimestampAuthority {
    pub(super) fn new(window: Window) -> Self {
        Self::with_serial_number(window, None)
    }

    /// An authority with other keys that looks the same: names and serial number.
    pub(super) fn impostor(&self, window: Window) -> Self {
        Self::with_serial_number(window, Some(&self.leaf))
    }

    fn with_serial_number(window: Window, like: Option<&Certificate>) -> Self {
        let root = Authority::root("sandbox-tsa-selfsigned", window);
        let key = AuthorityKey::generate();
        let mut tbs = root.to_be_issued(
            distinguished_name("sandbox-tsa"),
            &key.public_key_der(),
            window,
            vec![may_sign(), Purpose::TimeStamping.extension(true)],
        );
        if let Some(like) = like {
            tbs.serial_number = like.tbs_certificate.serial_number.clone();
        }
        let leaf = root.seal(tbs);
        Self {
            key,
            leaf: built(Certificate::from_der(&leaf)),
            chain: [leaf, root.certificate],
        }
    }

    /// The response to a request for a timestamp of `signature`, DER. `bag` are certificates
    /// to put into the token; Sigstore's clients ask for none.
    pub(super) fn respond(&self, signature: &[u8], time: Timestamp, bag: &[Vec<u8>]) -> Vec<u8> {
        const GRANTED: [u8; 1] = [0];
        let status = tlv(SEQUENCE, &[&tlv(INTEGER, &[&GRANTED])]);
        let token = tlv(
            SEQUENCE,
            &[
                &der(&ID_SIGNED_DATA),
                &tlv(CONTEXT_0, &[&self.signed_data(signature, time, bag)]),
            ],
        );
        tlv(SEQUENCE, &[&status, &token])
    }

    /// SignedData (RFC 5652, 5.1) around a TSTInfo.
    fn signed_data(&self, signature: &[u8], time: Timestamp, bag: &[Vec<u8>]) -> Vec<u8> {
        let info = self.timestamp_info(signature, time);
        let content = tlv(
            SEQUENCE,
            &[
                &der(&TIMESTAMP_INFO),
                &tlv(CONTEXT_0, &[&tlv(OCTET_STRING, &[&info])]),
            ],
        );
        let certificates = if bag.is_empty() {
            Vec::new()
        } else {
            tlv(CONTEXT_0, &[&bag.concat()])
        };
        tlv(
            SEQUENCE,
            &[
                &tlv(INTEGER, &[&[3]]),
                &tlv(SET, &[&tlv(SEQUENCE, &[&der(&ID_SHA_256)])]),
                &content,
                &certificates,
                &tlv(SET, &[&self.signer_info(&info, time)]),
            ],
        )
    }

    /// TSTInfo (RFC 3161, 2.4.2).
    fn timestamp_info(&self, signature: &[u8], time: Timestamp) -> Vec<u8> {
        let imprint = tlv(
            SEQUENCE,
            &[
                &tlv(SEQUENCE, &[&der(&ID_SHA_256), &tlv(NULL, &[])]),
                &tlv(OCTET_STRING, &[&sha256(&[signature])]),
            ],
        );
        let mut serial = random::<16>();
        // A positive number without a leading zero.
        serial[0] = (serial[0] & 0x3f) | 0x40;
        let one_second = tlv(SEQUENCE, &[&tlv(INTEGER, &[&[1]])]);
        let name = der(&self.leaf.tbs_certificate.subject);
        tlv(
            SEQUENCE,
            &[
                &tlv(INTEGER, &[&[1]]),
                &der(&POLICY),
                &imprint,
                &tlv(INTEGER, &[&serial]),
                &written(GENERALIZED_TIME, "%Y%m%d%H%M%SZ", time),
                &one_second,
                &tlv(CONTEXT_0, &[&tlv(CONTEXT_4, &[&name])]),
            ],
        )
    }

    /// SignerInfo (RFC 5652, 5.3).
    fn signer_info(&self, info: &[u8], time: Timestamp) -> Vec<u8> {
        let attributes = self.signed_attributes(info, time);
        // The attributes are signed as a SET but stand in the token under the tag [0].
        let signature = self.key.sign_sha256(&tlv(SET, &[&attributes]));
        let tbs = &self.leaf.tbs_certificate;
        tlv(
            SEQUENCE,
            &[
                &tlv(INTEGER, &[&[1]]),
                &tlv(SEQUENCE, &[&der(&tbs.issuer), &der(&tbs.serial_number)]),
                &tlv(SEQUENCE, &[&der(&ID_SHA_256)]),
                &tlv(CONTEXT_0, &[&attributes]),
                &tlv(SEQUENCE, &[&der(&ECDSA_WITH_SHA_256)]),
                &tlv(OCTET_STRING, &[&signature]),
            ],
        )
    }

    fn signed_attributes(&self, info: &[u8], time: Timestamp) -> Vec<u8> {
        let mut attributes = [
            attribute(ID_CONTENT_TYPE, &der(&TIMESTAMP_INFO)),
            attribute(ID_MESSAGE_DIGEST, &tlv(OCTET_STRING, &[&sha256(&[info])])),
            attribute(ID_SIGNING_TIME, &written(UTC_TIME, "%y%m%d%H%M%SZ", time)),
            attribute(SIGNING_CERTIFICATE_V2, &self.signing_certificate()),
        ];
        // DER wants the members of a SET in the order of their encodings.
        attributes.sort();
        attributes.concat()
    }

    /// SigningCertificateV2 (RFC 5035): names the certificate that the key belongs to.
    fn signing_certificate(&self) -> Vec<u8> {
        let [leaf, _] = &self.chain;
        let tbs = &self.leaf.tbs_certificate;
        let issuer = tlv(SEQUENCE, &[&tlv(CONTEXT_4, &[&der(&tbs.issuer)])]);
        let certificate = tlv(
            SEQUENCE,
            &[
                &tlv(OCTET_STRING, &[&sha256(&[leaf])]),
                &tlv(SEQUENCE, &[&issuer, &der(&tbs.serial_number)]),
            ],
        );
        tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&certificate])])
    }
}

fn attribute(kind: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&der(&kind), &tlv(SET, &[value])])
}

fn written(tag: u8, format: &str, time: Timestamp) -> Vec<u8> {
    tlv(tag, &[time.strftime(format).to_string().as_bytes()])
}
