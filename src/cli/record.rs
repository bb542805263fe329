//! `pullgate verify --record`: what is proven of a real image, written so that policy tests
//! can use it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Shape;
use crate::policy::Subject;
use crate::verify::Certified;
use crate::verify::Fact;
use crate::verify::Kind;
use crate::verify::Name;
use crate::verify::Rejected;
use crate::verify::Signer;

/// Where the facts stand in the folder.
const FACTS_FILE: &str = "facts.json";

/// Writes the facts about an image into `folder`: `facts.json`, and each predicate that policy
/// reads in a file of its own beside it.
///
/// # Errors
/// The folder or a file in it cannot be written.
pub(super) fn write(
    folder: &Path,
    image: &ImageName,
    reference: &Reference,
    subject: &Subject,
    now: Timestamp,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut recorder = Recorder {
        folder,
        predicates: 0,
    };
    let mut root = recorder.subject(subject)?;
    root.insert("image".to_owned(), json!(image.with(reference)));
    root.insert("recorded_at".to_owned(), json!(now));
    let path = folder.join(FACTS_FILE);
    let text = format!("{:#}\n", Value::Object(root));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

struct Recorder<'a> {
    folder: &'a Path,
    predicates: usize,
}

impl Recorder<'_> {
    fn subject(&mut self, subject: &Subject) -> anyhow::Result<Map<String, Value>> {
        let (mut signatures, mut attestations) = (Vec::new(), Vec::new());
        for fact in &subject.facts.proven {
            let mut record = fact_record(fact);
            match &fact.kind {
                Kind::Signature => signatures.push(Value::Object(record)),
                Kind::Attestation {
                    predicate_type,
                    statement,
                } => {
                    record.insert("predicate_type".to_owned(), json!(predicate_type));
                    if let Some(statement) = statement {
                        let subject = json!({ "json": statement.subject.get() });
                        record.insert("subject".to_owned(), subject);
                        let file = self.predicate(statement.predicate.get())?;
                        record.insert("predicate".to_owned(), json!({ "file": file }));
                    }
                    attestations.push(Value::Object(record));
                }
            }
        }
        let kind = match subject.shape {
            Shape::Image => "image",
            Shape::Index => "index",
        };
        let mut record = Map::new();
        record.insert("digest".to_owned(), json!(subject.digest));
        record.insert("kind".to_owned(), json!(kind));
        record.insert("tagged".to_owned(), json!(subject.tagged));
        record.insert("signatures".to_owned(), Value::Array(signatures));
        record.insert("attestations".to_owned(), Value::Array(attestations));
        let rejected = subject.facts.rejected.iter().map(rejected_record);
        record.insert("rejected".to_owned(), rejected.collect());
        record.insert("truncated".to_owned(), json!(subject.facts.truncated));
        record.insert("listed_by".to_owned(), self.around(&subject.parents)?);
        if let Some(children) = &subject.children {
            record.insert("lists".to_owned(), self.around(children)?);
        }
        Ok(record)
    }

    fn around(&mut self, subjects: &[Subject]) -> anyhow::Result<Value> {
        let records = subjects
            .iter()
            .map(|subject| self.subject(subject).map(Value::Object));
        records
            .collect::<anyhow::Result<Vec<Value>>>()
            .map(Value::Array)
    }

    /// Writes a predicate, and says where.
    fn predicate(&mut self, json: &str) -> anyhow::Result<String> {
        self.predicates += 1;
        let name = format!("predicate-{}.json", self.predicates);
        let path = self.folder.join(&name);
        fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(name)
    }
}

fn fact_record(fact: &Fact) -> Map<String, Value> {
    let mut record = Map::new();
    match &fact.signer {
        Signer::Key { fingerprint } => {
            record.insert("key".to_owned(), json!({ "fingerprint": fingerprint }));
        }
        Signer::Gpg { fingerprint, .. } => {
            record.insert("gpg".to_owned(), json!({ "fingerprint": fingerprint }));
        }
        Signer::Certified(certified) => {
            record.insert("ca".to_owned(), certified_record(certified));
        }
        Signer::Identity(identity) => {
            let identity = json!({
                "issuer": identity.issuer,
                "identity": identity.subject,
                "claims": identity.claims,
            });
            record.insert("keyless".to_owned(), identity);
        }
    }
    let log = fact.assurance.log.map_or(json!("none"), |log| json!(log));
    record.insert("log".to_owned(), log);
    record.insert("timestamp".to_owned(), json!(fact.assurance.timestamp));
    let certificate_timestamp = json!(fact.assurance.certificate_timestamp);
    record.insert("certificate_timestamp".to_owned(), certificate_timestamp);
    record.insert("format".to_owned(), json!(fact.format.as_str()));
    record.insert("source".to_owned(), json!(fact.source));
    let optional = [
        ("trust_root", json!(fact.root)),
        ("signed_at", json!(fact.signed_at)),
        ("docker_reference", json!(fact.docker_reference)),
        ("hash_algorithm", json!(fact.hash)),
        ("found_in", json!(fact.found_in)),
    ];
    for (key, value) in optional {
        if !value.is_null() {
            record.insert(key.to_owned(), value);
        }
    }
    record
}

fn certified_record(certified: &Certified) -> Value {
    let mut record = Map::new();
    record.insert("fingerprint".to_owned(), json!(certified.authority));
    for name in &certified.names {
        let kind = match name {
            Name::Email(_) => "email",
            Name::Uri(_) => "uri",
            Name::Dns(_) => "dns",
        };
        let names = record.entry(kind).or_insert_with(|| json!([]));
        if let Value::Array(names) = names {
            names.push(json!(name.as_str()));
        }
    }
    if let Some(issuer) = &certified.issuer {
        record.insert("issuer".to_owned(), json!(issuer));
    }
    record.insert("claims".to_owned(), json!(certified.claims));
    Value::Object(record)
}

fn rejected_record(rejected: &Rejected) -> Value {
    json!({
        "format": rejected.format.as_str(),
        "source": rejected.source,
        "why": rejected.why,
    })
}
