use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::verify::Identity;

const PREDICATE: &str = r#"{
  "runDetails": {"builder": {"id": "https://github.com/acme/builder@v1"},
                 "finishedOn": "2026-06-01T11:00:00Z"},
  "packages": [{"name": "a", "licenses": ["MIT"], "score": 1},
               {"name": "b", "licenses": ["MIT", "GPL-3.0"], "score": 7.5},
               {"name": "c", "licenses": []}],
  "count": 3, "empty": {}, "nothing": null, "yes": true
}"#;

fn answer_of(text: &str, steps_max: usize) -> Result<(), String> {
    let condition =
        Condition::new(text, steps_max).unwrap_or_else(|error| panic!("{text}: {error}"));
    condition.answer_about(PREDICATE)
}

impl Condition {
    /// Its answer about an attestation that says this, for tests elsewhere as well.
    pub(crate) fn answer_about(&self, predicate: &str) -> Result<(), String> {
        about(self, predicate)
    }
}

fn about(condition: &Condition, predicate: &str) -> Result<(), String> {
    let signer = Signer::Identity(Arc::new(Identity {
        issuer: "https://issuer.test".to_owned(),
        subject: "alice@acme.test".to_owned(),
        claims: BTreeMap::from([("build_trigger", "push".to_owned())]),
    }));
    let digest = Digest::sha256(b"image");
    condition.holds(&Scope {
        subject: r#"[{"name": "app", "digest": {"sha256": "00"}}]"#,
        predicate,
        signer: &signer,
        image: &ImageName {
            registry: "registry.acme.test".parse().expect("a host"),
            repository: "team/app".parse().expect("a repository"),
        },
        digest: &digest,
        now: "2026-06-01T12:00:00.5Z".parse().expect("a time"),
    })
}

fn answer(text: &str) -> Result<(), String> {
    answer_of(text, CONDITION_STEPS_MAX)
}

#[test]
fn what_holds() {
    for text in [
        r#"predicate.runDetails.builder.id.startsWith("https://github.com/acme/")"#,
        r#"predicate["runDetails"]["builder"]["id"].endsWith("@v1")"#,
        "predicate.packages.all(p, p.licenses.all(l, l in ['MIT', 'GPL-3.0']))",
        "predicate.packages.exists(p, p.name == 'b' && p.score > 7)",
        "predicate.packages.exists_one(p, size(p.licenses) == 0)",
        "predicate.packages.map(p, p.name) == ['a', 'b', 'c']",
        "predicate.packages.map(p, has(p.score), p.score) == [1, 7.5]",
        "predicate.packages.filter(p, has(p.score)).size() == 2",
        "size(predicate.packages) == predicate.count",
        "!has(predicate.absent) && has(predicate.empty) && has(predicate.nothing)",
        "predicate.nothing == null && predicate.yes",
        "predicate.absent.field == 1 || true",
        "!(predicate.absent.field == 1 && false)",
        "predicate.packages.exists(p, p.score == 7.5)",
        "now - timestamp(predicate.runDetails.finishedOn) < duration('2h')",
        "now == timestamp('2026-06-01T12:00:00Z')",
        "now + duration('1h30m') > timestamp('2026-06-01T13:29:59Z')",
        "image.name == 'registry.acme.test/team/app' && image.repository == 'team/app'",
        "image.digest.startsWith('sha256:')",
        "signer.subject == 'alice@acme.test' && signer.claims.build_trigger == 'push'",
        "subject.exists(s, s.name == 'app' && s.digest.sha256 == '00')",
        "predicate.runDetails.builder.id.matches('^https://github[.]com/[a-z]+/')",
        "predicate.empty.all(k, false) && 'yes' in predicate",
        "1 < 1.5 && 2 > 1.5 && 1 == 1.0 && 7 % 2 == 1 && -3 / 2 == -1",
        "'A'.lowerAscii() == 'a' && string(3) + 'x' == '3x' && int('4') == 4",
        "(predicate.count > 2 ? 'many' : 'few') == 'many'",
        "9007199254740993 > 9007199254740992.0",
        "type(predicate.packages) == list && type(predicate.count) == int",
        "type(predicate.empty) == map && type(predicate.nothing) == null_type",
        "type(predicate.packages) != string && type(predicate.count) == type(predicate.count)",
    ] {
        assert_eq!(answer(text), Ok(()), "{text}");
    }
}

#[test]
fn what_does_not_hold_says_why() {
    for (text, why) in [
        ("predicate.count == 4", "`predicate.count` is 3"),
        (
            "predicate.runDetails.builder.version.go == '1'",
            "`predicate.runDetails.builder.version` is not there",
        ),
        (
            "predicate.packages[5].name == 'a'",
            "`predicate.packages[5]` is not there",
        ),
        (
            "predicate.packages.all(p, p.score > 0)",
            "`p.score` is not there",
        ),
        ("signer.key == 'sha256:00'", "`signer.key` is not there"),
        (
            "predicate.count.x == 1",
            "`predicate.count` is a whole number, and not a map",
        ),
        (
            "predicate.count",
            "`predicate.count` is a whole number, and not a truth value",
        ),
        (
            "predicate.yes < 3",
            "`predicate.yes` is a truth value, and cannot be compared with `...`, which is a whole number",
        ),
        (
            "predicate.count / 0 == 1",
            "a number, time or duration is out of range, or divided by zero",
        ),
        (
            "timestamp(predicate.runDetails.builder.id) < now",
            "`predicate.runDetails.builder.id` is not a time like 2026-12-31T18:00:00Z",
        ),
    ] {
        assert_eq!(answer(text), Err(why.to_owned()), "{text}");
    }
}

#[test]
fn what_can_be_known_to_be_wrong_is_an_error_at_load() {
    for (text, why) in [
        ("", "it is not CEL"),
        ("predicate.", "it is not CEL"),
        ("predicat.x == 1", "there is no variable `predicat`"),
        ("predicate.x.all(p, q)", "there is no variable `q`"),
        ("predicate.all(p, p) && p", "there is no variable `p`"),
        (
            "predicate.x.startWith('a')",
            "there is no function `startWith`",
        ),
        ("getenv('x') == ''", "there is no function `getenv`"),
        ("size()", "`size` takes one argument"),
        ("predicate.x.startsWith()", "`startsWith` takes"),
        ("predicate.x.all(p)", "`all` takes a variable"),
        ("image.tag == 'x'", "`image` has no such field"),
        ("signer.email == 'x'", "`signer` has no such field"),
        (
            "now < '2026-01-01'",
            "a timestamp cannot be compared with a text",
        ),
        ("size(predicate) == 'x' && 1", "`&&` wants a truth value"),
        ("size(predicate.x)", "it yields a whole number"),
        (
            "now.year == 2026",
            "`now` is a timestamp, and has no fields",
        ),
        (
            "timestamp('yesterday') < now",
            "\"yesterday\" is no timestamp",
        ),
        (
            "predicate.x.matches(predicate.y)",
            "a regular expression that is computed",
        ),
        (
            "predicate.x.matches('(')",
            "`matches` wants a regular expression",
        ),
        ("type(predicate.x) == 'list'", "a type can only be compared"),
        ("predicate.x == list", "a type can only be compared"),
        ("type(predicate.x) < list", "a type cannot be compared"),
        ("1u == 1u", "an unsigned number"),
        ("{'a': 1}.a == 1", "a map that is written out"),
        ("predicate.?x == 1", "there is no function"),
    ] {
        let error = Condition::new(text, 1000).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let long = format!("'{}' == ''", "x".repeat(CONDITION_BYTES_MAX));
    assert_eq!(Condition::new(&long, 1000), Err(ConditionError::TooLong));
    let deep = format!("{}true", "!".repeat(3000));
    let _ = Condition::new(&deep, 1000);
    let deep = format!("{}true{}", "(".repeat(1500), ")".repeat(1500));
    assert!(Condition::new(&deep, 1000).is_err());
}

#[test]
fn an_evaluation_ends() {
    let within_itself = "predicate.packages.all(a, predicate.packages.all(b, \
                         predicate.packages.all(c, predicate.packages.all(d, d.name != 'x'))))";
    assert_eq!(answer(within_itself), Ok(()));
    let spent = answer_of(within_itself, 300).expect_err("no steps are left");
    assert!(spent.contains("300 steps"), "{spent}");
    // No side of an "or" makes up for steps that are spent.
    let spent = answer_of(&format!("({within_itself}) || true"), 300);
    assert!(spent.expect_err("no steps are left").contains("300 steps"));
    // Text that doubles with every turn costs what it is long.
    let mut doubling = "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'".to_owned();
    for turn in 0..20 {
        doubling = format!("[{doubling}].map(t{turn}, t{turn} + t{turn})[0]");
    }
    let spent = answer_of(&format!("{doubling} == ''"), 10_000).expect_err("no steps are left");
    assert!(spent.contains("10000 steps"), "{spent}");
}

#[test]
fn whether_the_time_matters_is_known() {
    let asks = |text| {
        Condition::new(text, 1000)
            .expect("compiles")
            .asks_the_time()
    };
    assert!(asks("predicate.x.all(p, p < now)"));
    assert!(!asks("predicate.now == 1"));
}

proptest! {
    #[test]
    fn no_text_crashes_the_compiler(text in "[a-z.()'&|<>=!,0-9 \\[\\]?:]{0,60}") {
        let _ = Condition::new(&text, 1000);
    }
}
