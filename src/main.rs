//! The `pullgate` binary. Everything it does lives in the library; this file only turns a
//! result into an exit code.

use std::process::ExitCode;

/// A pull is some dozens of small allocations, and the allocator of a static build is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pullgate::cli::run()
}
