//! A process beside the daemon that holds the netlink socket which owns the table.
//!
//! Kernels from 5.12 to 6.8 let a table be owned, and take it away with the last descriptor of the
//! socket that made it (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`). So that the table
//! outlasts the daemon, the daemon gives a duplicate of its socket to a holder, which does nothing
//! else, before it makes the table; the next daemon, or `hubwarden off`, gets it back from there.
//!
//! The holder has one client at a time, so only one process writes with the socket: the others wait
//! until that one closes its connection or ends. It says at once what it holds (`held` with the
//! descriptor, or `none`); the client may then have it hold another instead (`hold` with a
//! descriptor), which it confirms (`done`).

mod link;
mod server;

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use link::HolderError;
use link::{Answer, Link};
pub use server::{Keeper, hold};

/// Where the holder listens.
pub const HOLDER: &str = "/run/hubwarden/table.sock";
/// A holder that has not answered by then is passed by.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that is not there, or was passed by, is asked again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// What a client has with the holder.
#[derive(Debug)]
pub(crate) struct Holder {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing, and why; asked again at that time.
    Apart(Option<HolderError>, Option<Instant>),
    /// What it holds is asked for since then.
    Asked(Link, Instant),
    /// It was given a socket then, and has not confirmed it.
    Given(Link, Instant),
    /// It holds this client's socket.
    Holding(Link),
}

/// What a step led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// It holds this client's socket.
    Holding,
    /// It has not answered yet.
    Waiting,
    /// It holds this, or nothing: [`Holder::agree`] or [`Holder::give`] is next.
    Has(Option<OwnedFd>),
    /// There is no holder, or none that can be used.
    Apart,
}

impl Holder {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: State::Apart(None, None),
        }
    }

    /// Whether it holds this client's socket, as far as was heard.
    pub fn is_holding(&self) -> bool {
        matches!(&self.state, State::Holding(link) if link.is_open())
    }

    /// Why it holds nothing, where that is known.
    pub fn trouble(&self) -> Option<&HolderError> {
        match &self.state {
            State::Apart(why, _) => why.as_ref(),
            _ => None,
        }
    }

    /// Goes on as far as is possible without waiting longer than this for the next answer.
    pub fn step(&mut self, wait: Duration) -> Step {
        let now = Instant::now();
        match &self.state {
            State::Holding(link) if link.is_open() => return Step::Holding,
            State::Holding(_) => self.state = State::Apart(None, None),
            State::Apart(..) | State::Asked(..) | State::Given(..) => {}
        }
        if let State::Apart(_, again) = &self.state {
            if again.is_some_and(|again| now < again) {
                return Step::Apart;
            }
            match Link::open(&self.path) {
                Ok(link) => self.state = State::Asked(link, now),
                Err(error) => return self.part(error),
            }
        }
        let (link, since) = match &self.state {
            State::Asked(link, since) | State::Given(link, since) => (link, *since),
            State::Apart(..) | State::Holding(_) => return Step::Apart,
        };
        match link.answer(wait) {
            Ok(None) if since.elapsed() < PATIENCE => Step::Waiting,
            Ok(None) => self.part(HolderError::Silent),
            Ok(Some(Answer::Has(socket))) => Step::Has(socket),
            Ok(Some(Answer::Done)) => self.agree(),
            Err(error) => self.part(error),
        }
    }

    /// What it holds is this client's socket.
    pub fn agree(&mut self) -> Step {
        let state = std::mem::replace(&mut self.state, State::Apart(None, None));
        if let State::Asked(link, _) | State::Given(link, _) = state {
            self.state = State::Holding(link);
        }
        Step::Holding
    }

    /// Has it hold this socket instead of what it holds.
    pub fn give(&mut self, socket: BorrowedFd<'_>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Apart(None, None));
        let State::Asked(link, _) = state else {
            return Step::Apart;
        };
        match link.give(socket) {
            Ok(()) => {
                self.state = State::Given(link, Instant::now());
                Step::Waiting
            }
            Err(error) => self.part(error),
        }
    }

    /// Has nothing to do with it for a while.
    pub fn part(&mut self, why: HolderError) -> Step {
        self.state = State::Apart(Some(why), Instant::now().checked_add(AGAIN));
        Step::Apart
    }
}
