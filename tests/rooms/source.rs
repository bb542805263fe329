//! Reads Rust source as far as the table of rooms asks: which paths stand on which line, and
//! which lines are compiled for tests only.

/// A source text whose comments and literals are blanked out, byte for byte.
pub(crate) struct Source<'a> {
    original: &'a str,
    code: String,
    /// Byte ranges of items under `#[cfg(test)]`.
    tests: Vec<std::ops::Range<usize>>,
}

/// A path as it stands in the code, with groups of `use` taken apart: `hyper::body::Incoming`.
pub(crate) struct PathUse {
    /// The path, without spaces.
    pub(crate) path: String,
    /// Where it begins, in bytes.
    pub(crate) at: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn read(original: &'a str) -> Self {
        let code = blanked(original);
        let tests = test_items(&code);
        Self {
            original,
            code,
            tests,
        }
    }

    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|item| item.contains(&at))
    }

    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    /// Where `word` stands on its own, and not as a part of a longer name.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        let starts_name = word.starts_with(is_name);
        let ends_name = word.ends_with(is_name);
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(|at| !(starts_name && self.code[..*at].ends_with(is_name)))
            .filter(|at| !(ends_name && self.code[at + word.len()..].starts_with(is_name)))
            .collect()
    }

    /// Every path of the code, those of `use` items as a whole each.
    pub(crate) fn paths(&self) -> Vec<PathUse> {
        let mut paths = Vec::new();
        let mut uses = Vec::new();
        for at in self.words("use") {
            let end = at + self.code[at..].find(';').unwrap_or(0);
            let tree = at + "use".len();
            expand(&self.code[tree..end], "", tree, &mut paths);
            uses.push(at..end);
        }
        let mut uses = uses.into_iter().peekable();
        let mut at = 0;
        while at < self.code.len() {
            if let Some(item) = uses.next_if(|item| item.start <= at) {
                at = at.max(item.end);
                continue;
            }
            let rest = &self.code[at..];
            let length = path_length(rest);
            if length > 0 {
                let path = rest[..length].to_owned();
                paths.push(PathUse { path, at });
            }
            at += length.max(rest.chars().next().map_or(1, char::len_utf8));
        }
        paths
    }

    /// The files of modules that are compiled for tests only: `tests` for `mod tests;`, or
    /// what `#[path]` names.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let declared = self.tests.iter().filter_map(|item| {
            let code = &self.code[item.clone()];
            let name = code.strip_suffix(';')?.rsplit_once("mod ")?.1.trim();
            let attribute = code
                .find("path")
                .map(|at| &self.original[item.clone()][at..]);
            let named = attribute.and_then(|text| text.split('"').nth(1));
            Some(
                named
                    .map_or(name, |file| file.trim_end_matches(".rs"))
                    .to_owned(),
            )
        });
        declared.collect()
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of the path or name that `text` begins with; 0 where it begins with neither.
fn path_length(text: &str) -> usize {
    let name = |text: &str| text.find(|next| !is_name(next)).unwrap_or(text.len());
    let mut length = name(text);
    while length > 0 && text[length..].starts_with("::") {
        match name(&text[length + 2..]) {
            0 => break,
            more => length += 2 + more,
        }
    }
    length
}

/// Takes the tree of a `use` item apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, prefix: &str, at: usize, paths: &mut Vec<PathUse>) {
    let mut depth = 0_usize;
    let mut start = 0;
    for (position, character) in tree.char_indices().chain([(tree.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branch(&tree[start..position], prefix, at + start, paths);
                start = position + 1;
            }
            _ => {}
        }
    }
}

fn branch(text: &str, prefix: &str, at: usize, paths: &mut Vec<PathUse>) {
    let at = at + (text.len() - text.trim_start().len());
    let text = text.trim();
    match text.split_once('{') {
        Some((front, rest)) => {
            let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
            let front = format!("{prefix}{}", front.trim());
            expand(inside, &front, at + text.len() - rest.len(), paths);
        }
        None if text.is_empty() => {}
        None => {
            let path = text.split_whitespace().next().unwrap_or_default();
            let path = format!("{prefix}{path}");
            paths.push(PathUse { path, at });
        }
    }
}

/// The items under `#[cfg(test)]`, from the attribute to their end.
fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    let attributes = code.match_indices("#[cfg(test)]");
    attributes
        .map(|(start, attribute)| {
            let mut end = start + attribute.len();
            // Further attributes belong to the same item.
            while code[end..].trim_start().starts_with("#[") {
                end += code[end..].find(']').map_or(1, |at| at + 1);
            }
            start..item_end(code, end)
        })
        .collect()
}

/// Where the item that begins at `start` ends: at its semicolon, or with its braces.
fn item_end(code: &str, start: usize) -> usize {
    let is_use = code[start..].trim_start().starts_with("use ");
    let mut depth = 0_usize;
    for (position, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if byte == b'}' && depth == 0 && !is_use {
                    return position + 1;
                }
            }
            b';' if depth == 0 => return position + 1,
            _ => {}
        }
    }
    code.len()
}

/// `text` with spaces for the bytes of comments, and of string and character literals.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let part_of_name = code.ends_with(is_name);
        let length = literal_length(rest, part_of_name);
        if length > 0 {
            for byte in rest[..length].bytes() {
                code.push(if byte == b'\n' { '\n' } else { ' ' });
            }
            at += length;
        } else {
            let next = rest.chars().next().unwrap_or(' ');
            code.push(next);
            at += next.len_utf8();
        }
    }
    code
}

/// The length of the comment or literal that `text` begins with; 0 where it begins with none.
fn literal_length(text: &str, part_of_name: bool) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if text.starts_with('"') {
        return quoted_length(text, '"');
    }
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r'));
    if let (Some(raw), false) = (raw, part_of_name) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let opened = text.len() - raw.len() + hashes + 1;
            return text[opened..]
                .find(&end)
                .map_or(text.len(), |at| opened + at + end.len());
        }
    }
    // A character, and not a lifetime: the quote closes after one character or an escape.
    if let Some(inside) = text.strip_prefix('\'') {
        let first = inside.chars().next().map_or(0, char::len_utf8);
        if inside.starts_with('\\') || inside[first..].starts_with('\'') {
            return quoted_length(text, '\'');
        }
    }
    0
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return position + 1,
            _ => {}
        }
    }
    text.len()
}
