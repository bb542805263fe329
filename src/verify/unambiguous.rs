//! JSON that reads in one way only.
//!
//! Where an object has a member twice, one reader takes the first and another the last, and the
//! derived readers of this room and the verifier family do not all mind. What is proven would be
//! true in either reading; but nobody who looks at such a document with another tool sees what was
//! proven here, and no honest signer writes one.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks that no object in the document has a member twice. Bounds on size are the caller's, and
/// on depth those of the JSON reader.
pub(super) fn check(json: &str) -> Result<(), String> {
    let checked: Result<Checked, _> = serde_json::from_str(json);
    checked
        .map(|Checked| ())
        .map_err(|error| format!("the JSON cannot be read in one way only: {error}"))
}

/// No object of a bundle has as many members. (What is signed is text to the bundle.) Their names
/// are held, so there is a bound.
const MEMBERS_MAX: usize = 64;

/// A value that was read and forgotten.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E: Error>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Checked, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(format!("the member {name:.64?} twice")));
            }
            if seen.len() >= MEMBERS_MAX {
                return Err(A::Error::custom("an object with too many members"));
            }
            members.next_value::<Checked>()?;
            seen.insert(name);
        }
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_twice_is_found_at_any_depth() {
        for good in [
            "{}",
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":{"a":[1.5,-1,null,true,"a"]}}"#,
        ] {
            check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"\u0061":2}}]"#,
            "{",
            r#"{"a":1}x"#,
        ] {
            check(bad).expect_err(bad);
        }
    }

    #[test]
    fn members_are_counted() {
        let members: Vec<String> = (0..=MEMBERS_MAX)
            .map(|name| format!("\"{name}\":0"))
            .collect();
        let object = |count: usize| format!("{{{}}}", members[..count].join(","));
        check(&object(MEMBERS_MAX)).expect("as many as may be");
        check(&object(MEMBERS_MAX + 1)).expect_err("one more");
    }

    #[test]
    fn depth_ends_somewhere() {
        check(&"[".repeat(100_000)).expect_err("too deep");
    }
}
