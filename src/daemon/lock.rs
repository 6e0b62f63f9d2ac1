//! One daemon at a time.
//!
//! The lock is the kernel's (fcntl(2), `F_SETLK`): it ends with the process that holds it, however
//! that ends, and the kernel names the holder to whoever asks, so that `hubwarden off` finds a daemon
//! that hangs.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "lock";

/// Held for as long as the daemon runs.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

/// Why there can be no daemon.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one runs.
    #[error(
        "another hubwarden runs already (process {0}), and a node has one; see systemctl status \
         hubwarden"
    )]
    Held(i32),
    /// The file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl DaemonLock {
    /// Becomes the node's one daemon; `runtime` is `/run/hubwarden`, or what stands for it.
    ///
    /// # Errors
    /// Another one runs, or the file cannot be made.
    pub fn take(runtime: &Path) -> Result<DaemonLock, LockError> {
        let path = runtime.join(NAME);
        let io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(runtime)
            .map_err(io)?;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&path).map_err(io)?;
        if let Some(holder) = holder_of(&file) {
            return Err(LockError::Held(holder));
        }
        match fcntl(&file, FcntlArg::F_SETLK(&whole(F_WRLCK))) {
            Ok(_) => {}
            // Between the two questions another one came.
            Err(_) => return Err(LockError::Held(holder_of(&file).unwrap_or(0))),
        }
        // For people who look; the lock is what counts.
        let _ = file.write_all(format!("{}\n", std::process::id()).as_bytes());
        Ok(DaemonLock { _file: file })
    }

    /// The process that is the node's daemon, if there is one, whatever it does.
    pub fn holder(runtime: &Path) -> Option<i32> {
        holder_of(&File::options().write(true).open(runtime.join(NAME)).ok()?)
    }
}

fn holder_of(file: &File) -> Option<i32> {
    let mut asked = whole(F_WRLCK);
    fcntl(file, FcntlArg::F_GETLK(&mut asked)).ok()?;
    (i32::from(asked.l_type) != F_UNLCK).then_some(asked.l_pid)
}

/// A lock on the whole file.
fn whole(kind: i32) -> flock {
    flock {
        l_type: kind as i16,
        l_whence: SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn the_holder_of_the_lock_is_named_to_others_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(DaemonLock::holder(directory.path()), None);
        // A process's own lock never stands in its way, so another one holds it.
        let program = "import fcntl,os,sys;f=open(sys.argv[1],'w');fcntl.lockf(f,fcntl.LOCK_EX);\
                       print('held',flush=True);sys.stdin.read()";
        let mut holder = Command::new("python3")
            .args(["-c", program])
            .arg(directory.path().join(NAME))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let told = holder.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut line).unwrap();
        let pid = i32::try_from(holder.id()).unwrap();
        assert_eq!(DaemonLock::holder(directory.path()), Some(pid));
        let refused = DaemonLock::take(directory.path()).unwrap_err();
        assert!(
            matches!(refused, LockError::Held(by) if by == pid),
            "{refused}"
        );
        holder.kill().unwrap();
        holder.wait().unwrap();
        let _lock = DaemonLock::take(directory.path()).unwrap();
    }
}
