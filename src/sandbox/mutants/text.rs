//! Mutations of texts, and of what is packed into them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::json::{self, Tree};
use super::{Mutation, Thoroughness, bytes};

/// Shorter texts are words, although they may look like base64 ("hashedrekord").
const ENCODED_CHARACTERS_MIN: usize = 16;
const PEM_BEGIN: &str = "-----BEGIN ";

pub(super) fn mutations(
    text: &str,
    donors: &[&str],
    thoroughness: Thoroughness,
) -> Vec<Mutation<String>> {
    if text.is_empty() {
        return vec![Mutation::new(": filled", "x".to_owned())];
    }
    let mut mutations = vec![
        Mutation::new(": emptied", String::new()),
        Mutation::new(": prolonged", format!("{text}A")),
    ];
    if let Some(tree) = Tree::parse_exactly(text.as_bytes()) {
        let donors: Vec<_> = donors
            .iter()
            .filter_map(|donor| Tree::parse_exactly(donor.as_bytes()))
            .collect();
        let donors: Vec<_> = donors.iter().collect();
        let inner = json::mutations(&tree, &donors, thoroughness).into_iter();
        mutations.extend(inner.map(|inner| inner.within("/json", |tree| tree.to_string())));
    } else if text.starts_with(PEM_BEGIN) {
        mutations.extend(of_pem(text, donors, thoroughness));
    } else if text.contains('\n') {
        mutations.extend(of_parts(text, donors, '\n', thoroughness));
    } else if text.contains(' ') {
        mutations.extend(of_parts(text, donors, ' ', thoroughness));
    } else if let Some(decoded) = unpacked(text) {
        let change = match text.ends_with('=') {
            true => ": without all of its padding",
            false => ": without its last character",
        };
        mutations.push(Mutation::new(change, shortened(text)));
        let donors: Vec<_> = donors.iter().filter_map(|donor| unpacked(donor)).collect();
        let donors: Vec<_> = donors.iter().map(Vec::as_slice).collect();
        let inner = bytes::mutations(&decoded, &donors, thoroughness).into_iter();
        mutations
            .extend(inner.map(|inner| inner.within("/base64", |bytes| STANDARD.encode(bytes))));
    } else if let Ok(number) = text.parse::<i64>() {
        let others = [
            (": one more", number.saturating_add(1)),
            (": one less", number.saturating_sub(1)),
            (": zero", 0),
            (": the largest", i64::MAX),
        ];
        let others = others.into_iter().filter(|(_, other)| *other != number);
        mutations.extend(others.map(|(change, other)| Mutation::new(change, other.to_string())));
    } else {
        mutations.extend(of_characters(text));
    }
    mutations
}

/// What base64 holds, where the text is that.
fn unpacked(text: &str) -> Option<Vec<u8>> {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() < ENCODED_CHARACTERS_MIN || hexadecimal {
        return None;
    }
    STANDARD.decode(text).ok()
}

fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    text.pop();
    text
}

/// The first, the middle and the last character become others of their kind.
fn of_characters(text: &str) -> Vec<Mutation<String>> {
    let characters: Vec<char> = text.chars().collect();
    let places = [
        ("first", 0),
        ("middle", characters.len() / 2),
        ("last", characters.len() - 1),
    ];
    let mut mutations: Vec<Mutation<String>> = places
        .into_iter()
        .map(|(name, place)| {
            let mut characters = characters.clone();
            characters[place] = other(characters[place]);
            Mutation::new(
                format!(": its {name} character changed"),
                characters.into_iter().collect(),
            )
        })
        .collect();
    let upper = text.to_uppercase();
    if upper != text {
        mutations.push(Mutation::new(": in capitals", upper));
    }
    mutations.push(Mutation::new(
        ": without its last character",
        shortened(text),
    ));
    mutations
}

fn other(character: char) -> char {
    match character {
        '0'..='8' | 'a'..='e' | 'A'..='E' => char::from(character as u8 + 1),
        '9' => '0',
        'f' => 'a',
        _ => 'b',
    }
}

/// The parts of a text (the lines of a signed note, the words of a line), one at a time.
fn of_parts(
    text: &str,
    donors: &[&str],
    separator: char,
    thoroughness: Thoroughness,
) -> Vec<Mutation<String>> {
    let name = if separator == '\n' { "/line" } else { "/word" };
    let split = |text: &str| -> Vec<String> { text.split(separator).map(str::to_owned).collect() };
    let joined = |parts: &[String]| parts.join(&separator.to_string());
    let parts = split(text);
    let donors: Vec<Vec<String>> = donors.iter().map(|donor| split(donor)).collect();
    let mut mutations = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let edited = |edit: &dyn Fn(&mut Vec<String>)| {
            let mut parts = parts.clone();
            edit(&mut parts);
            joined(&parts)
        };
        let mut add = |what: &str, changed: String| {
            mutations.push(Mutation::new(format!("{name}[{number}]: {what}"), changed));
        };
        add("removed", edited(&|parts| drop(parts.remove(number))));
        add("twice", edited(&|parts| parts.insert(number, part.clone())));
        let donated: Vec<&str> = donors
            .iter()
            .filter_map(|donor| donor.get(number).map(String::as_str))
            .collect();
        for donor in &donated {
            if donor != part {
                let with = edited(&|parts| parts[number] = (*donor).to_owned());
                add("swapped", with);
                let before = edited(&|parts| parts.insert(number, (*donor).to_owned()));
                add("the other's before it", before);
            }
        }
        for mutation in self::mutations(part, &donated, thoroughness) {
            let with = |part: String| edited(&|parts| parts[number] = part.clone());
            mutations.push(mutation.within(&format!("{name}[{number}]"), with));
        }
    }
    mutations
}

/// Several PEM documents, one at a time.
fn of_documents(text: &str, donors: &[&str], thoroughness: Thoroughness) -> Vec<Mutation<String>> {
    let documents = documents(text);
    let donors: Vec<Vec<&str>> = donors.iter().map(|donor| self::documents(donor)).collect();
    let mut mutations = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        let with = |instead: &str| {
            let mut documents = documents.clone();
            documents[number] = instead;
            documents.concat()
        };
        let mut add = |what: &str, changed| {
            mutations.push(Mutation::new(format!("/pem[{number}]: {what}"), changed));
        };
        add("removed", with(""));
        add("twice", with(&document.repeat(2)));
        let donated: Vec<&str> = donors
            .iter()
            .filter_map(|donor| donor.get(number).copied())
            .collect();
        for donor in &donated {
            if donor != document {
                add("swapped", with(donor));
            }
        }
        for mutation in of_pem(document, &donated, thoroughness) {
            mutations.push(mutation.within(&format!("/pem[{number}]"), |document| with(&document)));
        }
    }
    mutations
}

/// The PEM documents of a text, each with what follows it.
fn documents(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices(PEM_BEGIN).map(|(at, _)| at).collect();
    starts.push(text.len());
    starts
        .windows(2)
        .map(|bounds| &text[bounds[0]..bounds[1]])
        .collect()
}

/// One PEM document: what it holds.
fn of_pem(text: &str, donors: &[&str], thoroughness: Thoroughness) -> Vec<Mutation<String>> {
    let mut mutations = vec![
        Mutation::new(": twice", format!("{text}{text}")),
        Mutation::new(": after other text", format!("text\n{text}")),
    ];
    for donor in donors {
        if *donor != text {
            mutations.push(Mutation::new(
                ": the other's before it",
                format!("{donor}{text}"),
            ));
            mutations.push(Mutation::new(
                ": the other's after it",
                format!("{text}{donor}"),
            ));
        }
    }
    let Some((label, der)) = pem(text) else {
        mutations.extend(of_documents(text, donors, thoroughness));
        return mutations;
    };
    let donors: Vec<_> = donors.iter().filter_map(|donor| pem(donor)).collect();
    let donors: Vec<_> = donors.iter().map(|(_, der)| der.as_slice()).collect();
    let inner = bytes::mutations(&der, &donors, thoroughness).into_iter();
    mutations.extend(inner.map(|inner| {
        inner.within("/pem", |der| {
            let body = STANDARD.encode(der);
            let lines: Vec<_> = body.as_bytes().chunks(64).collect();
            let lines: Vec<_> = lines
                .iter()
                .map(|line| String::from_utf8_lossy(line))
                .collect();
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                lines.join("\n")
            )
        })
    }));
    mutations
}

/// Label and content of the one PEM document in a text.
fn pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (label, rest) = text.strip_prefix(PEM_BEGIN)?.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    let body: String = body.split_whitespace().collect();
    let alone = !rest.contains(PEM_BEGIN);
    alone.then_some((label, STANDARD.decode(body).ok()?))
}
