//! Policies, written.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Settings;
use crate::config::attested::is_uri;
use crate::config::native::Names;
use crate::config::native::Unsayable;
use crate::config::native::puller;
use crate::config::native::signer;
use crate::config::native::yaml::Yaml;
use crate::oci::Digest;
use crate::oci::EvidenceSource;
use crate::policy::Attested;
use crate::policy::Carrier;
use crate::policy::Demand;
use crate::policy::Glob;
use crate::policy::Mode;
use crate::policy::NoRollback;
use crate::policy::Policy;
use crate::policy::PulledBy;
use crate::policy::Requirement;
use crate::policy::SignedBy;
use crate::policy::SignerRule;
use crate::policy::Signs;
use crate::policy::Timing;

type Entries = Vec<(String, Yaml)>;

/// One policy; in place of one that cannot be said, one that refuses.
pub(super) fn write(policy: &Policy, settings: &Settings, names: &mut Names) -> Yaml {
    match said(policy, settings, names) {
        Ok(entries) => Yaml::Map(entries),
        Err(why) => {
            let mut entries = head(policy);
            entries.push(entry(
                "deny",
                Yaml::text("this policy was not written anew: see the comment before it"),
            ));
            let comment = vec![
                format!(
                    "pullgate has no words for the policy {}: {why}.",
                    policy.name
                ),
                "Until it is written by hand, what it is for is refused.".to_owned(),
            ];
            Yaml::Commented(comment, Box::new(Yaml::Map(entries)))
        }
    }
}

fn entry(key: &str, value: Yaml) -> (String, Yaml) {
    (key.to_owned(), value)
}

/// What a policy is called and is for.
fn head(policy: &Policy) -> Entries {
    let mut entries = vec![
        entry("name", Yaml::text(&*policy.name)),
        entry("images", globs(&policy.images)),
    ];
    if !policy.except.is_empty() {
        entries.push(entry("except", globs(&policy.except)));
    }
    if policy.mode == Mode::Warn {
        entries.push(entry("mode", Yaml::text(policy.mode.as_str())));
    }
    entries
}

fn globs(globs: &[Glob]) -> Yaml {
    let as_key = |key, glob: &Glob| Yaml::map([(key, Some(Yaml::text(glob.as_str())))]);
    let globs = globs.iter().map(|glob| match glob {
        glob if glob.is_over_written() => as_key("written", glob),
        glob if glob.is_over_references() => as_key("reference", glob),
        glob => Yaml::text(glob.as_str()),
    });
    Yaml::List(globs.collect())
}

fn said(policy: &Policy, settings: &Settings, names: &mut Names) -> Result<Entries, Unsayable> {
    let Policy {
        name: _,
        images: _,
        except: _,
        mode: _,
        requirement,
        signs,
        pulled_by,
        no_rollback,
    } = policy;
    let mut entries = head(policy);
    entries.extend(self::requirement(requirement, settings, names)?);
    entries.extend(no_rollback.as_ref().map(self::no_rollback));
    if *signs != Signs::default() {
        entries.push(entry("signs", Yaml::text(signs.as_str())));
    }
    if let Some(pulled_by) = pulled_by {
        entries.push(entry("pulled_by", self::pulled_by(pulled_by, names)?));
    }
    Ok(entries)
}

fn no_rollback(rule: &NoRollback) -> (String, Yaml) {
    let NoRollback { permit } = rule;
    let value = match permit.is_empty() {
        true => Yaml::text("true"),
        false => Yaml::map([("permit", Some(digests(permit)))]),
    };
    entry("no_rollback", value)
}

fn digests(digests: &BTreeSet<Digest>) -> Yaml {
    let digests = digests.iter().map(|digest| Yaml::text(digest.to_string()));
    Yaml::List(digests.collect())
}

fn requirement(
    requirement: &Requirement,
    settings: &Settings,
    names: &mut Names,
) -> Result<Entries, Unsayable> {
    match requirement {
        Requirement::Proven(demands) => match demands.as_slice() {
            [] => Err("it is met by nothing".to_owned()),
            [demand] => self::demand(demand, settings, names),
            several => {
                let mut ways = Vec::new();
                for demand in several {
                    ways.push(Yaml::Map(self::demand(demand, settings, names)?));
                }
                Ok(vec![entry("any_of", Yaml::List(ways))])
            }
        },
        Requirement::Digests(pinned) => Ok(vec![entry("digests", digests(pinned))]),
        Requirement::Deny { reason } => Ok(vec![entry("deny", Yaml::text(reason))]),
        Requirement::AllowUnsigned { until, because } => {
            let until = until.map(|until| Yaml::text(until.to_string()));
            let exemption = Yaml::map([("until", until), ("because", Some(Yaml::text(because)))]);
            Ok(vec![entry("unsafe_allow_unsigned", exemption)])
        }
    }
}

fn demand(demand: &Demand, settings: &Settings, names: &mut Names) -> Result<Entries, Unsayable> {
    let Demand {
        signed_by,
        attested,
        timing,
        format,
        source,
    } = demand;
    let mut entries = Vec::new();
    if let Some(by) = signed_by {
        entries.push(entry("signed_by", self::signed_by(by, settings, names)?));
    }
    if !attested.is_empty() {
        let mut items = Vec::new();
        for attested in attested {
            items.push(self::attested(attested, settings, names)?);
        }
        entries.push(entry("attested", Yaml::List(items)));
    }
    if entries.is_empty() {
        return Err("it asks for neither a signature nor an attestation".to_owned());
    }
    entries.extend(self::timing(timing));
    if let Some(carrier) = format {
        let word = match carrier {
            Carrier::Bundle => "bundle",
            Carrier::Layer => "layer",
        };
        entries.push(entry("format", Yaml::text(word)));
    }
    entries.extend(
        source
            .as_deref()
            .map(|source| entry("source", self::source(source))),
    );
    Ok(entries)
}

fn source(source: &EvidenceSource) -> Yaml {
    let repository = source.repository.as_ref();
    let tag_prefix = source.tag_prefix.as_ref();
    Yaml::map([
        (
            "repository",
            repository.map(|name| Yaml::text(name.to_string())),
        ),
        (
            "tag_prefix",
            tag_prefix.map(|prefix| Yaml::text(prefix.as_str())),
        ),
    ])
}

fn timing(timing: &Timing) -> Entries {
    let Timing {
        signed_within,
        not_before,
        cooldown,
    } = timing;
    let period = |period| Yaml::Text(Timing::period(period));
    let entries = [
        ("signed_within", signed_within.map(period)),
        (
            "not_before",
            not_before.map(|time| Yaml::text(time.to_string())),
        ),
        ("cooldown", cooldown.map(period)),
    ];
    let there = entries
        .into_iter()
        .filter_map(|(key, value)| Some(entry(key, value?)));
    there.collect()
}

fn attested(
    attested: &Attested,
    settings: &Settings,
    names: &mut Names,
) -> Result<Yaml, Unsayable> {
    let Attested {
        predicate_type,
        by,
        condition,
        every,
    } = attested;
    if !is_uri(predicate_type) {
        return Err(format!("the predicate type {predicate_type:?} is no URI"));
    }
    let condition = condition.as_ref();
    Ok(Yaml::map([
        ("predicate_type", Some(Yaml::text(predicate_type))),
        ("by", Some(signed_by(by, settings, names)?)),
        (
            "where",
            condition.map(|condition| Yaml::text(condition.as_str())),
        ),
        ("every", every.then(|| Yaml::text("true"))),
    ]))
}

fn signed_by(by: &SignedBy, settings: &Settings, names: &mut Names) -> Result<Yaml, Unsayable> {
    let mut of = Vec::new();
    for rule in &by.of {
        let name = named(rule, settings, names)?;
        // The language names each signer once.
        if of.contains(&name) {
            return Err("it names one signer twice".to_owned());
        }
        of.push(name);
    }
    match (by.at_least, of.as_slice()) {
        (1, [one]) => Ok(one.clone()),
        (1, [_, ..]) => Ok(Yaml::map([("any", Some(Yaml::List(of)))])),
        (at_least, all) if (1..=all.len()).contains(&at_least) => Ok(Yaml::map([
            ("at_least", Some(Yaml::text(at_least.to_string()))),
            ("of", Some(Yaml::List(of))),
        ])),
        _ => Err("nobody could ever sign it".to_owned()),
    }
}

fn named(
    rule: &Arc<SignerRule>,
    settings: &Settings,
    names: &mut Names,
) -> Result<Yaml, Unsayable> {
    let write = |rule: &SignerRule| signer::write(rule, settings);
    names.signers.name(&rule.name, rule, write)
}

fn pulled_by(by: &PulledBy, names: &mut Names) -> Result<Yaml, Unsayable> {
    let mut any = Vec::new();
    for rule in &by.any {
        any.push(names.pullers.name(&rule.name, rule, puller::write)?);
    }
    Ok(Yaml::map([("any", Some(Yaml::List(any)))]))
}
