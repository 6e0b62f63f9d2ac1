//! Builds the programs that the kernel runs for us, by clang.
//!
//! They fit any kernel with type information (CO-RE), so the one object is embedded in the binary
//! and nothing is compiled where the daemon runs.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SOURCE: &str = "src/evidence/bpf/rounding.bpf.c";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let Some(directory) = std::env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set: this is run by cargo");
        return ExitCode::FAILURE;
    };
    let object = PathBuf::from(directory).join("rounding.bpf.o");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    // -g is for the type information; without it nothing could be relocated.
    let built = Command::new(&clang)
        .args([
            "-target", "bpf", "-mcpu=v2", "-O2", "-g", "-Wall", "-Werror", "-c",
        ])
        .arg(SOURCE)
        .arg("-o")
        .arg(&object)
        .status();
    match built {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            println!("cargo::error={clang} could not build {SOURCE} ({status})");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!(
                "cargo::error={clang} cannot be run ({error}): install clang, or set CLANG to it"
            );
            ExitCode::FAILURE
        }
    }
}
