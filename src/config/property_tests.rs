//! Files and units, as any text.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::docker_config;
use super::pem;
use super::problem::{Problem, Problems, Sheet};
use super::tests::{loaded, loading_cases};
use super::units;
use super::yaml;

const EXAMPLE: &str = "listen: 127.0.0.1:5000\nupstreams:\n  docker.io: {}\n  \"r.test:5000\": { \
                       url: 'https://r.test:5000', credentials: { username: a } }\npolicies: \
                       [policies.yaml, 'others/*.yaml']\nlimits:\n  manifest_bytes_max: 4MiB\n";

fn read(text: &str) -> Option<usize> {
    let problems = Problems::default();
    let sheet = Sheet {
        file: Path::new("pullgate.yaml"),
        problems: &problems,
    };
    yaml::parse(text, &sheet).map(|documents| documents.len())
}

/// The files of the cases that load: every kind of document, ours and other engines'.
static CASES: LazyLock<Vec<Vec<(String, String)>>> = LazyLock::new(loading_cases);

/// The same text with a line removed, doubled, or with other characters in it.
fn edited(text: &str, line: prop::sample::Index, column: prop::sample::Index, how: u8) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = line
        .index(lines.len().max(1))
        .min(lines.len().saturating_sub(1));
    let Some(line) = lines.get_mut(at) else {
        return text.to_owned();
    };
    let column = column.index(line.len() + 1);
    let column = (0..=column).rev().find(|at| line.is_char_boundary(*at));
    let column = column.unwrap_or_default();
    const INSTEAD: [&str; 12] = [
        "",
        "*",
        "\"",
        "{",
        "[",
        ": ",
        "- ",
        "0",
        "-1",
        "null",
        "\u{0}",
        "\u{feff}ä",
    ];
    match how {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => line.truncate(column),
        how => line.insert_str(column, INSTEAD[usize::from(how) % INSTEAD.len()]),
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn an_edited_document_loads_or_says_why(
        case: prop::sample::Index, file: prop::sample::Index,
        line: prop::sample::Index, column: prop::sample::Index, how: u8,
    ) {
        let mut files = case.get(&CASES).clone();
        let (_, text) = file.get_mut(&mut files);
        *text = edited(text, line, column, how);
        let (_folder, result) = loaded(&files);
        if let Err(problems) = result {
            prop_assert!(problems.iter().any(Problem::is_error));
            for problem in problems {
                prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_login_of_dockers_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        auth in "[A-Za-z0-9+/=]{0,24}",
        name in "(https://)?(r\\.test|index\\.docker\\.io|docker\\.io)(/v[12]/)?",
    ) {
        let file = format!(r#"{{"auths":{{"{name}":{{"auth":"{auth}"}}}},"credsStore":null}}"#);
        for host in ["r.test", "docker.io"] {
            let host = host.parse().expect("a host");
            for json in [&bytes[..], file.as_bytes()] {
                let _ = docker_config::credentials(json, &host, &["pass".to_owned()]);
            }
        }
    }

    #[test]
    fn any_text_is_yaml_or_not(text in "\\PC{0,200}", lines in "([ a-z&*:|>\\-\\[\\]{}#'\"!%]{0,8}\n){0,12}") {
        let _ = read(&text);
        let _ = read(&lines);
    }

    #[test]
    fn an_edited_file_is_yaml_or_not(place in 0..EXAMPLE.len(), instead in "[ -~\n\t]{0,3}", length in 0usize..4) {
        let end = (place + length).min(EXAMPLE.len());
        let text = [&EXAMPLE[..place], &instead, &EXAMPLE[end..]].concat();
        let _ = read(&text);
    }

    #[test]
    fn any_unit_is_one_or_not(text in "\\PC{0,24}", like in "[0-9]{0,22}[a-zA-Z]{0,4}[0-9]{0,3}[a-z]{0,3}", date in "[0-9T:Z+.-]{0,24}") {
        for text in [text, like, date] {
            let _ = units::bytes(&text);
            let _ = units::duration(&text);
            let _ = units::end(&text);
        }
    }

    #[test]
    fn sizes_are_read_as_they_were_written(number in 0u64..1 << 20, unit in 0usize..4) {
        let (name, factor) = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)][unit];
        prop_assert_eq!(units::bytes(&format!("{number}{name}")).ok(), Some(number * factor));
    }

    #[test]
    fn durations_are_read_as_they_were_written(hours in 1u64..24, minutes in 1u64..60, seconds in 1u64..60) {
        let read = units::duration(&format!("{hours}h{minutes}m{seconds}s")).ok();
        let expected = std::time::Duration::from_secs(hours * 3600 + minutes * 60 + seconds);
        prop_assert_eq!(read, Some(expected));
    }

    #[test]
    fn any_text_has_pem_in_it_or_not(text in "\\PC{0,80}", like in "(-----(BEGIN|END) [A-Z ]{0,12}-----\n?|[A-Za-z0-9+/=\n]{0,20}){0,6}") {
        let _ = pem::blocks(&text);
        let _ = pem::blocks(&like);
        let _ = (pem::public_key(&text), pem::public_key(&like));
        let _ = pem::has_private_key(like.as_bytes());
        let _ = pem::has_certificates(like.as_bytes());
    }
}
