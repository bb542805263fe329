//! `match`: whether a rule is for every Pod, and so for every pull.

use crate::config::kyverno::sections;
use crate::config::reader::Fields;
use crate::config::reader::Value;

const MEND: &str = "write match: { any: [{ resources: { kinds: [Pod] } }] }";

/// The ways of naming every Pod.
const PODS: &[&str] = &["Pod", "v1/Pod", "*/Pod", "*/v1/Pod", "*"];

/// Refuses a rule that is not for every Pod: a pull does not tell for which Pod it is.
pub(super) fn check(rule: &Fields<'_>) -> Option<()> {
    let fields = rule.required("match", MEND)?.fields(&sections::MATCH)?;
    if fields.has_later() {
        return None;
    }
    let (form, value) = fields.exactly_one(&["any", "all", "resources"], MEND)?;
    if form == "resources" {
        let pods = kinds(&value)?.iter().any(is_pod);
        return complain(&value, pods);
    }
    let items = value.filled_list(MEND)?;
    let filters: Vec<Vec<Value<'_>>> = items.iter().filter_map(filter).collect();
    if filters.len() < items.len() {
        return None;
    }
    let mut pods = filters.iter().map(|kinds| kinds.iter().any(is_pod));
    let pods = match form {
        "any" => pods.any(|pods| pods),
        _ => pods.all(|pods| pods),
    };
    complain(&value, pods)
}

fn complain(value: &Value<'_>, pods: bool) -> Option<()> {
    if !pods {
        value.error(
            "not supported by this version: a rule that is not for every Pod, and a pull does not \
             tell for what it is",
            "add `Pod` to `kinds`, so that the rule is for every pull of its images, or remove \
             the rule",
        );
    }
    pods.then_some(())
}

fn filter<'a>(item: &Value<'a>) -> Option<Vec<Value<'a>>> {
    let fields = item.fields(&sections::FILTER)?;
    if fields.has_later() {
        return None;
    }
    kinds(&fields.required("resources", "write { kinds: [Pod] }")?)
}

/// The kinds that are named, and nothing else that would narrow them.
fn kinds<'a>(resources: &Value<'a>) -> Option<Vec<Value<'a>>> {
    let fields = resources.fields(&sections::RESOURCES)?;
    if fields.has_later() {
        return None;
    }
    if let Some(value) = fields.at("operations") {
        let created = |item: &Value<'_>| item.as_text() == Some("CREATE");
        if !value.filled_list("remove the line")?.iter().any(created) {
            value.error(
                "not supported by this version: a rule that does not ask when a Pod is made, and \
                 it is then that its images are pulled",
                "add CREATE, or remove the line",
            );
            return None;
        }
    }
    let kinds = fields.required("kinds", "write kinds: [Pod]")?;
    kinds.filled_list("write kinds: [Pod]")
}

fn is_pod(kind: &Value<'_>) -> bool {
    kind.as_text().is_some_and(|kind| PODS.contains(&kind))
}
