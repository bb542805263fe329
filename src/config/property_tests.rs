//! Files and units, as any text.

use std::path::Path;

use proptest::prelude::*;

use super::pem;
use super::problem::{Problems, Sheet};
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

proptest! {
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
        let _ = pem::has_certificates(like.as_bytes());
    }
}
