//! The reference and the examples are held against what the reader does.

use std::collections::BTreeMap;
use std::path::Path;

use super::limits::Limits;
use super::schema;
use super::tests::{CHECKS, now};
use super::*;

const REFERENCE: &str = include_str!("../../docs/CONFIGURATION.md");

/// The tables of the reference: section, key and the cells after it.
fn tables() -> BTreeMap<&'static str, BTreeMap<&'static str, Vec<&'static str>>> {
    let mut tables: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    let mut section = None;
    let mut keys = false;
    for line in REFERENCE.lines() {
        if line.starts_with('#') {
            section = line
                .strip_prefix("### `")
                .and_then(|line| line.strip_suffix('`'));
            tables.extend(section.map(|section| (section, BTreeMap::new())));
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let key = cells.get(1).copied().unwrap_or_default();
        if !line.starts_with('|') || key == "key" {
            keys = key == "key";
        }
        let key = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'));
        if let (true, Some(section), Some(key)) = (keys, section, key) {
            let table = tables.get_mut(section).expect("the section's own table");
            assert!(
                table.insert(key, cells[2..].to_vec()).is_none(),
                "{key} stands twice"
            );
        }
    }
    tables
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let tables = tables();
    let headings: Vec<&str> = tables.keys().copied().collect();
    let all = || schema::ALL.iter().chain(schema::CASES);
    let mut sections: Vec<&str> = all().map(|section| section.name).collect();
    sections.sort_unstable();
    assert_eq!(headings, sections);
    for section in all() {
        let mut known = section.keys.to_vec();
        known.sort_unstable();
        let written: Vec<&str> = tables[section.name].keys().copied().collect();
        assert_eq!(written, known, "{}", section.name);
        for later in section.later {
            let absent = REFERENCE
                .split("## Not in this version")
                .nth(1)
                .expect("the chapter");
            assert!(absent.contains(later.key), "{} is not told of", later.key);
        }
    }
}

#[test]
fn the_reference_has_the_defaults() {
    let tables = tables();
    let default = |section: &str, key: &str| tables[section][key][1].trim_matches('`').to_owned();
    for (key, value) in Limits::default().written() {
        assert_eq!(default("limits", key), value, "{key}");
    }
    let cache = CacheSettings::default();
    let size = |key| units::bytes(&default("cache", key)).expect("a size");
    let time = |key| units::duration(&default("cache", key)).expect("a duration");
    assert_eq!(size("disk_bytes_max"), cache.disk_bytes_max);
    assert_eq!(size("memory_bytes_max"), cache.memory_bytes_max);
    assert_eq!(time("facts_ttl"), cache.facts_ttl);
    assert_eq!(time("unsigned_ttl"), cache.unsigned_ttl);
    assert_eq!(time("tag_ttl"), cache.tag_ttl);
    assert_eq!(time("stale_ttl"), cache.stale_ttl);
}

#[test]
fn the_reference_has_every_issuer() {
    for (name, url) in signers::ISSUERS {
        let row = REFERENCE
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}`")) && line.contains(url));
        assert!(row.is_some(), "{name}");
    }
}

#[test]
fn the_example_holds_without_a_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pullgate.yaml");
    let loaded = load(&path, &CHECKS, now()).unwrap_or_else(|problems| {
        panic!("{}", tests::printed(&problems, Path::new("/")));
    });
    assert_eq!(loaded.warnings, Vec::new());
    let rules = &loaded.settings.rules;
    let names: Vec<&str> = rules.policies.iter().map(|policy| &*policy.name).collect();
    assert_eq!(
        names,
        [
            "compage",
            "blessed-by-hand",
            "never",
            "sandbox",
            "moving-to-signatures",
            "acme-pipelines",
            "hand-made-needs-two",
            "platform",
            "production",
            "releases",
        ]
    );
    assert_eq!(
        loaded.settings.cache.directory.as_deref(),
        Some(Path::new("/var/lib/pullgate"))
    );
    assert_eq!(loaded.settings.limits, Limits::default());
}
