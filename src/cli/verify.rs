//! `pullgate verify`: judges one image as the gate would, and explains.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::app;
use crate::audit::Decided as _;
use crate::clock::Clock;
use crate::config;
use crate::gate::Admitted;
use crate::gate::Ask;
use crate::gate::Refusal;
use crate::oci::ImageName;
use crate::oci::Reference;
use crate::policy::Caller;
use crate::verify::Facts;
use crate::verify::Kind;

/// Arguments of `pullgate verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image: REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST.
    image: String,
    /// The configuration file.
    #[arg(long)]
    pub(super) config: PathBuf,
    /// For people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

const DENIED: u8 = 1;
const COULD_NOT_TELL: u8 = 2;

pub(super) fn run(arguments: &Arguments, mut settings: config::Settings, clock: Clock) -> ExitCode {
    let ask = match parse(&arguments.image, &settings) {
        Ok(ask) => ask,
        Err(error) => {
            eprintln!("pullgate: cannot judge {:?}: {error:#}", arguments.image);
            return ExitCode::from(super::BAD_CONFIGURATION);
        }
    };
    // The directory belongs to the gate that runs, and what it knows is not asked here.
    settings.cache.directory = None;
    match judge(arguments, &settings, clock, &ask) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("pullgate: {error:#}");
            ExitCode::from(COULD_NOT_TELL)
        }
    }
}

fn judge(
    arguments: &Arguments,
    settings: &config::Settings,
    clock: Clock,
    ask: &Ask,
) -> anyhow::Result<u8> {
    let time = clock.now();
    let answer = app::runtime()?.block_on(async {
        let built = app::build(settings, clock, TaskTracker::new())?;
        anyhow::Ok(built.service.gate.manifest(ask, &Caller::Anonymous).await)
    })?;
    let (code, mut record, facts) = explain(ask, &answer);
    record["time"] = time.to_string().into();
    match arguments.output {
        Output::Json => {
            record["facts"] = json!(facts.as_ref().map(|facts| &facts.proven));
            record["rejected"] = json!(facts.as_ref().map(|facts| &facts.rejected));
            println!("{record:#}");
        }
        Output::Text => print!("{}", text(ask, &record, facts.as_ref())),
    }
    Ok(code)
}

/// `busybox` alone names no registry; the default upstream is meant then.
fn parse(image: &str, settings: &config::Settings) -> anyhow::Result<Ask> {
    let (name, reference) = if let Some((name, digest)) = image.split_once('@') {
        // A tag before the digest says nothing more.
        let tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        (tag.map_or(name, |(name, _)| name), digest.to_owned())
    } else {
        match image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => (name, tag.to_owned()),
            None => (image, "latest".to_owned()),
        }
    };
    let reference: Reference = reference.parse()?;
    let configured = |host: &str| {
        settings
            .upstreams
            .iter()
            .find(|upstream| upstream.host.as_str() == host)
    };
    let (upstream, repository) = match name.split_once('/') {
        Some((host, rest)) if configured(host).is_some() => (configured(host), rest),
        _ => {
            let default = settings.default_upstream.as_ref();
            (default.and_then(|host| configured(host.as_str())), name)
        }
    };
    let upstream = upstream.with_context(|| {
        let hosts: Vec<&str> = settings
            .upstreams
            .iter()
            .map(|one| one.host.as_str())
            .collect();
        format!(
            "it begins with none of the upstreams ({}), and there is no default_upstream",
            hosts.join(", ")
        )
    })?;
    let repository = if upstream.library_prefix && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    let image = ImageName {
        registry: upstream.host.clone(),
        repository: repository.parse()?,
    };
    Ok(Ask { image, reference })
}

fn explain(ask: &Ask, answer: &Result<Admitted, Refusal>) -> (u8, Value, Option<Facts>) {
    match answer {
        Ok(admitted) => (
            0,
            admitted.decided().describe(),
            Some(admitted.facts().clone()),
        ),
        Err(Refusal::Denied(denied, facts)) => {
            (DENIED, denied.describe(), Some(Facts::clone(facts)))
        }
        Err(Refusal::Unavailable(unavailable)) => (COULD_NOT_TELL, unavailable.describe(), None),
        Err(Refusal::NotFound(_)) => {
            let image = ask.image.with(&ask.reference);
            let message = format!("{image} is not there: its registry does not have it.");
            let record = json!({
                "image": image, "digest": null, "verdict": "unavailable",
                "reason": "not_found", "mode": "enforce", "policies": [], "message": message,
            });
            (COULD_NOT_TELL, record, None)
        }
        Err(Refusal::LoginNeeded(registry)) => {
            let image = ask.image.with(&ask.reference);
            let message = format!(
                "{image} cannot be read: {registry} is asked with the credentials of whoever \
                 pulls (`credentials: caller`), and here there are none."
            );
            let record = json!({
                "image": image, "digest": null, "verdict": "unavailable",
                "reason": "upstream_unauthorized", "mode": "enforce", "policies": [],
                "message": message,
            });
            (COULD_NOT_TELL, record, None)
        }
    }
}

fn text(ask: &Ask, record: &Value, facts: Option<&Facts>) -> String {
    let word = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
    let mut text = format!(
        "image:   {}\ndigest:  {}\nverdict: {} [{}]\n",
        ask.image.with(&ask.reference),
        word("digest"),
        word("verdict"),
        word("reason"),
    );
    if let Some(facts) = facts {
        text.push_str("evidence:\n");
        for fact in &facts.proven {
            let kind = match &fact.kind {
                Kind::Signature => "signature".to_owned(),
                Kind::Attestation { predicate_type, .. } => format!("attestation {predicate_type}"),
            };
            let time = fact.signed_at.map_or_else(
                || "at an unproven time".to_owned(),
                |time| format!("at {time}"),
            );
            let root = fact
                .root
                .as_ref()
                .map_or("no log".to_owned(), |root| format!("proven under {root}"));
            let format = fact.format.as_str();
            text.push_str(&format!(
                "  proves:  {kind} by {} {time}, {root} ({format} {})\n",
                fact.signer, fact.source
            ));
        }
        for rejected in &facts.rejected {
            let format = rejected.format.as_str();
            text.push_str(&format!(
                "  nothing: {} ({format} {})\n",
                rejected.why, rejected.source
            ));
        }
        if facts.proven.is_empty() && facts.rejected.is_empty() {
            text.push_str(without_evidence(record));
        }
    }
    if let Some(grounds) = record["grounds"].as_str() {
        text.push_str(&format!("grounds: {grounds}\n"));
    }
    let policies = record["policies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for policy in policies {
        let name = policy["policy"].as_str().unwrap_or("-");
        let mode = policy["mode"].as_str().unwrap_or("-");
        match policy.get("shortfall") {
            None => text.push_str(&format!("policy {name:?} ({mode}): passes\n")),
            Some(shortfall) => {
                let part = |key: &str| shortfall[key].as_str().unwrap_or("-").to_owned();
                text.push_str(&format!(
                    "policy {name:?} ({mode}): does not pass [{}]\n  found:    {}\n  expected: {}\n  to do:    {}\n",
                    part("reason"), part("found"), part("expected"), part("remedy"),
                ));
            }
        }
    }
    if let Some(message) = record["message"].as_str() {
        text.push_str(&format!("message: {message}\n"));
    }
    text
}

/// What to say where there is no evidence: it was not needed, or looked for in vain.
fn without_evidence(record: &Value) -> &'static str {
    let policies = record["policies"].as_array().map(Vec::as_slice);
    let shortfalls = || {
        let policies = policies.unwrap_or_default().iter();
        policies.filter_map(|policy| policy.get("shortfall"))
    };
    if shortfalls().any(|shortfall| shortfall["found"] == "no signature") {
        "  none found in the registry\n"
    } else if record["verdict"] == "admitted" && shortfalls().next().is_none() {
        "  none needed of this digest itself\n"
    } else {
        "  none looked for, or none found\n"
    }
}
