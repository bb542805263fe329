//! What a condition that is false found: the values on which it turned, as far as they can be told
//! in a line.

use super::evaluate::Evaluation;
use super::term::{Function, Term};
use super::value::Value;

/// How much of a text is told.
const CHARACTERS_MAX: usize = 100;

impl<'a> Evaluation<'a> {
    /// The values that make `term` false; `None` where there are none to tell.
    pub(super) fn found(&self, term: &'a Term) -> Option<String> {
        match term {
            Term::And(one, two) => match self.truth(one) {
                Ok(false) => self.found(one),
                _ => self.found(two),
            },
            Term::Or(one, two) => Some(format!("{} and {}", self.found(one)?, self.found(two)?)),
            Term::Equal { sides, .. } | Term::Compare(_, sides) | Term::In(sides) => {
                self.told(sides.iter())
            }
            Term::Matches(operand, _) => self.told([&**operand]),
            Term::Not(operand) if !matches!(**operand, Term::And(..) | Term::Or(..)) => {
                self.found(operand)
            }
            Term::Call(
                Function::StartsWith | Function::EndsWith | Function::Contains,
                operands,
            ) => self.told(operands),
            Term::Given(_) | Term::Field(..) | Term::Index(..) => self.told([term]),
            _ => None,
        }
    }

    /// The values of those terms that have a name, which all have one or are written out.
    fn told(&self, terms: impl IntoIterator<Item = &'a Term>) -> Option<String> {
        let named = terms
            .into_iter()
            .filter(|term| !matches!(term, Term::Literal(_) | Term::List(_)));
        let told: Option<Vec<String>> = named
            .map(|term| {
                let name = term.to_string();
                let value = self.value(term, &mut Vec::new()).ok()?;
                let is_name = !name.contains("...") && !matches!(term, Term::Has(..));
                is_name.then(|| format!("`{name}` is {}", shown(&value)))
            })
            .collect();
        let told = told.filter(|told| !told.is_empty())?;
        Some(told.join(" and "))
    }
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Bool(truth) => truth.to_string(),
        Value::Int(whole) => whole.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Time(time) => time.to_string(),
        Value::Period(period) => format!("{period:#}"),
        Value::Text(text) => match text.char_indices().nth(CHARACTERS_MAX) {
            Some((end, _)) => format!("{:?}...", &text[..end]),
            None => format!("{text:?}"),
        },
        Value::Null | Value::Json(_) | Value::List(_) => value.kind().to_owned(),
    }
}
