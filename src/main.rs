//! The `pullgate` binary. Everything it does lives in the library; this file only turns a
//! result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pullgate::cli::run()
}
