//! Builds the programs that the kernel runs for us, by clang.
//!
//! They fit any kernel with type information (CO-RE), so the one object is embedded in the binary
//! and nothing is compiled where the daemon runs.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const DIRECTORY: &str = "src/bpf";
const PROGRAMS: [&str; 3] = ["rounding", "starts", "stratum"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={DIRECTORY}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let Some(directory) = std::env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set: this is run by cargo");
        return ExitCode::FAILURE;
    };
    let directory = PathBuf::from(directory);
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    for program in PROGRAMS {
        let source = format!("{DIRECTORY}/{program}.bpf.c");
        let object = directory.join(format!("{program}.bpf.o"));
        // -g is for the type information; without it nothing could be relocated.
        let built = Command::new(&clang)
            .args([
                "-target", "bpf", "-mcpu=v2", "-O2", "-g", "-Wall", "-Werror", "-c",
            ])
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .status();
        match built {
            Ok(status) if status.success() => {}
            Ok(status) => {
                println!("cargo::error={clang} could not build {source} ({status})");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                println!(
                    "cargo::error={clang} cannot be run ({error}): install clang, or set CLANG \
                     to it"
                );
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
