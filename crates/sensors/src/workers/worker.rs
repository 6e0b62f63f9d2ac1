//! One worker: a process of our own that is given jobs and answers them, a line each.

use super::ServeError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One that was killed and does not end in this time is held by the kernel.
pub(super) const ENDS_IN: Duration = Duration::from_millis(100);
/// A line that was begun is there whole, or its writer is not what it should be.
const WHOLE_WITHIN: Duration = Duration::from_secs(5);

/// A process that is given jobs and answers them.
#[derive(Debug)]
pub struct Worker<J, A> {
    process: Child,
    line: BufReader<UnixStream>,
    kind: PhantomData<fn(J) -> A>,
    ended: bool,
}

impl<J: Serialize, A: DeserializeOwned> Worker<J, A> {
    /// Starts this program, which is to [`serve`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut program: Command) -> std::io::Result<Worker<J, A>> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(WHOLE_WITHIN))?;
        ours.set_write_timeout(Some(WHOLE_WITHIN))?;
        let process = program
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Worker {
            process,
            line: BufReader::new(ours),
            kind: PhantomData,
            ended: false,
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

    /// Readable when there is an answer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.line.get_ref().as_fd()
    }

    /// Its answer, which has begun.
    ///
    /// # Errors
    /// It has ended.
    fn answer(&mut self) -> std::io::Result<A> {
        // It writes a whole line, or nothing.
        let mut line = Vec::new();
        if self.line.read_until(b'\n', &mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// Its answer; `None` where there is none in this time.
    ///
    /// # Errors
    /// It has ended.
    pub fn answer_within(&mut self, patience: Duration) -> std::io::Result<Option<A>> {
        let patience = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut ready = [PollFd::new(self.line.get_ref(), PollFlags::IN)];
        // A signal to the daemon is no word of the worker's.
        match retry_on_intr(|| poll(&mut ready, Some(&patience)))? {
            0 => Ok(None),
            _ => self.answer().map(Some),
        }
    }
}

impl<J, A> Worker<J, A> {
    /// Ends it, once the kernel lets it.
    pub(super) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// Waits until it has ended, or until then.
    pub(super) fn end_by(&mut self, until: Instant) {
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(ENDS_IN / 20);
        }
        self.ended = true;
    }
}

impl<J, A> Drop for Worker<J, A> {
    /// One that is held by the kernel ends when it is let go; that is not waited for.
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            self.end_by(Instant::now() + ENDS_IN / 10);
        }
    }
}

/// The worker's side: answers what comes on standard input, until there is nobody any more.
///
/// # Errors
/// Standard input is no socket that jobs come by.
pub fn serve<J: DeserializeOwned, A: Serialize>(
    mut work: impl FnMut(J) -> A,
) -> Result<(), ServeError> {
    close_the_rest();
    give_up_capabilities().map_err(std::io::Error::from)?;
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

/// A worker reads what a hostile process made, and needs no power for that but to read (capset(2), which
/// holds for the calling thread: here there is no other yet).
fn give_up_capabilities() -> rustix::io::Result<()> {
    let needed = CapabilitySet::SYS_PTRACE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::CHECKPOINT_RESTORE;
    let CapabilitySets {
        permitted,
        effective,
        ..
    } = capabilities(None)?;
    let left = CapabilitySets {
        permitted: permitted & needed,
        effective: effective & needed,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, left)
}

/// A worker may outlive the daemon. What belongs to that must not: the socket that owns the packet
/// rules keeps them from the next one.
fn close_the_rest() {
    // SAFETY: called before this process has opened anything but standard input, output and error.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3, nix::libc::c_uint::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_keeps_what_reading_takes_and_no_other_power() {
        // Capabilities are a thread's.
        let left = std::thread::spawn(|| {
            give_up_capabilities().unwrap();
            capabilities(None).unwrap()
        });
        let left = left.join().unwrap();
        let had = capabilities(None).unwrap().permitted;
        let reading = CapabilitySet::SYS_PTRACE
            | CapabilitySet::DAC_READ_SEARCH
            | CapabilitySet::CHECKPOINT_RESTORE;
        assert_eq!(left.permitted, had & reading);
        assert_eq!(left.effective & !reading, CapabilitySet::empty());
        assert_eq!(left.inheritable, CapabilitySet::empty());
    }
}
