//! Arguments in, exit code out.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    hubwarden::cli::main(hubwarden::cli::Arguments::parse())
}
