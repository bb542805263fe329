//! What it costs to find the policies for an image among many, beside trying every pattern:
//! `cargo bench --bench matching`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the bench, with its reason"
)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};

use pullgate::oci::{ImageName, Reference};
use pullgate::policy::{Glob, Index, Mode, Policy, Requirement, Rules, Signs};

const POLICIES: usize = 1_000;
const PATTERNS_EACH: usize = 10;

/// A thousand teams in a few registries, each with ten patterns of the kinds that people write.
fn rules() -> Rules {
    let policy = |team: usize| {
        let patterns = (0..PATTERNS_EACH).map(|app| {
            let text = match app {
                0 => format!("registry-{}.acme.test/team-{team}/**", team % 7),
                1 => format!("ghcr.io/acme/team-{team}-*"),
                2 => format!("docker.io/library/base-{team}"),
                _ => format!("registry-{}.acme.test/team-{team}/app-{app}/*", team % 7),
            };
            Glob::new(&text).expect("a pattern")
        });
        Arc::new(Policy {
            name: format!("team-{team}").into(),
            images: patterns.collect(),
            except: Vec::new(),
            mode: Mode::Enforce,
            requirement: Requirement::Deny {
                reason: "bench".to_owned(),
            },
            signs: Signs::Either,
            pulled_by: None,
            no_rollback: None,
        })
    };
    Rules {
        policies: (0..POLICIES).map(policy).collect(),
        ..Rules::default()
    }
}

fn matching(criterion: &mut Criterion) {
    let rules = rules();
    let index = Index::new(&rules);
    let reference: Reference = "v1".parse().expect("a tag");
    for (what, registry, repository) in [
        ("own", "registry-2.acme.test", "team-975/app-7/server"),
        ("crowded", "ghcr.io", "acme/team-975-server"),
        ("none", "quay.io", "somebody/else/entirely"),
    ] {
        let image = ImageName {
            registry: registry.parse().expect("a host"),
            repository: repository.parse().expect("a repository"),
        };
        let found = index.matching(&image, &reference);
        assert_eq!(found, rules.matching(&image, &reference), "{what}");
        assert_eq!(found.is_empty(), what == "none", "{what}");
        let mut group = criterion.benchmark_group(what);
        group.bench_function("index", |bencher| {
            bencher.iter(|| black_box(index.matching(black_box(&image), &reference)));
        });
        group.bench_function("every pattern", |bencher| {
            bencher.iter(|| black_box(rules.matching(black_box(&image), &reference)));
        });
        group.finish();
    }
}

criterion_group!(benches, matching);
criterion_main!(benches);
