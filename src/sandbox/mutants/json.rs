//! Mutations of JSON.

use std::fmt;

use serde_json::{Number, Value};

use super::{Mutation, Thoroughness, text};

/// The members of an object.
type Members = Vec<(String, Tree)>;

/// A JSON value whose objects can have a member twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Object(Members),
    Array(Vec<Self>),
    Text(String),
    Number(Number),
    /// `true`, `false` or `null`.
    Word(Option<bool>),
}

impl Tree {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(serde_json::from_slice::<Value>(bytes).ok()?))
    }

    /// The same, but only where writing it out again gives the same bytes: else a mutation would
    /// change more than its one place.
    pub(super) fn parse_exactly(bytes: &[u8]) -> Option<Self> {
        let tree = Self::parse(bytes)?;
        let container = matches!(tree, Self::Object(_) | Self::Array(_));
        (container && tree.to_string().as_bytes() == bytes).then_some(tree)
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(members) => {
                let members = members.into_iter();
                Self::Object(members.map(|(name, value)| (name, value.into())).collect())
            }
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => Self::Number(number),
            Value::Bool(value) => Self::Word(Some(value)),
            Value::Null => Self::Word(None),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(members) => {
                f.write_str("{")?;
                for (number, (name, value)) in members.iter().enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{value}", Value::from(name.as_str()))?;
                }
                f.write_str("}")
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Text(text) => write!(f, "{}", Value::from(text.as_str())),
            Self::Number(number) => write!(f, "{number}"),
            Self::Word(Some(value)) => write!(f, "{value}"),
            Self::Word(None) => f.write_str("null"),
        }
    }
}

/// Every mutation of the tree's parts; never the whole of it replaced.
pub(super) fn mutations(
    tree: &Tree,
    donors: &[&Tree],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Tree>> {
    match tree {
        Tree::Object(members) => of_object(members, donors, thoroughness),
        Tree::Array(items) => of_array(items, donors, thoroughness),
        Tree::Text(text) => {
            let donors = donors.iter().filter_map(|donor| match donor {
                Tree::Text(text) => Some(text.as_str()),
                _ => None,
            });
            let donors: Vec<_> = donors.collect();
            let mutations = text::mutations(text, &donors, thoroughness).into_iter();
            let whole = |mutation: Mutation<String>| mutation.within("", Tree::Text);
            let mut mutations: Vec<_> = mutations.map(whole).collect();
            mutations.push(Mutation::new(": a number", Tree::Number(71_077_345.into())));
            mutations
        }
        Tree::Number(number) => of_number(number),
        Tree::Word(Some(value)) => vec![Mutation::new(": flipped", Tree::Word(Some(!value)))],
        Tree::Word(None) => Vec::new(),
    }
}

fn of_object(
    members: &[(String, Tree)],
    donors: &[&Tree],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Tree>> {
    let donated = |name: &str| -> Vec<&Tree> {
        let donors = donors.iter().filter_map(|donor| match donor {
            Tree::Object(members) => members.iter().find(|(member, _)| member == name),
            _ => None,
        });
        donors.map(|(_, value)| value).collect()
    };
    let mut mutations = Vec::new();
    for (number, (name, value)) in members.iter().enumerate() {
        let edited = |edit: &dyn Fn(&mut Members)| {
            let mut members = members.to_vec();
            edit(&mut members);
            Tree::Object(members)
        };
        let with = |value: Tree| edited(&|members| members[number].1 = value.clone());
        let mut add = |what: &str, changed| {
            mutations.push(Mutation::new(format!("{name}: {what}"), changed));
        };
        add("removed", edited(&|members| drop(members.remove(number))));
        add("null", with(Tree::Word(None)));
        add("an empty object", with(Tree::Object(Vec::new())));
        let twice = |first: &Tree, second: &Tree| {
            edited(&|members| {
                members[number].1 = first.clone();
                members.insert(number + 1, (name.clone(), second.clone()));
            })
        };
        add("twice", twice(value, value));
        let donated = donated(name);
        for donor in &donated {
            if *donor != value {
                add("swapped", with((*donor).clone()));
                add("twice, the other's first", twice(donor, value));
                add("twice, the other's last", twice(value, donor));
            }
        }
        for mutation in self::mutations(value, &donated, thoroughness) {
            mutations.push(mutation.within(name, with));
        }
    }
    mutations.extend(added(members, donors));
    mutations
}

/// Members that only donors have.
fn added(members: &[(String, Tree)], donors: &[&Tree]) -> Vec<Mutation<Tree>> {
    let mut mutations = Vec::new();
    for donor in donors {
        let Tree::Object(donated) = donor else {
            continue;
        };
        for (name, value) in donated {
            if !members.iter().any(|(member, _)| member == name) {
                let mut members = members.to_vec();
                members.push((name.clone(), value.clone()));
                mutations.push(Mutation::new(
                    format!("{name}: added"),
                    Tree::Object(members),
                ));
            }
        }
    }
    mutations
}

fn of_array(items: &[Tree], donors: &[&Tree], thoroughness: Thoroughness) -> Vec<Mutation<Tree>> {
    let donors: Vec<&[Tree]> = donors
        .iter()
        .filter_map(|donor| match donor {
            Tree::Array(items) => Some(items.as_slice()),
            _ => None,
        })
        .collect();
    let mut mutations = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let edited = |edit: &dyn Fn(&mut Vec<Tree>)| {
            let mut items = items.to_vec();
            edit(&mut items);
            Tree::Array(items)
        };
        let with = |item: Tree| edited(&|items| items[number] = item.clone());
        let mut add = |what: &str, changed| {
            mutations.push(Mutation::new(format!("[{number}]: {what}"), changed));
        };
        add("removed", edited(&|items| drop(items.remove(number))));
        add("twice", edited(&|items| items.insert(number, item.clone())));
        let donated: Vec<&Tree> = donors
            .iter()
            .filter_map(|donor| donor.get(number))
            .collect();
        for donor in &donated {
            if *donor != item {
                add("swapped", with((*donor).clone()));
                let before = edited(&|items| items.insert(number, (*donor).clone()));
                add("the other's before it", before);
                let after = edited(&|items| items.insert(number + 1, (*donor).clone()));
                add("the other's after it", after);
            }
        }
        for mutation in self::mutations(item, &donated, thoroughness) {
            mutations.push(mutation.within(&format!("[{number}]"), with));
        }
    }
    for (number, pair) in items.windows(2).enumerate() {
        if pair[0] != pair[1] {
            let mut items = items.to_vec();
            items.swap(number, number + 1);
            let change = format!("[{number}]: changes places with the next");
            mutations.push(Mutation::new(change, Tree::Array(items)));
        }
    }
    mutations
}

fn of_number(number: &Number) -> Vec<Mutation<Tree>> {
    let mut mutations = vec![Mutation::new(": a text", Tree::Text(number.to_string()))];
    if let Some(value) = number.as_i64() {
        let others = [
            (": one more", value.saturating_add(1)),
            (": one less", value.saturating_sub(1)),
            (": negative", value.saturating_neg().min(-1)),
            (": the largest", i64::MAX),
        ];
        for (change, other) in others {
            mutations.push(Mutation::new(change, Tree::Number(other.into())));
        }
    }
    mutations
}
