//! `pullgate verify`: judges one image as the gate would, and explains.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::app;
use crate::audit::Decided as _;
use crate::cli::record;
use crate::clock::Clock;
use crate::config;
use crate::gate::Admitted;
use crate::gate::Ask;
use crate::gate::Refusal;
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
    /// Judges for this puller: user:NAME, certificate:DNS, or oidc:ISSUER,SUBJECT with
    /// CLAIM=VALUE after it, divided by commas. Without it, for nobody in particular.
    #[arg(long = "as", value_name = "PULLER", value_parser = super::puller::parse)]
    puller: Option<Caller>,
    /// For people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Writes what is proven of the image into this folder, for use in policy tests.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

const DENIED: u8 = 1;
const COULD_NOT_TELL: u8 = 2;

pub(super) fn run(
    arguments: &Arguments,
    mut settings: config::Settings,
    clock: &Clock,
) -> ExitCode {
    let ask = match config::parse_image(&arguments.image, &settings) {
        Ok((image, reference)) => Ask { image, reference },
        Err(error) => {
            eprintln!("pullgate: cannot judge {:?}: {error:#}", arguments.image);
            return ExitCode::from(super::BAD_CONFIGURATION);
        }
    };
    // The directory belongs to the gate that runs, and what it knows is not asked here.
    settings.cache.directory = None;
    settings.last_good.read_only = true;
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
    clock: &Clock,
    ask: &Ask,
) -> anyhow::Result<u8> {
    let time = clock.now();
    let caller = arguments.puller.clone().unwrap_or_default();
    let (answer, survey, id) = app::runtime()?.block_on(async {
        let built = app::build(settings, clock.clone(), TaskTracker::new())?;
        built.refresh_trust(clock).await;
        let gate = &built.service.gate;
        let answer = gate.manifest(ask, &caller).await;
        let survey = match arguments.record {
            Some(_) => Some(gate.survey(ask).await),
            None => None,
        };
        anyhow::Ok((answer, survey, built.service.decisions.next_id()))
    })?;
    let (code, mut record, facts) = explain(ask, &answer);
    // A decision like any other, though no gate has it on record: this machine has asked.
    record["id"] = id.to_string().into();
    record["time"] = time.to_string().into();
    record["client"] = IpAddr::from(Ipv4Addr::LOCALHOST).to_string().into();
    record["puller"] = Value::Null;
    if let Some(puller) = &arguments.puller {
        record["puller"] = puller.to_string().into();
    } else if record["reason"] == "wrong_puller" {
        eprintln!("pullgate: judged for nobody in particular; --as judges for a puller");
    }
    match arguments.output {
        Output::Json => {
            record["facts"] = json!(facts.as_ref().map(|facts| &facts.proven));
            record["rejected"] = json!(facts.as_ref().map(|facts| &facts.rejected));
            println!("{record:#}");
        }
        Output::Text => print!("{}", text(ask, &record, facts.as_ref())),
    }
    if let (Some(folder), Some(survey)) = (&arguments.record, survey) {
        // A refusal that has no facts has been told above.
        let Ok(subject) = survey else {
            anyhow::bail!("nothing was recorded: the facts could not be gathered");
        };
        let path = record::write(folder, &ask.image, &ask.reference, &subject, time)?;
        eprintln!("recorded in {}", path.display());
    }
    Ok(code)
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
    if let Some(puller) = record["puller"].as_str() {
        text.push_str(&format!("puller:  {puller}\n"));
    }
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
            let place = fact.found_in.as_ref();
            let place = place.map_or(String::new(), |place| format!(", in {place}"));
            text.push_str(&format!(
                "  proves:  {kind} by {} {time}, {root} ({format} {}{place})\n",
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
            None => {
                text.push_str(&format!("policy {name:?} ({mode}): passes\n"));
                if let Some(time) = policy["signed_at"].as_str() {
                    text.push_str(&format!(
                        "  signed:   at {time}; what the tag named before is known to the gate \
                         that serves it (no_rollback)\n"
                    ));
                }
            }
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
    for warning in record["warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().unwrap_or("-");
        text.push_str(&format!("warning: {warning}\n"));
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
