//! One helper: a process of our own that is given jobs and answers them, a line each.

use super::ServeError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One that was killed and does not end in this time is held by the kernel.
const ENDS_IN: Duration = Duration::from_millis(100);

/// A process that is given jobs and answers them.
#[derive(Debug)]
pub struct Helper<J, A> {
    process: Child,
    line: BufReader<UnixStream>,
    kind: PhantomData<fn(J) -> A>,
}

impl<J: Serialize, A: DeserializeOwned> Helper<J, A> {
    /// Starts this program, which is to [`serve`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut program: Command) -> std::io::Result<Helper<J, A>> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = program
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Helper {
            process,
            line: BufReader::new(ours),
            kind: PhantomData,
        })
    }

    /// Gives it a job; only to one that has answered the last.
    ///
    /// # Errors
    /// It has ended.
    pub fn give(&mut self, job: &J) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        self.line.get_mut().write_all(&line)
    }

    /// Its answer; `None` where there is none in this time. Without a time it is waited for.
    ///
    /// # Errors
    /// It has ended.
    pub fn answer(&mut self, patience: Option<Duration>) -> std::io::Result<Option<A>> {
        let patience = patience.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut ready = [PollFd::new(self.line.get_ref(), PollFlags::IN)];
        match poll(&mut ready, patience.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // Once it writes, it writes a whole line.
        let mut line = Vec::new();
        if self.line.read_until(b'\n', &mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

impl<J, A> Drop for Helper<J, A> {
    /// One that is held by the kernel ends when it is let go; that is not waited for.
    fn drop(&mut self) {
        let _ = self.process.kill();
        for _ in 0..20 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(ENDS_IN / 20);
        }
    }
}

/// The helper's side: answers what comes on standard input, until there is nobody any more.
///
/// # Errors
/// Standard input is no socket that jobs come by.
pub fn serve<J: DeserializeOwned, A: Serialize>(
    mut work: impl FnMut(J) -> A,
) -> Result<(), ServeError> {
    close_the_rest();
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut output = File::from(input.try_clone()?);
    for line in BufReader::new(File::from(input)).split(b'\n') {
        let job = serde_json::from_slice(&line?)?;
        let mut answer = serde_json::to_vec(&work(job))?;
        answer.push(b'\n');
        match output.write_all(&answer) {
            // It took so long that nobody waits any more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(())
}

/// A helper may outlive the daemon. What belongs to that must not: the socket that owns the packet
/// rules keeps them from the next one.
fn close_the_rest() {
    // SAFETY: called before this process has opened anything but standard input, output and error.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3, nix::libc::c_uint::MAX, 0);
    }
}
