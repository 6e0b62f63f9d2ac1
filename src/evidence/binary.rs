//! What a process is in truth, whatever it calls itself. This corroborates and never convicts.

use super::process::{Process, ProcessError};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// A kind of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Python, with Python in it.
    Python,
    /// Calls itself python, and has no Python in it.
    NotPython,
    /// Another interpreter or runtime.
    Interpreter,
    /// Belongs to root: the system's.
    System,
    /// Of a conda environment.
    Conda,
    /// Made or brought by a user.
    Own,
    /// Its file is gone.
    Deleted,
    /// It never was in a file system.
    Memory,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Python => "python",
            Kind::NotPython => "a python without Python in it",
            Kind::Interpreter => "another interpreter",
            Kind::System => "a program of the system",
            Kind::Conda => "a program of conda",
            Kind::Own => "a program of a user's own",
            Kind::Deleted => "a deleted program",
            Kind::Memory => "a program in no file",
        })
    }
}

/// Bytes of an executable that are searched for Python.
const MOST_BYTES: u64 = 32 << 20;
/// A function that whatever runs Python must have or import.
const PYTHON: &[&[u8]] = &[b"Py_BytesMain", b"Py_Initialize", b"Py_RunMain"];
const INTERPRETERS: &[&str] = &[
    "R", "Rscript", "julia", "node", "java", "ruby", "perl", "octave", "bash", "sh",
];

/// Looks at what a process runs.
///
/// # Errors
/// It is gone, or closed to us.
pub fn look(process: &Process) -> Result<Kind, ProcessError> {
    let link = process.directory().join("exe");
    let failed = |source| ProcessError {
        path: link.clone(),
        source,
    };
    let target = std::fs::read_link(&link).map_err(failed)?;
    let file = std::fs::metadata(&link).map_err(failed)?;
    let text = target.as_os_str().as_bytes();
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let first = process.read("cmdline", 4096)?;
    let first = first.split(|byte| *byte == 0).next().unwrap_or_default();
    let called = first.rsplit(|byte| *byte == b'/').next().unwrap_or(first);
    if (called.starts_with(b"python") || name.starts_with("python")) && file.uid() != 0 {
        return Ok(match has_python(process)? {
            true => Kind::Python,
            false => Kind::NotPython,
        });
    }
    Ok(if text.starts_with(b"/memfd:") {
        Kind::Memory
    } else if file.nlink() == 0 {
        Kind::Deleted
    } else if name.starts_with("python") {
        Kind::Python
    } else if INTERPRETERS.contains(&&*name) {
        Kind::Interpreter
    } else if text
        .windows(7)
        .any(|part| part == b"/conda/" || part == b"conda3/")
    {
        Kind::Conda
    } else if file.uid() == 0 {
        Kind::System
    } else {
        Kind::Own
    })
}

fn has_python(process: &Process) -> Result<bool, ProcessError> {
    let maps = process.read("maps", 4 << 20)?;
    if contains(&maps, b"/libpython") {
        return Ok(true);
    }
    let mut bytes = Vec::new();
    let read = process
        .open("exe")?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes);
    // In doubt it is what it says: this only corroborates.
    Ok(read.is_err() || PYTHON.iter().any(|word| contains(&bytes, word)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    aho_corasick::AhoCorasick::new([word]).is_ok_and(|search| search.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[test]
    fn a_program_of_the_systems_is_that_and_a_renamed_one_is_found_out() {
        let mut sleep = std::process::Command::new("sleep")
            .arg("9")
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let kind = look(&Process::new(sleep.id())).unwrap();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert_eq!(kind, Kind::System);

        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("sleep");
        std::fs::copy("/bin/sleep", &copy).unwrap();
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        nix::unistd::chown(&copy, Some(1000.into()), None).unwrap();
        let mut sleep = std::process::Command::new(&copy)
            .arg0("python")
            .arg("9")
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let kind = look(&Process::new(sleep.id())).unwrap();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert_eq!(kind, Kind::NotPython);
    }
}
