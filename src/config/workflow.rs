//! Slips in the issuers and identities of signers that load and then match nobody.

use crate::config::problem::quoted;
use crate::config::reader::Value;
use crate::config::signers::ISSUERS;
use crate::config::suggest::slip;
use crate::policy::IdentityRule;

/// The issuers whose logins are workflows, how the names of these begin, and where in a repository
/// they lie.
const WORKFLOWS: &[(&str, &str, &str)] = &[
    (
        "https://token.actions.githubusercontent.com",
        "https://github.com/",
        "https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@refs/...",
    ),
    (
        "https://gitlab.com",
        "https://gitlab.com/",
        "https://gitlab.com/GROUP/PROJECT//.gitlab-ci.yml@refs/...",
    ),
];

/// Warns of an issuer's URL that is nearly one that people use, and of which nobody knows.
pub(super) fn warn_of_slip(value: &Value<'_>, url: &str) {
    if ISSUERS.iter().any(|(_, known)| *known == url) {
        return;
    }
    let urls = ISSUERS.iter().map(|(_, known)| *known);
    let Some(known) = slip(url, urls) else {
        return;
    };
    if let Some((name, _)) = ISSUERS.iter().find(|(_, one)| *one == known) {
        value.warn(
            &format!("no logins are known to come from {}", quoted(url)),
            &format!("did you mean `{name}` (`{known}`)?"),
        );
    }
}

/// Warns of an identity that no workflow has, where the issuer certifies workflows.
pub(super) fn warn_of_no_workflow(value: &Value<'_>, issuer: &IdentityRule, rule: &IdentityRule) {
    let IdentityRule::Exact(issuer) = issuer else {
        return;
    };
    let workflows = WORKFLOWS.iter().find(|(url, _, _)| url == issuer);
    let (Some((_, begin, form)), Some(text)) = (workflows, plain(rule)) else {
        return;
    };
    let head = text.split('*').next().unwrap_or_default();
    let mend = format!("write `{form}`");
    if !begin.starts_with(head) && !head.starts_with(begin) {
        let message =
            format!("workflows of this issuer are named by URLs that begin with `{begin}`");
        value.warn(&format!("{message}, so nobody will match"), &mend);
    } else if text.contains("/.github/") && !text.contains("/.github/workflows") {
        value.warn(
            "workflows lie under `.github/workflows/`, so nobody will match",
            &mend,
        );
    } else if let Some((_, end)) = text.rsplit_once('@')
        && !is_ref(end)
    {
        value.warn(
            "a whole ref stands after the `@`, so nobody will match",
            &format!("write `@refs/tags/{end}` or `@refs/heads/{end}`"),
        );
    }
}

/// The text of a rule that is no regular expression.
fn plain(rule: &IdentityRule) -> Option<&str> {
    match rule {
        IdentityRule::Exact(text) => Some(text),
        IdentityRule::Glob(glob) => Some(glob.as_str()),
        IdentityRule::Regex { .. } => None,
    }
}

/// Whether a workflow can have run for it: a ref, a commit, or a pattern that fits one.
fn is_ref(end: &str) -> bool {
    let head = end.split('*').next().unwrap_or_default();
    let commit = !end.is_empty()
        && end
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'*');
    "refs/".starts_with(head) && head.len() < end.len() || head.starts_with("refs/") || commit
}
