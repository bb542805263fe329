//! The documents of other engines: which one is for which, and what they have in common.

use crate::config::cluster_image_policy;
use crate::config::kyverno;
use crate::config::policies::Context;
use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::signers::first_line;
use crate::policy::IdentityRule;
use crate::policy::Policy;
use crate::verify::HashAlgorithm;

/// Another engine, whose documents are read as well.
#[derive(Clone, Copy)]
pub(super) enum Engine {
    PolicyController,
    Kyverno,
}

impl Engine {
    /// The one that the document is for, unless it is one of ours.
    pub(super) fn of(document: &Value<'_>) -> Option<Self> {
        let (_, kind) = document.peek("kind")?;
        match kind.as_text()? {
            cluster_image_policy::KIND => Some(Self::PolicyController),
            kyverno::KIND => Some(Self::Kyverno),
            _ => None,
        }
    }

    /// The policies of a document, each with the place that its name comes from.
    pub(super) fn lower<'a>(
        self,
        document: &Value<'a>,
        context: &Context<'_>,
    ) -> Vec<(Value<'a>, Policy)> {
        match self {
            Self::PolicyController => cluster_image_policy::lower(document, context)
                .zip(name(document))
                .map(|(policy, name)| (name, policy))
                .into_iter()
                .collect(),
            Self::Kyverno => kyverno::lower(document, context),
        }
    }
}

/// A document's name, for the list of names that stand once.
pub(super) fn name<'a>(document: &Value<'a>) -> Option<Value<'a>> {
    let (_, metadata) = document.peek("metadata")?;
    let (_, name) = metadata.peek("name")?;
    Some(name)
}

/// What signatures hash with, by its name.
pub(super) fn hash_algorithm(value: &Value<'_>, name: &str) -> Option<HashAlgorithm> {
    let known = HashAlgorithm::named(name);
    if known.is_none() {
        value.error(
            &format!("signatures over {} are not verified", quoted(name)),
            "write sha256, sha384 or sha512",
        );
    }
    known
}

/// A regular expression that may match anywhere, as it does in the engines that these documents are
/// for.
pub(super) fn unanchored(value: &Value<'_>) -> Option<IdentityRule> {
    let text = value.text()?;
    match IdentityRule::regex_anywhere(text) {
        Ok(rule) => {
            if !(text.starts_with('^') && text.ends_with('$')) {
                value.warn(
                    "this regular expression is not anchored: it fits whatever contains it",
                    "begin it with `^` and end it with `$`",
                );
            }
            Some(rule)
        }
        Err(error) => {
            let message = format!("{}: {}", quoted(text), first_line(&error));
            value.error(&message, "correct the pattern");
            None
        }
    }
}
