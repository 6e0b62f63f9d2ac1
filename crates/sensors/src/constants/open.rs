//! Whether other processes' memory is open to us here.

use crate::process::{Process, ProcessError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why memory cannot be searched here: another process's is closed to us.
#[derive(Debug, thiserror::Error)]
#[error(
    "processes' memory cannot be read (CAP_SYS_PTRACE is needed, and kernel.yama.ptrace_scope below \
     3): {0}"
)]
pub struct BlindError(#[from] ProcessError);

/// Proves that memory of another's process can be read here.
///
/// # Errors
/// The kernel refuses that.
pub fn try_out() -> Result<(), BlindError> {
    Ok(readable(&others(Path::new("/proc")))?)
}

/// Processes that are not ours and have a program, and whether each is another user's.
fn others(proc: &Path) -> Vec<(bool, Process)> {
    let me = std::process::id();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != me)
        .map(Process::new)
        // A kernel thread has no memory to be closed. What may not be looked at has a program.
        .filter(|process| {
            let program = std::fs::read_link(process.directory().join("exe"));
            !program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
        .filter_map(|process| {
            let owner = std::fs::metadata(process.directory()).ok()?.uid();
            Some((owner != 0, process))
        })
        .collect()
}

/// Whether memory can be read: any user's decides; where only root's processes run, one of them
/// does. Not the first process alone: some machines close that one to everybody.
fn readable(others: &[(bool, Process)]) -> Result<(), ProcessError> {
    // What is open of root's says nothing of users'.
    let users = others.iter().any(|(user, _)| *user);
    let mut refused = Ok(());
    for (_, process) in others.iter().filter(|(user, _)| *user == users) {
        match process.open("mem") {
            Ok(_) => return Ok(()),
            Err(error) if error.is_gone() => {}
            Err(error) => refused = Err(error),
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_that_can_be_read_is_enough_and_one_that_is_gone_says_nothing() {
        let mut child = std::process::Command::new("sleep")
            .arg("9")
            .spawn()
            .unwrap();
        let open = Process::new(child.id());
        let gone = Process::new(u32::MAX);
        assert!(readable(&[(false, gone), (false, open)]).is_ok());
        assert!(readable(&[(true, gone)]).is_ok());
        assert!(readable(&[]).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!others(Path::new("/proc")).is_empty());
    }
}
