//! Programs that are started, as the process connector tells of them (`CN_IDX_PROC`): for kernels
//! that refuse BPF.
//!
//! It names a process by its number and no more (include/uapi/linux/cn_proc.h), for the whole node.
//! Whose it is and what it is called is read from `/proc`, at once, and still too late of a program
//! that ends at once: of 15,000 such the connector told all, and 9 % could be read. A miner stays.
//! It tells processes of the kernel's first network and pid namespaces only.

mod names;
mod reader;
mod wire;

pub use names::{Names, WORK, work};

use super::workers::Owner;
use names::ReadNames;
use reader::{Counts, Reader, Shared};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Matches that wait to be taken.
const MOST_WAITING: usize = 256;

/// Why the connector does not work here.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The kernel refused.
    #[error(
        "the process connector cannot be used ({attempt}; CAP_NET_ADMIN is needed, and the host's own network): {errno}"
    )]
    Refused {
        /// What was tried.
        attempt: &'static str,
        /// What it said.
        errno: nix::errno::Errno,
    },
    /// It says nothing to whoever is in another pid namespace.
    #[error(
        "the process connector does not answer: it speaks in the kernel's first pid namespace only, so \
         not in a container"
    )]
    NoAnswer,
    /// There is no room for a thread.
    #[error("the process connector needs a thread: {0}")]
    NoThread(#[from] std::io::Error),
}

/// A start whose name or arguments matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// The guarded server's cgroup id.
    pub cgroup: u64,
    /// The process.
    pub pid: u32,
    /// What matched.
    pub pattern: &'static str,
}

/// The connector, and the thread that reads it.
pub struct Connector {
    shared: Arc<Shared>,
    matched: Receiver<Matched>,
    thread: JoinHandle<()>,
}

impl Connector {
    /// Subscribes, and has each program that a guarded server starts read by `names`. What matches is
    /// told.
    ///
    /// # Errors
    /// This kernel, our rights or our namespaces do not allow it; the error says which.
    pub fn start(
        root: &Path,
        names: impl ReadNames + Send + 'static,
    ) -> Result<Connector, ConnectorError> {
        let socket = wire::Socket::subscribe()?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            guarded: Default::default(),
            counts: Default::default(),
            owners: Default::default(),
            held: Default::default(),
            end: event().map_err(std::io::Error::from)?,
            heard: event().map_err(std::io::Error::from)?,
        });
        let (tell, matched) = sync_channel(MOST_WAITING);
        let mut reader = Reader::new(socket, Arc::clone(&shared), tell, names);
        let thread = std::thread::Builder::new()
            .name("starts".into())
            .spawn(move || reader.read_until_the_end())?;
        Ok(Connector {
            shared,
            matched,
            thread,
        })
    }

    /// Whether its thread has not ended.
    pub fn runs(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Tells of just these servers: cgroup ids and directories.
    pub fn watch(&self, servers: &BTreeMap<u64, PathBuf>) {
        self.shared.watch(servers);
    }

    /// The user of each server.
    pub fn owned_by(&self, owners: BTreeMap<u64, Owner>) {
        self.shared.owned_by(owners);
    }

    /// Users that hold whoever reads their programs' arguments.
    pub fn held(&self) -> BTreeSet<Owner> {
        self.shared.held()
    }

    /// What matched since the last time, oldest first.
    pub fn read(&self) -> Vec<Matched> {
        let _ = rustix::io::read(&self.shared.heard, &mut [0; 8]);
        self.matched.try_iter().collect()
    }

    /// Starts that could not be read.
    pub fn missed(&self) -> Missed {
        let Counts { missed, .. } = self.shared.counts();
        missed
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.shared.end, &1u64.to_ne_bytes());
    }
}

impl AsFd for Connector {
    /// Readable when something matched.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.heard.as_fd()
    }
}

/// What came of reading a process that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It had ended.
    Gone,
    /// It is nothing to tell of.
    Nothing,
    /// This pattern matched.
    Pattern(&'static str),
}

/// Starts of guarded servers' programs that could not be read, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    /// They came faster than they are read: over 100 in a second of one server.
    pub too_fast: u64,
    /// They had ended before they were read; whose they were is not known any more.
    pub ended: u64,
    /// How often the kernel had to throw starts away. What goes on was looked at again each time.
    pub overflows: u64,
}

#[cfg(test)]
mod tests;
