//! The command line: arguments in, exit codes out.

mod check;
#[cfg(feature = "sandbox")]
mod demo;
mod kubelet;
mod puller;
mod record;
mod runtime_config;
mod test;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::app;
use crate::app::LogFormat;
use crate::clock::Clock;
use crate::config;

/// Bad arguments or configuration (sysexits.h, EX_USAGE).
const BAD_CONFIGURATION: u8 = 64;

/// A verifying, caching reverse proxy for OCI registries: nothing leaves that policy does not
/// vouch for.
#[derive(Debug, Parser)]
#[command(name = "pullgate", version, about)]
struct Arguments {
    /// The form of log lines on stderr; PULLGATE_LOG filters them.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gate until SIGTERM; SIGHUP reloads policies and trust roots.
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Reads configuration, policies, keys and trust roots, and prints every problem.
    Check(check::Arguments),
    /// Judges one image as the gate would, and explains.
    Verify(verify::Arguments),
    /// Runs policy tests: written or recorded facts in, the expected verdict out.
    Test(test::Arguments),
    /// Prints a JSON Schema of a kind of file, for editors.
    Schema {
        /// Of which.
        #[arg(value_enum)]
        of: Described,
    },
    /// Answers the kubelet with the pod's own token (credential provider API, on stdin and stdout).
    KubeletCredentialProvider,
    /// Prints client configuration that leaves no way around the gate.
    RuntimeConfig(runtime_config::Arguments),
    /// Shows the gate at work on embedded parts: no network, nothing to install.
    #[cfg(feature = "sandbox")]
    Demo(demo::Arguments),
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Described {
    /// The configuration file.
    Config,
    /// A policy file.
    Policy,
}

/// Runs the program on the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap and none to people.
            let code = if error.use_stderr() {
                BAD_CONFIGURATION
            } else {
                0
            };
            // If even that cannot be written there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match execute(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pullgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    let format = arguments.log_format;
    match arguments.command {
        Command::Serve { config } => {
            let loaded = match load(&config, &clock) {
                Ok(loaded) => loaded,
                Err(code) => return Ok(code),
            };
            app::start_logging(format)?;
            app::runtime()?.block_on(app::serve(config, loaded, clock))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(arguments) => Ok(match load(&arguments.config, &clock) {
            Ok(loaded) => check::run(&arguments, &loaded),
            Err(code) => code,
        }),
        Command::Verify(arguments) => match load(&arguments.config, &clock) {
            Ok(loaded) => Ok(verify::run(&arguments, loaded.settings, &clock)),
            Err(code) => Ok(code),
        },
        Command::Test(arguments) => Ok(match load(&arguments.config, &clock) {
            Ok(loaded) => test::run(&arguments, &loaded.settings, &clock),
            Err(code) => code,
        }),
        Command::Schema { of } => {
            let of = match of {
                Described::Config => config::Described::Configuration,
                Described::Policy => config::Described::Policies,
            };
            println!("{:#}", config::json_schema(of));
            Ok(ExitCode::SUCCESS)
        }
        Command::KubeletCredentialProvider => Ok(kubelet::run(&clock)),
        Command::RuntimeConfig(arguments) => Ok(match load(&arguments.config, &clock) {
            Ok(loaded) => runtime_config::run(&arguments, &loaded.settings),
            Err(code) => code,
        }),
        #[cfg(feature = "sandbox")]
        Command::Demo(arguments) => app::runtime()?.block_on(demo::run(&arguments)),
    }
}

/// Reads the configuration, or prints every problem of it.
fn load(path: &std::path::Path, clock: &Clock) -> Result<config::Loaded, ExitCode> {
    match config::load(path, &app::checks(), clock.now()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            Ok(loaded)
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            Err(ExitCode::from(BAD_CONFIGURATION))
        }
    }
}
