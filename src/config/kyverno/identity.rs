//! Whom a keyless attestor means.

use crate::config::kyverno::sections;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::policy::Claim;
use crate::policy::IdentityRule;
use crate::policy::wildcards;

/// An identity with Kyverno's wildcards, or without them, as in bundles.
pub(super) fn pattern(value: &Value<'_>, exact: bool) -> Option<IdentityRule> {
    let text = value.text()?;
    if refuse_variable(value, text) {
        return None;
    }
    if exact && text.contains(['*', '?']) {
        value.warn(
            "with `type: SigstoreBundle` this is compared literally, for Kyverno as well",
            "write a regular expression: subjectRegExp, issuerRegExp",
        );
    }
    let rule = match (exact, text.contains('?'), text.contains('*')) {
        (true, ..) | (_, false, false) => IdentityRule::exact(text),
        (_, true, _) => IdentityRule::regex(&wildcards(text)),
        (_, false, true) => IdentityRule::glob(&segmentless(text)),
    };
    let rule = rule.ok()?;
    if ["https://a.example/b@c", "d@e.example", "f/g:h"]
        .iter()
        .all(|stranger| rule.matches(stranger))
    {
        value.warn("this matches everybody", "say whose signatures you mean");
    }
    Some(rule)
}

/// Kyverno's star, which crosses segments, as it is written here.
fn segmentless(text: &str) -> String {
    let mut glob = String::new();
    for character in text.chars() {
        match character {
            '*' if glob.ends_with('*') => {}
            '*' => glob.push_str("**"),
            other => glob.push(other),
        }
    }
    glob
}

/// Tells of a variable, which nobody would fill in.
pub(super) fn refuse_variable(value: &Value<'_>, text: &str) -> bool {
    let variable = text.contains("{{") || text.contains("$(");
    if variable {
        value.error(
            &format!(
                "not supported by this version: variables, as in {}",
                quoted(text)
            ),
            "write the value out",
        );
    }
    variable
}

/// Fulcio's extensions.
pub(super) fn claims(value: &Value<'_>) -> Option<Vec<Claim>> {
    let entries = value.entries()?;
    let claim = |(key, value): &(&str, Value<'_>)| {
        let known = sections::EXTENSIONS
            .iter()
            .find(|(name, number, _)| key == name || key == number);
        match known {
            Some((_, _, name)) => Some(Claim {
                name,
                value: pattern(value, false)?,
            }),
            None => {
                let names = sections::EXTENSIONS.iter().map(|(name, ..)| *name);
                let mend = format!("the extensions are {}", listed(names, "and"));
                value.error("Kyverno knows no such extension", &mend);
                None
            }
        }
    };
    let claims: Vec<Claim> = entries.iter().filter_map(claim).collect();
    (claims.len() == entries.len()).then_some(claims)
}
