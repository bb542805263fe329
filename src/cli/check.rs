//! `pullgate check`: what is wrong with a configuration has been told when it is read; what is
//! left is to say that nothing is, or to print its policies.

use std::{path::PathBuf, process::ExitCode};

use crate::config;

/// Arguments of `pullgate check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long)]
    pub(super) config: PathBuf,
    /// Prints all policies, whatever they were read from, as one policy file in this language.
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    print: Option<Language>,
}

/// What policies can be printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// pullgate's own.
    Native,
}

pub(super) fn run(arguments: &Arguments, loaded: &config::Loaded) -> ExitCode {
    match arguments.print {
        Some(Language::Native) => print!("{}", config::native(&loaded.settings)),
        None => println!("{}", summary(arguments, loaded)),
    }
    ExitCode::SUCCESS
}

fn summary(arguments: &Arguments, loaded: &config::Loaded) -> String {
    let counted = |count: usize, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    let policies = counted(loaded.settings.rules.policies.len(), "policy", "policies");
    let warnings = match loaded.warnings.len() {
        0 => String::new(),
        some => format!(", {}", counted(some, "warning", "warnings")),
    };
    let config = arguments.config.display();
    format!("{config}: {policies}, no errors{warnings}")
}
