//! Pullers, written.

use crate::config::native::Unsayable;
use crate::config::native::signer;
use crate::config::native::yaml::Yaml;
use crate::policy::ClaimRule;
use crate::policy::IdentityRule;
use crate::policy::PullerKind;
use crate::policy::PullerRule;
use crate::policy::TokenRule;

pub(super) fn write(rule: &PullerRule) -> Result<Yaml, Unsayable> {
    let PullerRule { name: _, kind } = rule;
    Ok(match kind {
        PullerKind::Users(users) => {
            let users = users.iter().map(Yaml::text);
            Yaml::map([("user", Some(Yaml::List(users.collect())))])
        }
        PullerKind::Certificate(rule) => {
            let key = match rule.is_exact() {
                true => "dns",
                false => "dns_glob",
            };
            let name = Yaml::map([(key, Some(Yaml::text(rule.as_str())))]);
            Yaml::map([("certificate", Some(name))])
        }
        PullerKind::Token(rule) => Yaml::map([("oidc", Some(token(rule)?))]),
    })
}

fn token(rule: &TokenRule) -> Result<Yaml, Unsayable> {
    let TokenRule {
        issuer,
        identity,
        claims,
    } = rule;
    let mut entries = vec![("issuer".to_owned(), Yaml::text(issuer))];
    entries.extend(identity.as_ref().map(signer::identity));
    let (mut exact, mut globs) = (Vec::new(), Vec::new());
    for ClaimRule { path, value } in claims {
        let (kind, text) = match value {
            IdentityRule::Exact(text) => (&mut exact, text.as_str()),
            IdentityRule::Glob(glob) => (&mut globs, glob.as_str()),
            IdentityRule::Regex { .. } => {
                return Err("a claim is compared with a regular expression".to_owned());
            }
        };
        insert(kind, path, text);
    }
    let kinds = [("claims", exact), ("claims_glob", globs)];
    let filled = kinds.into_iter().filter(|(_, claims)| !claims.is_empty());
    entries.extend(filled.map(|(key, claims)| (key.to_owned(), Yaml::Map(claims))));
    Ok(Yaml::Map(entries))
}

/// Puts a claim where its path leads.
fn insert(claims: &mut Vec<(String, Yaml)>, path: &[String], text: &str) {
    let [first, rest @ ..] = path else {
        return;
    };
    if rest.is_empty() {
        claims.push((first.clone(), Yaml::text(text)));
        return;
    }
    let held = claims.iter().position(|(name, _)| name == first);
    let position = held.unwrap_or_else(|| {
        claims.push((first.clone(), Yaml::Map(Vec::new())));
        claims.len() - 1
    });
    if let Some((_, Yaml::Map(inner))) = claims.get_mut(position) {
        insert(inner, rest, text);
    }
}
