//! "Did you mean": the known word that a mistyped one comes nearest to.

/// The known word nearest to `text`, when it is near enough to be meant: by a few letters, or
/// as the only one that begins with it (`password` for `password_file`).
pub(super) fn nearest<'a>(
    text: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    by_letters(text, known.clone()).or_else(|| {
        let mut longer = known.into_iter().filter(|word| {
            word.strip_prefix(text)
                .is_some_and(|rest| rest.starts_with('_'))
        });
        longer.next().filter(|_| longer.next().is_none())
    })
}

fn by_letters<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: Vec<char> = folded(text);
    // Longer than any word we know: not a slip of the finger, and not worth comparing.
    if text.is_empty() || text.len() > 128 {
        return None;
    }
    let allowed = (text.len() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(&text, &folded(word)), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The known URL that `text` is the beginning of, or is but for a letter or two.
pub(super) fn slip<'a>(
    text: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    const LETTERS_MAX: usize = 2;
    let begins = |word: &&str| {
        let rest = word.strip_prefix(text.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let letters: Vec<char> = text.chars().take(128).collect();
    let near = |word: &&str| distance(&letters, &word.chars().collect::<Vec<_>>()) <= LETTERS_MAX;
    let found = known.clone().into_iter().find(begins);
    found.or_else(|| known.into_iter().find(near))
}

/// Case and word separators are what people mix up most: `sourceRepositoryURI`.
fn folded(text: &str) -> Vec<char> {
    text.chars()
        .filter(|character| !matches!(character, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour
/// (optimal string alignment).
fn distance(one: &[char], two: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=two.len()).collect();
    for row in 1..=one.len() {
        let mut current = vec![row; two.len() + 1];
        for column in 1..=two.len() {
            let changed = usize::from(one[row - 1] != two[column - 1]);
            let mut least = (above[column - 1] + changed)
                .min(above[column] + 1)
                .min(current[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && one[row - 1] == two[column - 2]
                && one[row - 2] == two[column - 1];
            if swapped {
                least = least.min(before[column - 2] + 1);
            }
            current[column] = least;
        }
        before = std::mem::replace(&mut above, current);
    }
    above[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = [
            "upstreams",
            "policies",
            "trust_roots",
            "source_repository_uri",
        ];
        assert_eq!(nearest("upstream", known), Some("upstreams"));
        assert_eq!(nearest("polcies", known), Some("policies"));
        assert_eq!(nearest("poliices", known), Some("policies"));
        assert_eq!(nearest("trustRoots", known), Some("trust_roots"));
        assert_eq!(
            nearest("sourceRepositoryURI", known),
            Some("source_repository_uri")
        );
        assert_eq!(nearest("trust", known), Some("trust_roots"));
        assert_eq!(nearest("disk", ["disk_bytes", "disk_files"]), None);
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
