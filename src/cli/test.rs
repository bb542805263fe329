//! `pullgate test`: judges written or recorded facts by the policy, and compares the verdict
//! with the one that is expected.

use std::{path::PathBuf, process::ExitCode};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::config;
use crate::config::Case;
use crate::policy::DefaultRule;
use crate::policy::Judgement;
use crate::policy::Question;
use crate::policy::Reason;
use crate::policy::Rules;
use crate::policy::judge;

/// Arguments of `pullgate test`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file of tests, or a folder of them.
    path: PathBuf,
    /// The configuration file, whose policies are tested.
    #[arg(long)]
    pub(super) config: PathBuf,
}

pub(super) fn run(arguments: &Arguments, settings: &config::Settings, clock: &Clock) -> ExitCode {
    let cases = match config::load_cases(&arguments.path, settings, &crate::app::checks()) {
        Ok(cases) => cases,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for case in &cases {
        let judgement = judged(
            &settings.rules,
            case,
            case.now.unwrap_or_else(|| clock.now()),
        );
        match difference(case, &judgement) {
            None => println!("ok    {}", case.name),
            Some(difference) => {
                failed += 1;
                let place = format!("{}:{}", case.file.display(), case.line);
                println!("FAIL  {} ({place})\n      {difference}", case.name);
                print!("{}", explained(&judgement));
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The gate's judgement of the facts: what is asked of the network there, the test says.
fn judged(rules: &Rules, case: &Case, now: Timestamp) -> Judgement {
    let policies = rules.matching(&case.image, &case.reference);
    let question = Question {
        image: &case.image,
        now,
    };
    let mut judgement = judge(&policies, &case.subject, &question);
    if judgement.reason == Reason::NoPolicy && rules.default == DefaultRule::UnsafeAllow {
        judgement.reason = Reason::Admitted;
    }
    judgement
}

/// What is not as expected, if anything.
fn difference(case: &Case, judgement: &Judgement) -> Option<String> {
    let refused_by = judgement.refusal().map(|(outcome, _)| &*outcome.policy);
    let got = match refused_by {
        Some(policy) => format!("{} by policy {policy:?}", judgement.reason.as_str()),
        None => judgement.reason.as_str().to_owned(),
    };
    let as_expected = match case.expected.reason {
        Some(reason) => judgement.reason == reason,
        None => !judgement.is_admitted(),
    };
    let by = case.expected.policy.as_deref();
    if as_expected && (by.is_none() || by == refused_by) {
        return None;
    }
    let word = case.expected.reason.map_or("denied", Reason::as_str);
    let expected = match by {
        Some(policy) => format!("{word} by policy {policy:?}"),
        None => word.to_owned(),
    };
    Some(format!(
        "expected {expected}, got {got} for {}",
        case.image.with(&case.reference)
    ))
}

fn explained(judgement: &Judgement) -> String {
    let mut text = String::new();
    for outcome in &judgement.policies {
        let (name, mode) = (&outcome.policy, outcome.mode.as_str());
        match &outcome.shortfall {
            None => text.push_str(&format!("      policy {name:?} ({mode}): passes\n")),
            Some(shortfall) => text.push_str(&format!(
                "      policy {name:?} ({mode}): does not pass [{}]\n        found:    {}\n        \
                 expected: {}\n        to do:    {}\n",
                shortfall.reason.as_str(),
                shortfall.found,
                shortfall.expected,
                shortfall.remedy,
            )),
        }
    }
    text
}
