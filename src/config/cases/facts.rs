//! Facts, as tests have them: written by hand, or recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::config::attested;
use crate::config::cases::Context;
use crate::config::cases::certified;
use crate::config::evidence_source;
use crate::config::files;
use crate::config::problem::Sheet;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::reader::whole;
use crate::config::schema;
use crate::config::signers;
use crate::config::sources;
use crate::config::units;
use crate::oci::Digest;
use crate::oci::DockerReference;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::oci::RegistryHost;
use crate::policy::Shape;
use crate::policy::Subject;
use crate::verify::Assurance;
use crate::verify::Fact;
use crate::verify::Facts;
use crate::verify::Format;
use crate::verify::HashAlgorithm;
use crate::verify::Identity;
use crate::verify::Kind;
use crate::verify::Logged;
use crate::verify::Rejected;
use crate::verify::RootName;
use crate::verify::Signer;
use crate::verify::Statement;

/// How deep `listed_by` and `lists` may lie in one another.
const DEPTH_MAX: usize = 8;

/// The most bytes of a predicate's file: those of the largest attestation that is looked at.
const PREDICATE_BYTES_MAX: u64 = 32 << 20;

const MEND_JSON: &str = "write { file: predicate.json }, or { json: '{\"key\": 1}' }";

/// Facts that were read.
pub(super) struct Read {
    /// What is judged.
    pub(super) subject: Subject,
    /// When they were recorded.
    pub(super) recorded_at: Option<Timestamp>,
}

/// An image of which nothing is known.
pub(super) fn nothing(image: &ImageName, reference: &Reference) -> Read {
    let facts = Arc::new(Facts::default());
    Read {
        subject: Subject::alone(invented(image, reference), Shape::Image, true, facts),
        recorded_at: None,
    }
}

/// Lowers the facts of a test: a mapping, or the path of a file that holds one.
pub(super) fn lower(
    value: &Value<'_>,
    image: &ImageName,
    reference: &Reference,
    context: &Context<'_>,
) -> Option<Read> {
    let reader = Reader {
        context,
        image,
        asked: Arc::new(DockerReference::asking(image, reference)),
    };
    let digest = invented(image, reference);
    if value.as_text().is_none() {
        return reader.root(value, digest);
    }
    let path = value.path_value()?;
    if !path.is_file() {
        value.error(
            &format!("there is no file {}", path.display()),
            "name a file that `pullgate verify --record` has written; a relative path starts at \
             the file that names it",
        );
        return None;
    }
    let sheet = Sheet {
        file: &path,
        problems: value.sheet().problems,
    };
    let documents = sources::documents(&sheet)?;
    match documents.as_slice() {
        [root] => reader.root(&Value::root(root, &sheet), digest),
        _ => {
            sheet.error(1, "", "the facts are one document", "record them anew");
            None
        }
    }
}

/// The digest of an image whose test does not say one: any will do, but not one for all.
fn invented(image: &ImageName, reference: &Reference) -> Digest {
    match reference {
        Reference::Digest(digest) => *digest,
        Reference::Tag(_) => Digest::sha256(image.with(reference).as_bytes()),
    }
}

struct Reader<'a> {
    context: &'a Context<'a>,
    image: &'a ImageName,
    /// What the test pulls, with which signatures that name an image are compared.
    asked: Arc<DockerReference>,
}

impl Reader<'_> {
    fn root(&self, value: &Value<'_>, digest: Digest) -> Option<Read> {
        let fields = value.fields(&schema::FACTS)?;
        let recorded_at = fields
            .at("recorded_at")
            .map(|value| value.parsed(units::start, units::START_MEND));
        Some(Read {
            subject: self.subject(&fields, digest, DEPTH_MAX)?,
            recorded_at: whole(recorded_at)?,
        })
    }

    fn subject(&self, fields: &Fields<'_>, digest: Digest, depth: usize) -> Option<Subject> {
        let digest = match fields.at("digest") {
            Some(value) => value.parsed(str::parse, "write sha256: and 64 hex digits")?,
            None => digest,
        };
        let shape = match fields.at("kind") {
            Some(value) => value.choice(&[("image", Shape::Image), ("index", Shape::Index)])?,
            None => Shape::Image,
        };
        let flag = |key, default| fields.at(key).map_or(Some(default), |value| truth(&value));
        let tagged = flag("tagged", depth == DEPTH_MAX)?;
        let facts = self.facts(fields, &digest)?;
        Some(Subject {
            digest,
            shape,
            tagged,
            facts: Arc::new(facts),
            asked: Some(Arc::clone(&self.asked)),
            parents: self.around(fields, "listed_by", depth)?.unwrap_or_default(),
            children: self.around(fields, "lists", depth)?,
        })
    }

    /// The digests around one: each with facts of its own.
    fn around(
        &self,
        fields: &Fields<'_>,
        key: &'static str,
        depth: usize,
    ) -> Option<Option<Vec<Subject>>> {
        let Some(value) = fields.at(key) else {
            return Some(None);
        };
        if depth == 0 {
            value.error(
                &format!("indexes lie more than {DEPTH_MAX} deep in one another here"),
                "leave out what is further away",
            );
            return None;
        }
        let items = value.list()?;
        let read: Vec<Option<Subject>> = items
            .iter()
            .enumerate()
            .map(|(position, item)| {
                let own = Digest::sha256(format!("{key}[{position}] of {}", self.image).as_bytes());
                self.subject(&item.fields(&schema::FACTS)?, own, depth - 1)
            })
            .collect();
        Some(Some(read.into_iter().collect::<Option<Vec<Subject>>>()?))
    }

    fn facts(&self, fields: &Fields<'_>, digest: &Digest) -> Option<Facts> {
        let items = |key| {
            fields
                .at(key)
                .map_or(Some(Vec::new()), |value| value.list())
        };
        let signatures: Vec<Option<Fact>> = items("signatures")?
            .iter()
            .map(|item| self.fact(&item.fields(&schema::SIGNATURE_FACT)?, Kind::Signature))
            .collect();
        let attestations: Vec<Option<Fact>> = items("attestations")?
            .iter()
            .map(|item| {
                let fields = item.fields(&schema::ATTESTATION_FACT)?;
                let kind = self.attestation(&fields, digest)?;
                self.fact(&fields, kind)
            })
            .collect();
        let rejected: Vec<Option<Rejected>> = items("rejected")?.iter().map(rejected).collect();
        let truncated = fields
            .at("truncated")
            .map_or(Some(false), |value| truth(&value));
        let proven = signatures.into_iter().chain(attestations);
        Some(Facts {
            proven: proven.collect::<Option<Vec<Fact>>>()?,
            rejected: rejected.into_iter().collect::<Option<Vec<Rejected>>>()?,
            truncated: truncated?,
        })
    }

    fn fact(&self, fields: &Fields<'_>, kind: Kind) -> Option<Fact> {
        let signer = self.signer(fields)?;
        let root = fields.at("trust_root").map(|value| self.root_name(&value));
        let root = match (root, &signer) {
            (Some(root), _) => Some(root?),
            // A login is always proven under some root.
            (None, Signer::Identity(_)) => Some(self.context.settings.default_trust_root.clone()),
            (None, _) => None,
        };
        let signed_at = fields
            .at("signed_at")
            .map(|value| value.parsed(units::start, units::START_MEND));
        let docker_reference = fields
            .at("docker_reference")
            .map(|value| value.text().map(str::to_owned));
        let hash = fields.at("hash_algorithm").map(|value| {
            let words = HashAlgorithm::ALL.iter().map(|hash| (hash.as_str(), *hash));
            value.choice(&words.collect::<Vec<_>>())
        });
        let found_in = fields
            .at("found_in")
            .map(|value| evidence_source::lower(&value, Some(&self.hosts())));
        let usual = match &signer {
            Signer::Gpg { .. } => Format::SimpleSigning,
            Signer::Identity(_) | Signer::Certified(_) | Signer::Key { .. } => Format::Bundle,
        };
        Some(Fact {
            kind,
            assurance: assurance(fields, root.is_some())?,
            signer,
            root,
            signed_at: whole(signed_at)?,
            format: format(fields, usual)?,
            source: source(fields)?,
            docker_reference: whole(docker_reference)?,
            hash: whole(hash)?,
            found_in: whole(found_in)?.map(Arc::new),
        })
    }

    fn hosts(&self) -> Vec<RegistryHost> {
        let upstreams = self.context.settings.upstreams.iter();
        upstreams.map(|upstream| upstream.host.clone()).collect()
    }

    fn root_name(&self, value: &Value<'_>) -> Option<RootName> {
        let text = value.text()?;
        let roots = &self.context.settings.trust_roots;
        let found = roots.iter().find(|root| root.name.as_str() == text);
        if found.is_none() {
            value.error(
                &format!("there is no trust root {text:?}"),
                "name one of the configuration's trust_roots",
            );
        }
        found.map(|root| root.name.clone())
    }

    fn signer(&self, fields: &Fields<'_>) -> Option<Signer> {
        const MEND: &str = "say who signed: `keyless:` with issuer and identity, `key:` with a file, `ca:` or `gpg:`";
        match fields.exactly_one(&["keyless", "key", "ca", "gpg"], MEND)? {
            ("keyless", value) => identity(&value),
            ("ca", value) => certified::lower(&value),
            ("gpg", value) => openpgp(&value),
            (_, value) => self.key(&value),
        }
    }

    fn key(&self, value: &Value<'_>) -> Option<Signer> {
        const MEND: &str = "write { file: key.pub } or { fingerprint: \"sha256:...\" }";
        let fields = value.fields(&schema::KEY_FACT)?;
        let fingerprint = match fields.exactly_one(&["file", "pem", "fingerprint"], MEND)? {
            ("fingerprint", value) => value.parsed(str::parse, MEND)?,
            (form, value) => signers::public_key(form, &value, self.context.checks)?.fingerprint,
        };
        Some(Signer::Key { fingerprint })
    }

    fn attestation(&self, fields: &Fields<'_>, digest: &Digest) -> Option<Kind> {
        let predicate_type = fields
            .required("predicate_type", "write its URI, or cosign's short name")
            .and_then(|value| attested::predicate_type_uri(&value));
        let predicate = match fields.at("predicate") {
            Some(value) => json(&value)?,
            None => RawValue::NULL.to_owned(),
        };
        let subject = match fields.at("subject") {
            Some(value) => json(&value)?,
            None => {
                let algorithm = digest.algorithm().as_str();
                let name = self.image.to_string();
                serde_json::value::to_raw_value(&serde_json::json!([
                    { "name": name, "digest": { algorithm: digest.hex() } }
                ]))
                .ok()?
            }
        };
        Some(Kind::Attestation {
            predicate_type: predicate_type?,
            statement: Some(Arc::new(Statement { subject, predicate })),
        })
    }
}

/// An OpenPGP key that has signed, by the fingerprint of its primary key.
fn openpgp(value: &Value<'_>) -> Option<Signer> {
    const MEND: &str = "write { fingerprint: } with what `gpg --list-keys` prints, of 40 or 64 \
                        hex digits, without spaces";
    let fields = value.fields(&schema::GPG_FACT)?;
    let fingerprint = fields.required("fingerprint", MEND)?.parsed(
        |text| match matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Arc::from(text.to_ascii_uppercase())),
            false => Err("this is no fingerprint of an OpenPGP key"),
        },
        MEND,
    )?;
    Some(Signer::Gpg {
        fingerprint,
        ends_at: None,
    })
}

fn identity(value: &Value<'_>) -> Option<Signer> {
    let fields = value.fields(&schema::IDENTITY_FACT)?;
    let issuer = fields
        .required(
            "issuer",
            "write a short name or URL: `issuer: github-actions`",
        )
        .and_then(|value| signers::issuer_url(&value));
    let subject = fields
        .required("identity", "write what the certificate says, as a whole")
        .and_then(|value| value.text().map(str::to_owned));
    let claims = fields
        .at("claims")
        .map_or(Some(BTreeMap::new()), |value| claims(&value));
    Some(Signer::Identity(Arc::new(Identity {
        issuer: issuer?,
        subject: subject?,
        claims: claims?,
    })))
}

pub(super) fn claims(value: &Value<'_>) -> Option<BTreeMap<&'static str, String>> {
    let fields = value.fields(&schema::CLAIM)?;
    let mut claims = BTreeMap::new();
    for name in schema::CLAIM.keys {
        if let Some(value) = fields.at(name) {
            claims.insert(*name, value.text()?.to_owned());
        }
    }
    Some(claims)
}

/// What vouches beside the signature. Where nothing is said, what a usual signature has: under
/// a trust root a log that includes it.
fn assurance(fields: &Fields<'_>, under_root: bool) -> Option<Assurance> {
    let log = match fields.at("log") {
        Some(value) => value.choice(&[
            ("none", None),
            ("promised", Some(Logged::Promised)),
            ("included", Some(Logged::Included)),
        ])?,
        None => under_root.then_some(Logged::Included),
    };
    let flag = |key, default| fields.at(key).map_or(Some(default), |value| truth(&value));
    Some(Assurance {
        log,
        timestamp: flag("timestamp", false)?,
        certificate_timestamp: flag("certificate_timestamp", under_root)?,
    })
}

/// The format that is given, and `usual` where none is.
fn format(fields: &Fields<'_>, usual: Format) -> Option<Format> {
    let words: Vec<(&str, Format)> = Format::ALL
        .iter()
        .map(|format| (format.as_str(), *format))
        .collect();
    fields
        .at("format")
        .map_or(Some(usual), |value| value.choice(&words))
}

fn source(fields: &Fields<'_>) -> Option<Digest> {
    fields
        .at("source")
        .map_or(Some(Digest::sha256(b"written by hand")), |value| {
            value.parsed(str::parse, "write sha256: and 64 hex digits")
        })
}

fn rejected(value: &Value<'_>) -> Option<Rejected> {
    let fields = value.fields(&schema::REJECTED_FACT)?;
    let why = fields
        .required("why", "say why it does not count")
        .and_then(|value| value.text().map(str::to_owned));
    Some(Rejected {
        source: source(&fields)?,
        format: format(&fields, Format::Bundle)?,
        why: why?,
    })
}

fn truth(value: &Value<'_>) -> Option<bool> {
    value.choice(&[("true", true), ("false", false)])
}

/// JSON, in a file or as a text: YAML would not say which scalar is a number.
fn json(value: &Value<'_>) -> Option<Box<RawValue>> {
    let fields = value.fields(&schema::JSON)?;
    let (form, value) = fields.exactly_one(&["file", "json"], MEND_JSON)?;
    let text = if form == "json" {
        value.text()?.to_owned()
    } else {
        let path = value.path_value()?;
        match text_of(&path) {
            Ok(text) => text,
            Err(why) => {
                value.error(&format!("cannot read {}: {why}", path.display()), MEND_JSON);
                return None;
            }
        }
    };
    match serde_json::from_str(&text) {
        Ok(json) => Some(json),
        Err(error) => {
            value.error(&format!("this is not JSON: {error}"), MEND_JSON);
            None
        }
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let bytes = files::read_up_to(path, PREDICATE_BYTES_MAX).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
