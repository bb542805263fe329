//! Mutations of DER, element by element.

use super::{Mutation, Thoroughness, bytes};

const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const CONSTRUCTED: u8 = 0x20;
/// Deeper is no certificate and no timestamp.
const DEPTH_MAX: usize = 32;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    tag: u8,
    content: Content,
    /// Its length is written in more bytes than DER allows.
    long_length: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Plain(Vec<u8>),
    /// Elements, after what stands before them (the count of unused bits of a BIT STRING).
    Elements(Vec<u8>, Vec<Element>),
}

impl Element {
    /// The element that the bytes are, all of them.
    pub(super) fn parse_exactly(bytes: &[u8]) -> Option<Self> {
        let mut elements = parse(bytes, 0)?;
        let element = elements.pop()?;
        // A text or a key may look like a short element by chance.
        let whole = elements.is_empty() && matches!(element.content, Content::Elements(..));
        whole.then_some(element)
    }

    fn encode(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Plain(bytes) => bytes.clone(),
            Content::Elements(before, elements) => {
                let mut content = before.clone();
                content.extend(elements.iter().flat_map(Self::encode));
                content
            }
        };
        let length = content.len().to_be_bytes();
        let mut length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
        if self.long_length {
            length.insert(0, 0);
        }
        let mut bytes = vec![self.tag];
        if content.len() < 0x80 && !self.long_length {
            bytes.push(content.len() as u8);
        } else {
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
        bytes.extend(content);
        bytes
    }

    fn children(&self) -> &[Self] {
        match &self.content {
            Content::Plain(_) => &[],
            Content::Elements(_, elements) => elements,
        }
    }
}

/// The elements that the bytes are, one after another, where writing them gives these bytes.
fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Element>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let whole = bytes;
    let mut elements = Vec::new();
    while let [tag, rest @ ..] = bytes {
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length)?;
        elements.push(Element {
            tag: *tag,
            content: parse_content(*tag, content, depth)?,
            long_length: false,
        });
        bytes = rest;
    }
    let written: Vec<u8> = elements.iter().flat_map(Element::encode).collect();
    (written == whole).then_some(elements)
}

fn parse_content(tag: u8, content: &[u8], depth: usize) -> Option<Content> {
    let packed = |before: &[u8], inner: &[u8]| {
        let elements = parse(inner, depth + 1).filter(|elements| !elements.is_empty());
        elements.map_or_else(
            || Content::Plain(content.to_vec()),
            |elements| Content::Elements(before.to_vec(), elements),
        )
    };
    match (tag, content) {
        (tag, _) if tag & CONSTRUCTED != 0 => {
            Some(Content::Elements(Vec::new(), parse(content, depth + 1)?))
        }
        (OCTET_STRING, _) => Some(packed(&[], content)),
        (BIT_STRING, [0, inner @ ..]) => Some(packed(&[0], inner)),
        _ => Some(Content::Plain(content.to_vec())),
    }
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    let known = !length.is_empty() && length.len() <= 4;
    let value = length
        .iter()
        .fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
    known.then_some((value, rest))
}

pub(super) fn mutations(
    element: &Element,
    donors: &[&Element],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Vec<u8>>> {
    let encoded = element.encode();
    let mut mutations: Vec<_> = of_element(element, donors, thoroughness)
        .into_iter()
        .map(|inner| inner.within("/der", |element| element.encode()))
        .collect();
    let prolonged = [encoded.as_slice(), &[0]].concat();
    mutations.push(Mutation::new("/der: prolonged", prolonged));
    let shortened = encoded[..encoded.len() - 1].to_vec();
    mutations.push(Mutation::new("/der: without its last byte", shortened));
    mutations
}

/// The element itself and everything below it.
fn of_element(
    element: &Element,
    donors: &[&Element],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Element>> {
    let with = |content| Element {
        content,
        ..element.clone()
    };
    let other_tag = Element {
        tag: element.tag ^ 1,
        ..element.clone()
    };
    let long = Element {
        long_length: true,
        ..element.clone()
    };
    let mut mutations = vec![
        Mutation::new(": another tag", other_tag),
        Mutation::new(": its length in more bytes", long),
    ];
    match &element.content {
        Content::Plain(plain) => {
            let empty = with(Content::Plain(Vec::new()));
            mutations.push(Mutation::new(": emptied", empty));
            let flipped = bytes::flipped(plain, thoroughness).into_iter();
            mutations
                .extend(flipped.map(|inner| inner.within("", |plain| with(Content::Plain(plain)))));
        }
        Content::Elements(before, children) => {
            let whole = |children| with(Content::Elements(before.clone(), children));
            let below = of_children(children, donors, thoroughness).into_iter();
            mutations.extend(below.map(|inner| inner.within("", whole)));
        }
    }
    mutations
}

fn of_children(
    children: &[Element],
    donors: &[&Element],
    thoroughness: Thoroughness,
) -> Vec<Mutation<Vec<Element>>> {
    let mut mutations = Vec::new();
    for (number, child) in children.iter().enumerate() {
        let edited = |edit: &dyn Fn(&mut Vec<Element>)| {
            let mut children = children.to_vec();
            edit(&mut children);
            children
        };
        let with = |child: Element| edited(&|children| children[number] = child.clone());
        let mut add = |what: &str, changed| {
            mutations.push(Mutation::new(format!(".{number}: {what}"), changed));
        };
        add("removed", edited(&|children| drop(children.remove(number))));
        let twice = edited(&|children| children.insert(number, child.clone()));
        add("twice", twice);
        let donated: Vec<&Element> = donors
            .iter()
            .filter_map(|donor| donor.children().get(number))
            .collect();
        for donor in &donated {
            if *donor != child {
                add("swapped", with((*donor).clone()));
                let before = edited(&|children| children.insert(number, (*donor).clone()));
                add("the other's before it", before);
            }
        }
        for mutation in of_element(child, &donated, thoroughness) {
            mutations.push(mutation.within(&format!(".{number}"), with));
        }
    }
    mutations
}
