//! Policies in pullgate's own language, whatever they were read from: what
//! `pullgate check --print native` prints. When it is read, it means the same policies.
//!
//! It is written from the lowered types, so that it cannot say anything else than what is in
//! force. What the language has no words for is refused in its place, with a comment that says
//! why: a policy that is left out could let something pass.

mod certified_by;
mod policy;
mod puller;
mod signer;
mod yaml;

use std::sync::Arc;

use crate::config::RootSource;
use crate::config::Settings;
use crate::config::SigstoreInstance;
use crate::policy::DefaultRule;
use crate::policy::PullerRule;
use crate::policy::SignerRule;
use crate::verify::Demands;
use crate::verify::RootName;
use yaml::Yaml;

/// Why something cannot be said, for people.
type Unsayable = String;

/// The policies of `settings`, as one policy file.
#[must_use]
pub fn native(settings: &Settings) -> String {
    let mut names = Names::default();
    let policies = settings.rules.policies.iter();
    let policies: Vec<Yaml> = policies
        .map(|policy| policy::write(policy, settings, &mut names))
        .collect();
    let default = match settings.rules.default {
        DefaultRule::Deny => "deny",
        DefaultRule::UnsafeAllow => "unsafe_allow",
    };
    let filled = |entries: Vec<(String, Yaml)>| (!entries.is_empty()).then_some(Yaml::Map(entries));
    Yaml::map([
        ("signers", filled(names.signers.written)),
        ("pullers", filled(names.pullers.written)),
        (
            "policies",
            (!policies.is_empty()).then_some(Yaml::List(policies)),
        ),
        ("default", Some(Yaml::text(default))),
    ])
    .document()
}

/// The signers and pullers that policies have named so far.
#[derive(Default)]
struct Names {
    signers: Named<SignerRule>,
    pullers: Named<PullerRule>,
}

/// Rules with the names under which they are written, each once.
struct Named<T> {
    rules: Vec<(String, Arc<T>)>,
    written: Vec<(String, Yaml)>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            written: Vec::new(),
        }
    }
}

impl<T: PartialEq> Named<T> {
    /// The name under which `rule` is written; it is written by `write` when it is new. Two
    /// rules of one name, which other engines allow, get two.
    fn name(
        &mut self,
        own: &str,
        rule: &Arc<T>,
        write: impl FnOnce(&T) -> Result<Yaml, Unsayable>,
    ) -> Result<Yaml, Unsayable> {
        if let Some((name, _)) = self.rules.iter().find(|(_, known)| known == rule) {
            return Ok(Yaml::text(name));
        }
        let written = write(rule)?;
        let taken = |name: &str| self.rules.iter().any(|(other, _)| other == name);
        let mut name = own.to_owned();
        let mut number = 1;
        while taken(&name) {
            number += 1;
            name = format!("{own}-{number}");
        }
        self.rules.push((name.clone(), Arc::clone(rule)));
        self.written.push((name.clone(), written));
        Ok(Yaml::Text(name))
    }
}

/// What a keyless signature under this root has to have where its signer says no more.
fn least(root: &RootName, settings: &Settings) -> Demands {
    let github = |source: &RootSource| {
        matches!(
            source,
            RootSource::Sigstore {
                instance: SigstoreInstance::Github,
                ..
            }
        )
    };
    let mut roots = settings.trust_roots.iter();
    match roots.any(|known| known.name == *root && github(&known.source)) {
        true => Demands::TIMESTAMPED,
        false => Demands::default(),
    }
}

#[cfg(test)]
mod tests;
